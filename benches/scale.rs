//! One accepted request with 1 to 1,000,000 tokens, sent in random order; writes with a million tokens.
//!
//! Ids: `bare_with_principal` (no authentication, inserts an identity), `floor` (the least possible
//! authentication by digest, see `support/baseline.rs`) and `memory` (`MemoryStore`, cache headers
//! off).
//!
//! A run prints the ratio and its goal for each size. With a million tokens it also prints how long a
//! loop takes to insert them, the time of a write, and the bytes that the tokens occupy in the store and
//! in the floor: records with a name, two roles and an expiry. The counting allocator slows every case by
//! the same few nanoseconds.

#[path = "support/baseline.rs"]
mod baseline;
#[path = "support/case.rs"]
mod case;
#[path = "support/expiring.rs"]
mod expiring;
#[path = "support/mode.rs"]
mod mode;
#[path = "support/request.rs"]
mod request;
#[path = "support/sizes.rs"]
mod sizes;
#[path = "support/tokens.rs"]
mod tokens;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use benches::results::{Goal, Results};
use criterion::Criterion;
use test_support::counting_allocator::{CountingAllocator, Counts};
use tower_service_token::token::MintedToken;

use self::baseline::Floor;
use self::expiring::store_with_expiry;
use self::sizes::Size;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const MILLION: usize = 1_000_000;
const WRITES: usize = 10_000;
const GOAL_IN_BYTES: f64 = 256.0;

/// The goal of a write with a million tokens.
const GOAL_IN_MICROSECONDS: f64 = 100.0;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let counts: &[usize] = if mode::is_full_run() {
        &[1, 100, 1_000, 10_000, MILLION]
    } else {
        &[100]
    };
    let mut results = Results::new("scale");
    for &count in counts {
        let tokens: Arc<[_]> = tokens::mint(count).into();
        if count == MILLION {
            print_weights(&tokens, &mut results);
        }
        let mut size = Size::new(&tokens, tokens::store(&tokens));
        size.bench(&mut criterion);
        if count == MILLION {
            print_writes(&tokens, &mut results);
        }
        if mode::is_full_run() {
            size.measure(&mut results);
        }
    }
    criterion.final_summary();
    results.finish();
}

fn print_weights(tokens: &[MintedToken], results: &mut Results) {
    let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
    let memory = bytes_per_token(|| store_with_expiry(tokens, in_an_hour));
    let floor = bytes_per_token(|| Floor::new(tokens));
    println!(
        "bytes per token: memory {memory:.0} (goal <= {GOAL_IN_BYTES}), floor {floor:.0}, \
         which has no expiry, no index by id and one map"
    );
    results.add(
        "bytes per token, of a million",
        memory,
        Goal::AtMost(GOAL_IN_BYTES),
    );
}

fn bytes_per_token<T>(build: impl FnOnce() -> T) -> f64 {
    let before = Counts::of_this_thread().live_bytes;
    let value = build();
    let bytes = Counts::of_this_thread().live_bytes - before;
    drop(value);
    let bytes = u32::try_from(bytes).expect("some hundred megabytes");
    f64::from(bytes) / 1e6
}

fn print_writes(tokens: &[MintedToken], results: &mut Results) {
    let (known, new) = tokens.split_at(MILLION - WRITES);
    let start = Instant::now();
    let store = tokens::store(known);
    println!("{} insertions: {:.1?}", known.len(), start.elapsed());
    let changed = || known.iter().step_by(known.len() / WRITES);
    print_write("insertion", new.iter(), results, |token| {
        let inserted = store.insert(tokens::record(token, 0));
        inserted.expect("minted tokens are different");
    });
    print_write("revocation", changed(), results, |token| {
        store.revoke(token.id()).expect("a known token");
    });
    print_write("removal", changed(), results, |token| {
        store.remove(token.id()).expect("a known token");
    });
}

fn print_write<'t>(
    name: &str,
    tokens: impl Iterator<Item = &'t MintedToken>,
    results: &mut Results,
    write: impl Fn(&MintedToken),
) {
    let time_of = |token| {
        let start = Instant::now();
        write(token);
        start.elapsed()
    };
    let mut times: Vec<Duration> = tokens.map(time_of).collect();
    times.sort_unstable();
    let quantile = |permille| times[(times.len() - 1) * permille / 1_000];
    println!(
        "{name}, of a million tokens: longest {:.1?}",
        quantile(1_000)
    );
    for (quantile_name, time) in [("median", quantile(500)), ("99.9 %", quantile(999))] {
        let micros = time.as_secs_f64() * 1e6;
        println!("{name}, {quantile_name} {micros:.1} µs (goal <= {GOAL_IN_MICROSECONDS} µs)");
        results.add(
            format!("microseconds of a write with a million tokens: {name}, {quantile_name}"),
            micros,
            Goal::AtMost(GOAL_IN_MICROSECONDS),
        );
    }
}
