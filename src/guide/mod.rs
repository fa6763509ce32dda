//! Recipes, one page per task.
//!
//! | page | task |
//! |---|---|
//! | [`protect`] | protect axum routes, hyper and gRPC services; require roles and scopes |
//! | [`axum_routing`] | public routes, CORS, the caller in traces and access logs, a graceful shutdown |
//! | [`testing`] | test handlers as any caller; expiry, outages, and a store of your own |
//! | [`logins`] | let users with sessions or JWTs and service tokens call the same routes |
//! | [`users`] | let the users of an application manage their own tokens |
//! | [`rate_limits`] | limit the requests of each token; last-used times and counts |
//! | [`openapi`] | one OpenAPI document for a service and the management API; Swagger UI |
//! | [`streams`] | WebSocket and Server-Sent Events: open them with a ticket, end them with the token |
//! | [`grpc`] | protect a tonic server by method; send tokens with a tonic client |
//! | [`mcp`] | protect an MCP server; roles and scopes in its tools |
//! | [`stores`] | choose a store; write your own; use an authorization server |
//! | [`existing_table`] | authenticate against your own table of API keys; SHA-256 and bcrypt |
//! | [`caching`] | cache lookups; how soon a revocation takes effect |
//! | [`lifecycle`] | create, rotate and revoke tokens; policies; the audit trail |
//! | [`endpoints`] | let services in other languages check tokens; serve the management API |
//! | [`clients`] | send a token with any HTTP client; manage tokens over HTTP from Rust |
//! | [`svctok`] | run the token service; use the command line |
//! | [`existing_clients`] | StackState's `sts` and the PipeOps Go SDK |
//!
//! All Rust code on these pages compiles and runs as doc tests. The tests run the shell sessions
//! against the real `svctok`.
//!
//! # Examples
//!
//! The repository has complete programs. Run one with `cargo run --example NAME`, with the feature
//! that its first lines name.
//!
//! | example | shows |
//! |---|---|
//! | `quickstart` | an axum service, a token, and the `curl` commands that use it |
//! | `roles` | roles and scopes, as layers and in handlers; optional authentication |
//! | `custom_store` | a store over your own table |
//! | `custom_rejection` | rejections in your own format |
//! | `hyper_only` | a service without axum |
//! | `tonic` | a gRPC service with a requirement for each method |
//! | `mcp` | an MCP server whose tools require scopes |
//! | `rotation` | the life of a token, with two valid secrets for an hour |
//! | `file_store` | tokens from a file that is reloaded when it changes |
//! | `sqlite` | tokens that survive a restart; last-used times |
//! | `postgres` | two nodes, and how soon a revocation reaches the other |
//! | `introspection` | a service protected by an authorization server |
//! | `introspection_server` | `/introspect`, `/revoke` and `/verify` |
//! | `load` | the cost of the layer over loopback |

// A page is always in the documentation. Its code runs as a doc test where its features are enabled.

#[cfg_attr(any(not(doctest), feature = "axum"), doc = include_str!("protect.md"))]
pub mod protect {}

// The code of these pages runs in the package `tests`, which has the crates that they use.
#[cfg_attr(not(doctest), doc = include_str!("logins.md"))]
pub mod logins {}

#[cfg_attr(not(doctest), doc = include_str!("grpc.md"))]
pub mod grpc {}

#[cfg_attr(not(doctest), doc = include_str!("rate_limits.md"))]
pub mod rate_limits {}

#[cfg_attr(not(doctest), doc = include_str!("openapi.md"))]
pub mod openapi {}

#[cfg_attr(not(doctest), doc = include_str!("mcp.md"))]
pub mod mcp {}

#[cfg_attr(
    any(not(doctest), all(feature = "axum", feature = "tokio", feature = "tracing")),
    doc = include_str!("axum_routing.md")
)]
pub mod axum_routing {}

#[cfg_attr(
    any(
        not(doctest),
        all(feature = "file", feature = "introspection", feature = "postgres", feature = "sqlite")
    ),
    doc = include_str!("stores.md")
)]
pub mod stores {}

// Its code runs in the package `tests`, which has bcrypt and a database.
#[cfg_attr(not(doctest), doc = include_str!("existing_table.md"))]
pub mod existing_table {}

#[cfg_attr(any(not(doctest), feature = "tokio"), doc = include_str!("caching.md"))]
pub mod caching {}

#[cfg_attr(not(doctest), doc = include_str!("streams.md"))]
pub mod streams {}

#[doc = include_str!("lifecycle.md")]
pub mod lifecycle {}

#[cfg_attr(any(not(doctest), feature = "api"), doc = include_str!("endpoints.md"))]
pub mod endpoints {}

// Its code runs in the package `tests`, which has axum-login.
#[cfg_attr(not(doctest), doc = include_str!("users.md"))]
pub mod users {}

#[cfg_attr(
    any(not(doctest), all(feature = "api", feature = "client")),
    doc = include_str!("clients.md")
)]
pub mod clients {}

#[cfg_attr(
    any(not(doctest), all(feature = "axum", feature = "testing")),
    doc = include_str!("testing.md")
)]
pub mod testing {}

#[doc = include_str!("svctok.md")]
pub mod svctok {}

#[cfg_attr(any(not(doctest), feature = "api"), doc = include_str!("existing_clients.md"))]
pub mod existing_clients {}
