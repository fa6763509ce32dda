//! The endpoints, with valid requests and with malformed ones.

mod callers;
#[cfg(feature = "tracing")]
mod failures;
mod introspection;
mod limits;
mod revocation;
mod secrets;
mod server;
mod verification;
