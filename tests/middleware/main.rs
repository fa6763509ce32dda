//! The layer: credential headers, the Tower service contract, guards, logs and metrics.
//!
//! 1. [Credential sources](credential_sources): reading credentials from headers.
//! 2. [Contract](contract): requests and the complete responses. [Service](service): readiness,
//!    clones, and stores that wait or fail.
//! 3. [Guards](guards): roles and scopes.
//! 4. [Observability](observe): events and metrics.
//! 5. [Ecosystem](ecosystem): the layer together with axum, hyper, tonic and tower-http.

mod contract;
mod credential_sources;
mod ecosystem;
mod guards;
#[cfg(all(feature = "tracing", feature = "metrics"))]
mod observe;
mod service;
