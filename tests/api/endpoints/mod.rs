//! The endpoints, with valid requests and with malformed ones.

mod callers;
#[cfg(feature = "tracing")]
mod failures;
mod introspection;
mod server;
mod limits;
mod revocation;
mod secrets;
mod verification;
