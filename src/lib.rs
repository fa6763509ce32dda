//! Tower middleware that authenticates headless clients by service tokens (API keys).
//!
//! CI jobs, agents and other services have no user account. [`ServiceTokenLayer`] protects a service
//! that they call. It reads the token from `Authorization: ApiKey …` or `X-API-Key: …`, looks it up
//! in a [`TokenStore`], compares its SHA-256 in constant time, and inserts a [`Principal`] with roles
//! and scopes into the request's extensions.
//!
//! **A store finds, the layer decides.** A store returns the record of a token. [One
//! function](store::verdict) decides for every store whether the token is accepted.
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, routing::get};
//! use tower_service_token::store::TokenRecord;
//! use tower_service_token::token::TokenFormat;
//! use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer};
//!
//! let store = MemoryStore::new();
//! let token = TokenFormat::default().mint()?;
//! store.insert(TokenRecord::from(&token).with_name("ci").with_roles(["deployer"]))?;
//! println!("new token: {}", token.expose_secret());
//!
//! let app: Router = Router::new()
//!     .route("/whoami", get(|caller: Principal| async move { caller.name().to_owned() }))
//!     .route_layer(ServiceTokenLayer::new(store));
//! # }
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Modules
//!
//! | topic | module |
//! |---|---|
//! | recipes for tasks | [`guide`] |
//! | the layer and the order of layers | [`middleware`] |
//! | headers that are read, and their syntax | [`header`] |
//! | creating, rotating and revoking tokens | [`lifecycle`] |
//! | stores, and how to write one | [`store`], [`registry`] |
//! | checking tokens at an authorization server | [`introspection`] |
//! | audit events | [`audit`] |
//! | the caller: roles, scopes, requirements | [`principal`] |
//! | requiring roles and scopes | [`authorize`] |
//! | WebSocket and Server-Sent Events: tickets, streams that end with their token | [`streams`], [`guide::streams`] |
//! | responses to rejected requests, gRPC services | [`reject`] |
//! | the text of tokens, importing tokens | [`token`], [`digest`] |
//! | HTTP endpoints for services in other languages | [`api`] |
//! | security schemes for the OpenAPI document of your own API | [`openapi`] |
//! | client addresses behind proxies, limits for unknown tokens | [`limits`] |
//! | sending tokens, managing tokens of a server | [`client`] |
//! | the scheme, host and port of a URL | [`origin`] |
//! | the JSON of the management API | [`wire`] |
//! | testing handlers, expiry and outages | [`guide::testing`], [`clock`], [`testing`] |
//!
//! # Features
//!
//! Features are additive: enabling one never changes the behaviour of other code.
//!
//! - `api`: [endpoints](api) by which services in any language check tokens (introspection,
//!   revocation, and forward authentication for reverse proxies) and by which tokens are managed, with
//!   their OpenAPI document. Includes `tokio` and `openapi`. Adds `axum` with its `tokio`, `base64`,
//!   `form_urlencoded` and `percent-encoding`.
//! - `axum` (default): extractors, and [`Rejection`](reject::Rejection) as a response. Adds
//!   `axum-core`, which axum users have anyway.
//! - `cli`: the command line tool `svctok`, with all stores and servers that it works on. Adds `clap`
//!   and more. It is for installing the tool, not for use as a library.
//! - `client`: [`AddServiceTokenLayer`](client::AddServiceTokenLayer), which adds a token to outgoing
//!   requests, and [`ServiceTokensClient`](client::ServiceTokensClient), which manages tokens of a
//!   server. Adds `tokio`, `hyper-util`, `form_urlencoded`, `arc-swap` and `unicode-properties`, and a
//!   thread for each token file. It connects by `https` with `rustls`; without, only by `http` to
//!   loopback, or through a transport of your own.
//! - `file`: [`FileStore`](store::file::FileStore), tokens from a TOML or JSON file of digests that is
//!   reloaded when it changes. Adds `arc-swap`, `hashbrown` and `toml`, and a thread for each file.
//! - `introspection`: [`IntrospectionStore`](introspection::IntrospectionStore), tokens checked at an
//!   authorization server. Adds `tokio`, `hyper-util` and `ring`, which compiles C and assembly. It
//!   connects by `https` with `rustls`; without, only by `http` to loopback, or through a transport of
//!   your own.
//! - `openapi`: the [security schemes](openapi) of a layer, for the OpenAPI document of your own API.
//!   Adds `utoipa` with its macros.
//! - `postgres`: [`PostgresStore`](store::sql::PostgresStore). Adds `sqlx`, which needs Rust 1.94, and
//!   `tokio`. `rustls` encrypts its connections.
//! - `sqlite`: [`SqliteStore`](store::sql::SqliteStore). Adds `sqlx`, which needs Rust 1.94 and
//!   compiles SQLite with a C compiler, and `tokio`.
//! - `testing`: for tests of handlers, a [principal](testing::principal()), requests with a caller
//!   ([`authenticated`](testing::authenticated)) or without one ([`anonymous`](testing::anonymous)), and
//!   [`SetCallerLayer`](testing::SetCallerLayer) for whole routers; the [conformance
//!   suite](testing::conformance) for stores, and [`FaultyStore`](testing::FaultyStore). Adds `tokio`.
//!   Enable it only in `[dev-dependencies]`.
//! - `tracing`: one event for each rejection, target `tower_service_token`, with the fields `reason`,
//!   `code`, `status`, `token_id` (the [displayed](store::TokenRecord::display_id) id, only of a token whose secret was
//!   presented), `error` (only if the
//!   store, the setup or a limit of [`streams`] is the cause), `client` (its [address](limits::ClientAddress)), `request_id` (a
//!   valid header `X-Request-Id`, unless the current span has a field of this name) and, with `api`,
//!   `endpoint` (the method and the route). The level is `ERROR` for 5xx and `INFO` for the rest. With
//!   `api` it also logs failed changes and lists that broke off. A response whose failure was logged is
//!   [marked](reject::FailureLogged). The target `tower_service_token::audit` has the [audit
//!   events](audit::TracingAuditSink), the target `tower_service_token::rotation` one event for each
//!   request with a previous secret. Accepted requests with the current secret are not logged. If the
//!   current span declares the fields `token_id` and `token_name`, the layer records the caller there:
//!   the id also of a rejected token whose secret was presented. Adds `unicode-properties`.
//! - `metrics`: the counter `service_token_requests_total` by `outcome` (`accepted`, `identity`,
//!   `anonymous` or a [reason](reject::RejectionReason::as_str)), the histogram
//!   `service_token_lookup_seconds` of requests that wait for a lookup or the redemption of a ticket, by the
//!   same `outcome`, and `service_token_guard_rejections_total` (also of
//!   [`Tickets::issue`](streams::Tickets::issue) and
//!   [`PrincipalWatcher::watch`](streams::PrincipalWatcher::watch)) by `reason`,
//!   `service_token_previous_secret_uses_total`, and with `api`
//!   `service_token_endpoint_responses_total` by `endpoint` (`introspect`, `revoke`, `verify`) and
//!   `outcome`. Install the recorder before the first request: a layer keeps its counters.
//! - `tokio`: [`CachedStore`](store::CachedStore), with its own counters if `metrics` is on,
//!   [`FailureLimit`](limits::FailureLimit), [`streams`], and
//!   [`LastUsed::flush_every`](registry::LastUsed::flush_every). Adds `tokio` (`rt`, `sync`, `time`),
//!   `quick_cache` and `percent-encoding`.
//!
//! # Public dependencies
//!
//! Types of these crates are part of this one's API: `http`, `tower-layer`, `tower` (its
//! `Service`), `async-trait` (its signatures, and the [attribute](macro@async_trait)), `serde` (its traits),
//! and with the features of these names, `axum-core` and
//! `sqlx` (its pools); with `api`, `axum` (its router); with `openapi`, `utoipa` (its documents); with
//! `introspection` or `client`, in the signature of a transport of your own, `bytes`, `http-body` and
//! `http-body-util`.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

