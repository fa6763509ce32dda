//! Support that the suites of this package share: logs, API fixtures, and tests that run on any
//! store.
//!
//! Support that suites of other packages use, too, is in `test-support`.

#![expect(
    missing_docs,
    clippy::missing_panics_doc,
    reason = "test code panics where a test fails, and is read beside its callers"
)]

#[cfg(feature = "api")]
pub mod api_fixture;
pub mod capture;
pub mod events;
#[cfg(feature = "postgres")]
pub mod existing_table;
pub mod global_subscriber;
pub mod log;
pub mod operations;
pub mod owners;
pub mod pause_point;
pub mod tenants;
pub mod time_steps;

/// The pages of the guide whose code needs dependencies that the library does not have. They run as
/// doc tests.
#[cfg(doctest)]
mod guide {
    #[cfg(feature = "api")]
    #[doc = include_str!("../../src/guide/logins.md")]
    mod logins {}

    #[cfg(feature = "client")]
    #[doc = include_str!("../../src/guide/grpc.md")]
    mod grpc {}

    #[cfg(all(feature = "axum", feature = "postgres"))]
    #[doc = include_str!("../../src/guide/existing_table.md")]
    mod existing_table {}

    #[cfg(feature = "api")]
    #[doc = include_str!("../../src/guide/users.md")]
    mod users {}

    #[cfg(all(feature = "api", feature = "metrics"))]
    #[doc = include_str!("../../src/guide/rate_limits.md")]
    mod rate_limits {}

    #[cfg(feature = "api")]
    #[doc = include_str!("../../src/guide/openapi.md")]
    mod openapi {}

    #[cfg(all(feature = "axum", feature = "tokio"))]
    #[doc = include_str!("../../src/guide/streams.md")]
    mod streams {}

    #[cfg(feature = "api")]
    #[doc = include_str!("../../src/guide/mcp.md")]
    mod mcp {}
}
