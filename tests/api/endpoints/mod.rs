//! The endpoints, asked as their contract has it and as nobody should ask them.

mod callers;
#[cfg(feature = "tracing")]
mod failures;
mod introspection;
mod server;
mod limits;
mod revocation;
mod secrets;
mod verification;
