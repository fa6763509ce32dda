//! Clients: the layer that adds a token to outgoing requests, and the client of the management API.

#[cfg(feature = "axum")]
mod grpc_channel;
#[cfg(feature = "axum")]
mod outgoing_requests;
#[cfg(feature = "axum")]
mod token_text;
#[cfg(all(feature = "api", feature = "testing"))]
mod service_tokens_client;
