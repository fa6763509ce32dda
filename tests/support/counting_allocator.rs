//! A global allocator that counts allocations per thread, so that concurrent tests do not disturb
//! each other.
//!
//! A suite that counts allocations declares a [`CountingAllocator`] as its `#[global_allocator]`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Constant initializers without a destructor, because counting must not allocate.
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { allocations: 0, live_bytes: 0 }) };
}

/// The allocations of a thread so far.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Allocated blocks, including grown and shrunk ones.
    pub allocations: u64,
    /// Allocated bytes minus freed ones. Negative on a thread that frees the allocations of others.
    pub live_bytes: isize,
}

impl Counts {
    pub fn of_this_thread() -> Self {
        COUNTS.get()
    }
}

/// The system allocator with counters.
pub struct CountingAllocator;

#[expect(unsafe_code, reason = "`GlobalAlloc` is an unsafe trait")]
// SAFETY: every call is passed to `System` unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size(), 0);
        // SAFETY: the caller keeps the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size(), 0);
        // SAFETY: the caller keeps the same contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size, layout.size());
        // SAFETY: the caller keeps the same contract.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, 0, layout.size());
        // SAFETY: the caller keeps the same contract.
        unsafe { System.dealloc(block, layout) }
    }
}

fn count(allocations: u64, gained: usize, lost: usize) {
    let mut counts = COUNTS.get();
    counts.allocations += allocations;
    // No layout is larger than `isize::MAX`.
    counts.live_bytes += gained.cast_signed() - lost.cast_signed();
    COUNTS.set(counts);
}
