//! For tests: rules that every store must obey, and a store that fails on demand.
//!
//! [`conformance`] is for authors of a [`TokenStore`](crate::TokenStore) or a
//! [`TokenRegistry`](crate::registry::TokenRegistry); [`FaultyStore`] to test what happens when
//! theirs fails. A clock to turn by hand is [`ManualClock`](crate::clock::ManualClock).

pub mod conformance;
mod faulty;

pub use self::faulty::{Fault, FaultyStore};
