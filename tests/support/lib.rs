//! Support that the suites of several packages share: processes, servers, trials and counters.
//!
//! Modules that only some suites need are behind features, so that other suites do not compile
//! their dependencies.

#![expect(
    missing_docs,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    reason = "test code panics where a test fails, and is read beside its callers"
)]

#[cfg(all(feature = "introspection", feature = "rustls"))]
pub mod authorization_server;
#[cfg(feature = "certificates")]
pub mod certificates;
pub mod counting_allocator;
pub mod optional_trial;
pub mod port;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod process;
pub mod stall;
pub mod trials;
