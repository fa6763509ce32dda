//! HTTP endpoints over the tokens, as axum routers to nest wherever they fit.
//!
//! 1. [`oauth`]: `POST /introspect` (RFC 7662) and `POST /revoke` (RFC 7009), for services in any
//!    language.
//! 2. [`forward_auth`]: `/verify`, for a reverse proxy that asks before it passes a request on.
//! 3. [`management`]: the life of tokens over HTTP; [`stackstate`] and [`pipeops`]: the same for
//!    existing clients.
//! 4. Each takes the [`ServiceTokenLayer`](crate::ServiceTokenLayer) it is to check tokens with: its
//!    store, clock, realm, token format, audit sink and last uses. What a client gets refused here
//!    is refused as that layer refuses it.
//! 5. A [`FailureLimit`](crate::limits::FailureLimit) bounds what unknown tokens cost others. Routers
//!    use their layer's, or create one. Give the layer one, so that all share it.
//! 6. With the feature `tracing` each response with a 5xx status is one `ERROR` event of the target
//!    `tower_service_token`, with `status`, `code`, `error` (the causes), `endpoint`, `token_id` (the
//!    caller's), `client` (its address) and `request_id`: the header `X-Request-Id` of 1 to 128
//!    visible ASCII characters without a token, unless the current span has a field `request_id`.
//!    Such a response has [`FailureLogged`](crate::reject::FailureLogged) in its extensions. A refused
//!    escalation is one `INFO` event with its `reason`.
//!
//! ```
//! use axum::Router;
//! use tower_service_token::api::forward_auth::ForwardAuth;
//! use tower_service_token::api::oauth::OAuthEndpoints;
//! use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};
//!
//! let store = MemoryStore::new();
//! let layer = ServiceTokenLayer::new(store.clone());
//! let app: Router = Router::new()
//!     .merge(OAuthEndpoints::new(ServiceTokens::new(store), layer.clone()).into_router())
//!     .merge(ForwardAuth::new(layer).into_router());
//! ```
//!
//! Put none of them behind a `ServiceTokenLayer`: they read the credentials themselves. They set no
//! time limit and no limit on requests at a time; those belong around the whole app, and TLS in
//! front of it, as tokens travel in the clear otherwise.

mod body;
mod caller;
mod fields;
pub mod forward_auth;
mod inspector;
mod listing;
pub mod management;
pub mod oauth;
mod lifecycle_response;
mod path_segment;
pub mod pipeops;
mod request_log;
mod security_schemes;
pub mod stackstate;

pub use self::security_schemes::SecuritySchemes;
pub use crate::observe::request_id;
