//! The layer: which headers it reads, its contract with Tower, its guards, and what it logs and counts.
//!
//! 1. [Credential sources](credential_sources): the headers of a request, and which are rejected.
//! 2. [Service](service) and [contract](contract): readiness, clones, and stores that wait or fail.
//! 3. [Guards](guards): roles and scopes.
//! 4. [Observe](observe): events and metrics.
//! 5. [Ecosystem](ecosystem): axum, hyper, tonic and tower-http around the layer.

mod contract;
mod credential_sources;
mod ecosystem;
mod guards;
#[cfg(all(feature = "tracing", feature = "metrics"))]
mod observe;
mod service;
