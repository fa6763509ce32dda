//! The endpoints, asked as their contract has it and as nobody should ask them.

mod callers;
#[cfg(all(feature = "metrics", feature = "tracing"))]
#[path = "../support/log.rs"]
mod log;
#[cfg(feature = "tracing")]
#[path = "../support/events.rs"]
mod events;
#[cfg(feature = "tracing")]
mod failures;
mod introspection;
mod server;
mod limits;
mod revocation;
mod secrets;
mod verification;
