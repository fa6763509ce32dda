//! Ten million tokens in one [`MemoryStore`]: how long they take to load, the memory that they occupy,
//! and one accepted request, with tokens in random order.
//!
//! The ids are those of `scale`. A full run needs about 7 GiB of memory and is skipped if Linux reports
//! less than 8 GiB as available. Each record has a name and two roles.

#[path = "support/baseline.rs"]
mod baseline;
#[path = "support/case.rs"]
mod case;
#[path = "support/mode.rs"]
mod mode;
#[path = "support/request.rs"]
mod request;
#[path = "support/sizes.rs"]
mod sizes;
#[path = "support/tokens.rs"]
mod tokens;

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use benches::results::{Goal, Results, counted};
use criterion::Criterion;
use test_support::counting_allocator::{CountingAllocator, Counts};
use tower_service_token::MemoryStore;
use tower_service_token::token::MintedToken;

use self::sizes::Size;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const COUNT: usize = 10_000_000;
const COUNT_OF_A_TEST: usize = 1_000;
const NEEDED_GIB: u64 = 8;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let is_full_run = mode::is_full_run();
    if is_full_run && available_gib().is_some_and(|available| available < NEEDED_GIB) {
        println!("large skipped: less than {NEEDED_GIB} GiB of memory are available");
        return;
    }
    let count = if is_full_run { COUNT } else { COUNT_OF_A_TEST };
    let mut results = Results::new("large");
    let tokens: Arc<[_]> = tokens::mint(count).into();
    let mut size = Size::new(&tokens, load(&tokens, &mut results));
    size.bench(&mut criterion);
    criterion.final_summary();
    if is_full_run {
        size.measure(&mut results);
    }
    results.finish();
}

/// Inserts all tokens into a store, one by one.
fn load(tokens: &[MintedToken], results: &mut Results) -> MemoryStore {
    let before = Counts::of_this_thread().live_bytes;
    let started = Instant::now();
    let store = tokens::store(tokens);
    let elapsed = started.elapsed();
    let bytes = Counts::of_this_thread().live_bytes - before;
    let count = f64::from(u32::try_from(tokens.len()).expect("ten million"));
    let each = elapsed.as_secs_f64() * 1e6 / count;
    println!("loaded in {elapsed:.1?}, {each:.2} us per token");
    results.add(
        format!("seconds to load {}", counted(tokens.len(), "token")),
        elapsed.as_secs_f64(),
        Goal::None,
    );
    let ten_bytes = u32::try_from(bytes / 10).expect("some gigabytes");
    results.add(
        format!("bytes per token, of {}", counted(tokens.len(), "token")),
        f64::from(ten_bytes) * 10.0 / count,
        Goal::AtMost(256.0),
    );
    store
}

/// Returns the memory that Linux can give to a new program.
fn available_gib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / (1 << 20))
}
