//! `IntrospectionStore` against hostile authorization servers, each rule of its behaviour a test.
//!
//! Two servers of our own stand in for a real one: an [`upstream`] in this process, on a clock
//! turned by hand, and a [`raw_server`] of real sockets whose bytes are written one by one.
//!
//! 1. [Outcomes](outcomes): what each answer means to the caller.
//! 2. [Responses](responses): what is read out of one, and what is refused to be read.
//! 3. [Rules](rules) that an active token must pass, at every request.
//! 4. [Requests](requests): what is asked, and what is refused before anybody is asked.
//! 5. [Cache](cache): how long, how much, and what is never remembered.
//! 6. [Lookups](shared_lookups) are shared, outlive their requests, fail, panic and run out.
//! 7. [Breaker](breaker): who can open it, and who cannot.
//! 8. [Stale](stale) answers, when they are asked for.
//! 9. [Sockets](sockets): what a hostile server can do with bytes and with time.
//! 10. [Connections](connections) that are refused, closed, reused and dropped.
//! 11. [Secrets](secrets) and meters: what is shown and counted.
//! 12. Differential: our own endpoints and the store behind them say the same.

mod responses;
mod breaker;
mod connections;
#[cfg(all(feature = "api", feature = "sqlite"))]
mod differential;
mod shared_lookups;
mod cache;
#[cfg(feature = "metrics")]
mod metrics;
mod protected_service;
mod outcomes;
mod requests;
mod rules;
mod secrets;
mod sockets;
mod stale;
mod upstream;
mod raw_server;

use test_support::counting_allocator::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;