// In the order in which a request passes through them: a module uses only modules before it. Stores
// that implement `TokenRegistry` stay below `store` and come after `registry`.
pub mod clock;
#[cfg(any(feature = "cli", feature = "sqlite"))]
#[cfg_attr(
    not(feature = "cli"),
    expect(unreachable_pub, reason = "`internal` exports it for `svctok`")
)]
mod private_file;
#[cfg_attr(
    not(feature = "cli"),
    expect(unreachable_pub, reason = "`internal` exports it for `svctok`")
)]
mod text;
mod counter;
pub mod token;
pub mod digest;
pub mod principal;
pub mod header;
#[cfg(any(feature = "api", feature = "client", feature = "introspection"))]
mod media_type;
mod unique_json;
#[cfg(any(feature = "introspection", feature = "client"))]
mod transport;
pub mod store;
#[cfg(feature = "tokio")]
mod single_flight;
#[cfg(feature = "introspection")]
pub mod introspection;
pub mod audit;
pub mod registry;
#[cfg(feature = "tokio")]
mod ticket_store;
pub mod lifecycle;
pub mod wire;
pub mod limits;
#[cfg(any(feature = "api", feature = "client"))]
pub mod origin;
pub mod reject;
mod observe;
pub mod middleware;
pub mod authorize;
#[cfg(feature = "openapi")]
pub mod openapi;
#[cfg(feature = "tokio")]
pub mod streams;
#[cfg(feature = "api")]
pub mod api;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(doc)]
pub mod guide;

pub use self::lifecycle::ServiceTokens;
pub use self::middleware::ServiceTokenLayer;
pub use self::principal::Principal;
pub use self::store::{MemoryStore, TokenStore};

/// The attribute of an `impl` of [`TokenStore`], [`TokenRegistry`](registry::TokenRegistry) or
/// [`LastUsedStore`](registry::LastUsedStore), re-exported from the crate `async-trait`.
pub use async_trait::async_trait;

/// What the binary `svctok`, a crate of its own, shares with this one. Not part of the public API.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod internal {
    pub use crate::api::body::{problem_response, with_json};
    pub use crate::clock::date_time::{
        ParseDateTimeError, format as format_time, has_later_year, parse_start,
    };
    pub use crate::clock::duration::{ParseDurationError, parse_duration};
    pub use crate::private_file::{create_private_file, open_private_file};
    pub use crate::text::{ErrorChain, escape_invisible, redact_tokens};
    pub use crate::token::id::parse_decimal;
    pub use crate::token::text::{TokenTextError, read_token, token_in};
}

/// The code in README.md, compiled and run.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;
