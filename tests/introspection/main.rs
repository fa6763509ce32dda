//! `IntrospectionStore` against hostile authorization servers, with a test for each rule.
//!
//! Two test servers replace a real one: [`upstream`] runs in this process with a manual clock,
//! and [`raw_server`] writes scripted bytes to real sockets.
//!
//! 1. [Outcomes](outcomes): the status of the request for each response of the server.
//! 2. [Responses](responses): parsing, and malformed responses.
//! 3. [Rules](rules) that an active token must meet on every request.
//! 4. [Requests](requests) to the server, and tokens that are rejected without a call.
//! 5. [Cache](cache): TTLs, capacities, and responses that are never cached.
//! 6. [Shared lookups](shared_lookups): concurrency, cancellation, deadlines, panics and limits.
//! 7. [Circuit breaker](breaker): failures that open it, and failures that do not.
//! 8. [Stale entries](stale), if enabled.
//! 9. [Sockets](sockets): slow, endless and malformed responses as bytes.
//! 10. [Connections](connections): refused, closed, reused and dropped.
//! 11. [Secrets](secrets) in errors and logs, and metrics.
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
