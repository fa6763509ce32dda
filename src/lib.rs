//! Tower middleware that authenticates headless clients by service tokens (API keys).
//!
//! CI jobs, agents and other services have no user account. [`ServiceTokenLayer`] protects a
//! service that they call: the token comes in by `Authorization: ApiKey …` or `X-API-Key: …`, is
//! looked up in a [`TokenStore`], compared by its SHA-256 in constant time, and a [`Principal`]
//! with roles and scopes lies in the request's extensions.
//!
//! The one idea: **a store finds, the layer decides.** A store hands back what is known about a
//! token; whether that is good enough is decided in [one function](store::verdict), for every
//! store.
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
//! println!("shown once: {}", token.expose_secret());
//!
//! let app: Router = Router::new()
//!     .route("/whoami", get(|caller: Principal| async move { caller.name().to_owned() }))
//!     .layer(ServiceTokenLayer::new(store));
//! # }
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to look
//!
//! | question | module |
//! |---|---|
//! | Is there a recipe for my task? | [`guide`] |
//! | What does the layer do, and in which order do layers belong? | [`middleware`] |
//! | Which headers are read, how strictly? | [`header`] |
//! | How are tokens created, rotated and revoked? | [`lifecycle`] |
//! | Where do tokens live? How do I keep them somewhere else? | [`store`] |
//! | How do I ask for roles and scopes? | [`authorize`] |
//! | What does a refused client get? How do I change that? | [`reject`] |
//! | What does a token look like? How do I import one? | [`token`], [`digest`] |
//! | How do services in other languages check a token? | [`api`] |
//! | Whose address counts behind a proxy? What may unknown tokens cost? | [`limits`] |
//! | How do I send a token? How do I manage tokens at a server? | [`client`] |
//! | How do I test expiry? | [`clock`] |
//!
//! # Features
//!
//! Features only add; none changes what another piece of code gets.
//!
//! - `api`: the [endpoints](api) by which services in any language check tokens (introspection,
//!   revocation, and forward authentication for reverse proxies), and by which tokens are managed, with their
//!   OpenAPI document. Includes `tokio`, and brings `axum` with its `tokio`, `base64`, `form_urlencoded`,
//!   `percent-encoding`, and `utoipa` with its macros.
//! - `axum` (default): extractors, and [`Rejection`](reject::Rejection) as a response. Brings
//!   `axum-core`, which axum users have anyway.
//! - `cli`: the command line tool `svctok`. Brings `clap` and all that the tool can work on: SQLite,
//!   PostgreSQL and file stores, and servers. It is for installing the tool, not for a library.
//! - `client`: [`AddServiceTokenLayer`](client::AddServiceTokenLayer), which adds a token to outgoing
//!   requests, and [`ServiceTokensClient`](client::ServiceTokensClient), which manages tokens at a
//!   server. Brings `tokio`, `hyper-util`, `form_urlencoded` and `arc-swap`, and a thread for each
//!   token file. With `rustls` it speaks `https`; without, only `http` to loopback, or by a transport
//!   of your own.
//! - `file`: [`FileStore`](store::FileStore), tokens from a TOML or JSON file of digests that is
//!   followed as it changes. Brings `arc-swap`, `hashbrown` and `toml`, and a thread for each file.
//! - `introspection`: [`IntrospectionStore`](store::IntrospectionStore), tokens checked at an
//!   authorization server. Brings `tokio`, `hyper-util` and `ring`, which compiles some C and assembly.
//!   With `rustls` it speaks `https`; without, only `http` to loopback, or by a transport of your own.
//! - `postgres`: [`PostgresStore`](store::PostgresStore). Brings `sqlx`, which needs Rust 1.94, and
//!   `tokio`. `rustls` encrypts its connections.
//! - `sqlite`: [`SqliteStore`](store::SqliteStore). Brings `sqlx`, which needs Rust 1.94 and compiles
//!   SQLite with a C compiler, and `tokio`.
//! - `testing`: the [conformance kit](testing::conformance) for stores, and
//!   [`FaultyStore`](testing::FaultyStore). Brings `tokio`.
//! - `tracing`: one event for each refusal, target `tower_service_token`, fields `reason`, `code`,
//!   `status`, `token_id` (only of a token whose secret was presented), `error` (only where the
//!   store or the setup is at fault), `client` (its [address](limits::ClientAddress)), `request_id` (a
//!   valid header `X-Request-Id`, unless the current span has a field of this name) and, with `api`,
//!   `endpoint` (the method and the route); level `ERROR` for 5xx, `INFO` for the rest. With `api`
//!   also one for each failed change and each list that broke off. A response whose failure was
//!   logged is [marked](reject::FailureLogged). Target
//!   `tower_service_token::audit` has the [audit events](store::TracingAuditSink), target
//!   `tower_service_token::rotation` one for each request with the secret from before a rotation.
//!   Costs nothing on other accepted requests.
//! - `metrics`: the counter `service_token_requests_total` and the histogram
//!   `service_token_check_seconds`, both by `outcome` (`accepted`, `anonymous` or a
//!   [reason](reject::RejectionReason::as_str)), and `service_token_guard_refusals_total` by
//!   `reason`, `service_token_previous_secret_uses_total`, and with `api`
//!   `service_token_answers_total` by `endpoint` (`introspect`, `revoke`, `verify`) and `outcome`.
//!   Costs two looks at the monotonic clock and two recorder calls for each request.
//! - `tokio`: [`CachedStore`](store::CachedStore), with counters of its own if `metrics` is on,
//!   [`FailureLimit`](limits::FailureLimit), and
//!   [`LastUsed::flush_every`](store::LastUsed::flush_every). Brings `tokio` (`rt`, `sync`, `time`)
//!   and `quick_cache`.
//!
//! # Public dependencies
//!
//! Types of these crates are part of this one's API: `http`, `tower-layer`, `tower` (its
//! `Service`), `async-trait` (its signatures), and with the features of these names, `axum-core` and
//! `sqlx` (its pools); with `api`, `axum` (its router) and `utoipa` (its documents); with
//! `introspection` or `client`, in the signature of a transport of your own, `bytes`, `http-body` and
//! `http-body-util`.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

// In the order in which a request passes through them; nothing flows back.
pub mod clock;
pub mod token;
pub mod digest;
pub mod principal;
pub mod header;
#[cfg(any(feature = "introspection", feature = "client"))]
mod transport;
pub mod store;
pub mod lifecycle;
pub mod limits;
pub mod reject;
mod observe;
pub mod middleware;
pub mod authorize;
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

/// The code in README.md, compiled and run.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;
