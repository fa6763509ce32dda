//! For tests: authenticated requests, a conformance suite for stores, and a store that fails on demand.
//!
//! [`principal`] builds the caller of a request, [`authenticated`] inserts it into one request, and
//! [`AuthenticatedLayer`] into every request of a router. Enable the feature `testing` only in
//! `[dev-dependencies]`: without it, only a valid token makes a request authenticated.
//!
//! [`conformance`] is for authors of a [`TokenStore`](crate::TokenStore) or a
//! [`TokenRegistry`](crate::registry::TokenRegistry). [`FaultyStore`] tests how an application
//! behaves when its store fails. [`ManualClock`](crate::clock::ManualClock) is a clock that a test
//! advances.

mod authenticated;
pub mod conformance;
mod faulty;
mod principal;

pub use self::authenticated::{Authenticated, AuthenticatedLayer};
pub use self::faulty::{Fault, FaultyStore};
pub use self::principal::{PrincipalBuilder, authenticated, principal};
