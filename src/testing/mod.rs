//! For tests: a conformance suite for stores, and a store that fails on demand.
//!
//! [`conformance`] is for authors of a [`TokenStore`](crate::TokenStore) or a
//! [`TokenRegistry`](crate::registry::TokenRegistry). [`FaultyStore`] tests how an application
//! behaves when its store fails. [`ManualClock`](crate::clock::ManualClock) is a clock that a test
//! advances.

pub mod conformance;
mod faulty;

pub use self::faulty::{Fault, FaultyStore};
