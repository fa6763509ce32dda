//! HTTP endpoints for tokens, as axum routers.
//!
//! 1. [`oauth`]: `POST /introspect` (RFC 7662) and `POST /revoke` (RFC 7009), for services in any
//!    language.
//! 2. [`forward_auth`]: `/verify`, for the authentication subrequests of reverse proxies.
//! 3. [`management`]: creates, lists, updates, rotates and revokes tokens. [`stackstate`] and
//!    [`pipeops`] do the same for existing clients.
//! 4. Each router takes the [`ServiceTokenLayer`](crate::ServiceTokenLayer) that checks its callers,
//!    and uses its store, clock, realm, token format, audit sink and last-used times. Its rejections
//!    are those of the layer.
//! 5. A [`FailureLimit`](crate::limits::FailureLimit) bounds the cost of unknown tokens. A router uses
//!    that of its layer, or creates one. Set it on the layer, so that all routers share it.
//! 6. With the feature `tracing`, each response with a 5xx status is one `ERROR` event with the target
//!    `tower_service_token` and the fields `status`, `code`, `error` (the causes), `endpoint`,
//!    `token_id` (of the caller), `client` (its address) and `request_id`: the header `X-Request-Id`
//!    if it is 1 to 128 visible ASCII characters and not a token, unless the current span has a field
//!    `request_id`. Such a response has [`FailureLogged`](crate::reject::FailureLogged) in its
//!    extensions. A denied escalation is one `INFO` event with its `reason`.
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
//! Do not put them behind a `ServiceTokenLayer`: they read the credentials themselves. They set no
//! timeout and no concurrency limit; add those to the whole app. Put TLS in front of it, because
//! tokens are sent in clear text otherwise.

mod actor;
#[cfg_attr(
    not(feature = "cli"),
    expect(unreachable_pub, reason = "`internal` exports it for `svctok`")
)]
pub(crate) mod body;
mod caller;
mod entity_tag;
mod error;
pub mod forward_auth;
mod guard;
mod inspector;
mod listing;
pub mod management;
pub mod oauth;
pub mod pipeops;
mod request_log;
pub mod stackstate;
mod state;

pub use crate::observe::request_id;
