//! `IntrospectionStore` against hostile authorization servers, with a test for each rule.
//!
//! Two servers replace a real one: an [`upstream`] in this process with a manual clock, and a
//! [`raw_server`] with real sockets that writes byte by byte.
//!
//! 1. [Outcomes](outcomes): the status for each response of the server.
//! 2. [Responses](responses): how one is parsed, and what is malformed.
//! 3. [Rules](rules) that an active token must meet, at every request.
//! 4. [Requests](requests): what is sent, and what is rejected without a call.
//! 5. [Cache](cache): how long, how many, and what is never cached.
//! 6. [Lookups](shared_lookups) are shared, outlive their requests, fail, panic and are limited.
//! 7. [Breaker](breaker): what opens it, and what does not.
//! 8. [Stale](stale) entries, if enabled.
//! 9. [Sockets](sockets): what a hostile server can do with bytes and with time.
//! 10. [Connections](connections) that are refused, closed, reused and dropped.
//! 11. [Secrets](secrets) and metrics: what is logged and counted.
//! 12. Differential: our own endpoints and the store behind them give the same results.

mod breaker;
mod cache;
mod connections;
#[cfg(all(feature = "api", feature = "sqlite"))]
mod differential;
#[cfg(feature = "metrics")]
mod metrics;
mod outcomes;
mod protected_service;
mod raw_server;
mod requests;
mod responses;
mod rules;
mod secrets;
mod shared_lookups;
mod sockets;
mod stale;
mod upstream;

use test_support::counting_allocator::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;
