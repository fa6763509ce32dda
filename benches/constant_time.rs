//! Tests whether the time to compare two digests depends on where they differ.
//!
//! The method is dudect's (Reparaz, Balasch, Verbauwhede: "dude, is my code constant time?", 2016):
//! it times comparisons of two classes of inputs in random order, drops the slowest as noise of the
//! system, and computes Welch's t for the difference of the means. |t| below 4.5 is no evidence of
//! a leak, however many times the bench runs; above 10 is a leak. The classes are: equal digests
//! against digests that differ in the first byte, and digests that differ in the first byte against
//! digests that differ in the last.
//!
//! A comparison that stops at the first difference, as `==` on bytes may, is the control: the
//! method must find its leak. Run the bench by hand: timing on a shared machine is too noisy for a test.

#[path = "support/mode.rs"]
mod mode;

use std::hint::black_box;
use std::time::Instant;

use benches::results::{Goal, Results};
use tower_service_token::digest::TokenDigest;

/// The number of comparisons per measurement. A single one is shorter than the clock's resolution.
const BATCH: usize = 64;

type Bytes = [u8; 32];

fn main() {
    let is_full_run = mode::is_full_run();
    let samples = if is_full_run { 1_000_000 } else { 2_000 };
    let mut results = Results::new("constant_time");
    for (comparison, t) in [
        (
            "TokenDigest ==, equal or not",
            test(samples, token_digest_eq, EQUAL, FIRST),
        ),
        (
            "TokenDigest ==, first or last byte",
            test(samples, token_digest_eq, FIRST, LAST),
        ),
    ] {
        println!("{comparison}: |t| = {t:.1} (below 4.5: no leak found)");
        assert!(t.is_finite(), "the clock does not advance");
        let measured = format!("Welch's t of {comparison}");
        results.add(measured, t, Goal::AtMost(4.5));
    }
    // A short run on a busy machine may not find the leak at first.
    let mut control = 0.0;
    for _ in 0..10 {
        control = test(samples, stops_early, FIRST, LAST);
        println!("control that leaks: |t| = {control:.1}");
        if control > 10.0 {
            break;
        }
    }
    // This is above the threshold and far below the usual t of the control.
    assert!(
        control > 10.0,
        "the method does not find the leak of the control"
    );
    results.add(
        "Welch's t of a comparison that leaks",
        control,
        Goal::AtLeast(10.0),
    );
    results.finish();
}

/// The byte in which a digest differs from the one it is compared with.
type Difference = Option<usize>;

const EQUAL: Difference = None;
const FIRST: Difference = Some(0);
const LAST: Difference = Some(31);

fn token_digest_eq(a: &Bytes, b: &Bytes) -> bool {
    TokenDigest::from_bytes(*a) == TokenDigest::from_bytes(*b)
}

fn stops_early(a: &Bytes, b: &Bytes) -> bool {
    a.iter().zip(b).all(|(a, b)| black_box(*a) == black_box(*b))
}

/// Returns the absolute value of Welch's t for the times of two classes.
fn test(
    samples: usize,
    equals: impl Fn(&Bytes, &Bytes) -> bool,
    one: Difference,
    other: Difference,
) -> f64 {
    let mut random = Random(1);
    let mut times: [Vec<f64>; 2] = Default::default();
    for _ in 0..samples {
        let class = usize::from(random.next() >> 63 == 1);
        let difference = [one, other][class];
        // Both classes write, so that their inputs are cached in the same way.
        let pairs = [(); BATCH].map(|()| random.pair(difference));
        let start = Instant::now();
        for (a, b) in &pairs {
            black_box(equals(black_box(a), black_box(b)));
        }
        times[class].push(start.elapsed().as_secs_f64());
    }
    let slow = slowest_included(&times);
    let [one, other] = times.map(|times| Sample::of(times.iter().filter(|&&time| time <= slow)));
    let deviation = (one.variance / one.count + other.variance / other.count).sqrt();
    ((one.mean - other.mean) / deviation).abs()
}

/// Returns the 90th percentile of the times of both classes together.
fn slowest_included(times: &[Vec<f64>; 2]) -> f64 {
    let mut all = times.concat();
    all.sort_unstable_by(f64::total_cmp);
    all[all.len() / 10 * 9]
}

struct Sample {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Sample {
    /// Uses Welford's method, which avoids cancellation in large sums.
    fn of<'a>(times: impl Iterator<Item = &'a f64>) -> Self {
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for time in times {
            count += 1.0;
            let distance = time - mean;
            mean += distance / count;
            squares += distance * (time - mean);
        }
        Self {
            count,
            mean,
            variance: squares / (count - 1.0),
        }
    }
}

/// Knuth's linear congruential generator. The digests are not secret.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0
    }

    fn pair(&mut self, difference: Difference) -> (Bytes, Bytes) {
        let mut digest = [0; 32];
        for bytes in digest.as_chunks_mut::<8>().0 {
            *bytes = self.next().to_le_bytes();
        }
        let mut other = digest;
        // Writes in each class. For equal digests the write changes nothing.
        other[difference.unwrap_or(0)] ^= u8::from(difference.is_some());
        (digest, other)
    }
}
