//! The layer: credential headers, the Tower service contract, guards, logs and metrics.
//!
//! 1. [Credential sources](credential_sources): reading credentials from headers.
//! 2. [Contract](contract): requests and the complete responses. [Service](service): readiness,
//!    clones, and stores that wait or fail.
//! 3. [Guards](guards): roles and scopes; [gRPC methods](grpc_methods) in one table.
//! 4. [Identities](identities): callers that the application authenticated.
//! 5. [Observability](observe): events and metrics.
//! 6. [Caller](caller): the caller in the current span and in the response.
//! 7. [Test principals](test_principals): callers of handlers without a token.
//! 8. [Displayed ids](displayed_ids): ids and data of a table of one's own.
//! 9. [Ecosystem](ecosystem): the layer together with axum, hyper, tonic, tower-http, sessions and JWTs.

mod caller;
mod contract;
mod credential_sources;
mod displayed_ids;
mod ecosystem;
mod grpc_methods;
mod guards;
mod identities;
#[cfg(all(feature = "tracing", feature = "metrics"))]
mod observe;
mod service;
#[cfg(feature = "testing")]
mod test_principals;
