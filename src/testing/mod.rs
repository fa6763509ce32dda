//! For tests: authenticated requests, a conformance suite for stores, and a store that fails on demand.
//!
//! [`principal`] builds the caller of a request. [`authenticated`] inserts it, or an
//! [`Identity`](crate::principal::Identity), into one request, and [`SetCallerLayer`] into every
//! request of a router. [`anonymous`] marks a request without a caller. Enable the feature `testing` only
//! in `[dev-dependencies]`: without it, only a `ServiceTokenLayer` makes a request authenticated.
//!
//! [`conformance`] is for authors of a [`TokenStore`](crate::TokenStore) or a
//! [`TokenRegistry`](crate::registry::TokenRegistry). [`FaultyStore`] tests how an application
//! behaves when its store fails. [`ManualClock`](crate::clock::ManualClock) is a clock that a test
//! advances.

pub mod conformance;
mod faulty;
mod principal;
mod request;
mod set_caller;

pub use self::faulty::{Fault, FaultyStore};
pub use self::principal::{PrincipalBuilder, principal};
pub use self::request::{anonymous, authenticated};
pub use self::set_caller::{SetCaller, SetCallerLayer};
