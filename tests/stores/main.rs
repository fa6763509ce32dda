//! Stores without a server: in memory, in a file and chained; conformance; last uses.
//!
//! `tests/cached`, `tests/introspection` and `tests/sql` have suites of their own.

mod chain_store;
#[cfg(feature = "testing")]
mod conformance;
#[cfg(feature = "testing")]
mod faulty_store;
#[cfg(feature = "file")]
mod file_store;
#[cfg(feature = "testing")]
mod last_used;
mod memory_store;

use test_support::counting_allocator::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;
