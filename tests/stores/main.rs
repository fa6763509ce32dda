//! The memory store, file store and chain store, the conformance suite, and times of last use.
//!
//! `tests/cached`, `tests/introspection` and `tests/sql` test the other stores.

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
