//! Introspection, revocation and forward authentication.

mod callers;
mod displayed_ids;
#[cfg(feature = "tracing")]
mod failures;
mod introspection;
mod limits;
mod revocation;
mod secrets;
mod server;
mod verification;
