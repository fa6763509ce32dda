//! Tests whether the time to compare two digests depends on where they differ.
//!
//! The method is dudect's (Reparaz, Balasch, Verbauwhede: "dude, is my code constant time?", 2016):
//! it times comparisons of two classes of inputs in random order, drops the slowest at several
//! percentiles as noise of the system, and computes Welch's t for the difference of the means. The
//! greatest |t| counts. Below 4.5 is no evidence of a leak, however many times the bench runs; above
//! 10 is a leak.
//!
//! Both classes execute the same instructions on the same addresses, in the measured time and before
//! it. Only the values of the digests differ. A preparation that differs by class has |t| of 6 to 8
//! even if nothing is compared.
//!
//! The classes are: equal digests against digests that differ in the first byte, and digests that
//! differ in the first byte against digests that differ in the last. The controls are two classes
//! without a difference, and a comparison that stops at the first eight bytes that differ. The method
//! must find the leak of the latter.
//!
//! Run the bench by hand: timing on a shared machine is too noisy for a test.

#[path = "support/mode.rs"]
mod mode;

use std::hint::black_box;
use std::time::Instant;

use benches::results::{Goal, Results};
use tower_service_token::digest::TokenDigest;

/// The number of comparisons per measurement. A single one is shorter than the clock's resolution.
const BATCH: u8 = 64;

/// The number of measurements whose inputs are prepared together; few enough to stay in the cache.
const PREPARED: usize = 32;

const NO_LEAK: f64 = 4.5;
const LEAK: f64 = 10.0;

/// The percentages of the measurements that are included, from the quickest on.
const PERCENTILES: [usize; 5] = [50, 75, 90, 99, 100];

type Bytes = [u8; 32];

fn main() {
    let is_full_run = mode::is_full_run();
    let samples = if is_full_run { 1_000_000 } else { 2_000 };
    let mut results = Results::new("constant_time");
    for (comparison, one, other) in [
        ("TokenDigest ==, equal or not", EQUAL, FIRST),
        ("TokenDigest ==, first or last byte", FIRST, LAST),
        ("TokenDigest ==, no difference", FIRST, FIRST),
    ] {
        let difference = test(samples, token_digest_eq, one, other);
        assert!(difference.t.is_finite(), "the clock does not advance");
        let goal = Goal::AtMost(NO_LEAK);
        report(comparison, &difference, goal, &mut results);
    }
    // A short run on a busy machine may not find the leak at first.
    let mut differences = (0..10).map(|_| test(samples, stops_early, FIRST, LAST));
    let leak = differences.find(|difference| difference.t > LEAK);
    let leak = leak.expect("the method finds the leak of the control");
    let goal = Goal::AtLeast(LEAK);
    report("a comparison that leaks", &leak, goal, &mut results);
    results.finish();
}

fn report(comparison: &str, difference: &Difference, goal: Goal, results: &mut Results) {
    let Difference { t, nanoseconds } = *difference;
    println!("{comparison}: |t| = {t:.1} ({goal}), {nanoseconds:.5} ns per comparison");
    results.add(format!("Welch's t of {comparison}"), t, goal);
}

/// The bits in which a digest differs from the one it is compared with.
type Mask = Bytes;

const EQUAL: Mask = [0; 32];
const FIRST: Mask = {
    let mut mask = EQUAL;
    mask[0] = 1;
    mask
};
const LAST: Mask = {
    let mut mask = EQUAL;
    mask[31] = 1;
    mask
};

fn token_digest_eq(a: &Bytes, b: &Bytes) -> bool {
    TokenDigest::from_bytes(*a) == TokenDigest::from_bytes(*b)
}

fn stops_early(a: &Bytes, b: &Bytes) -> bool {
    let mut words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    words.all(|(a, b)| black_box(a) == black_box(b))
}

/// The difference between two classes.
struct Difference {
    /// The greatest absolute value of Welch's t.
    t: f64,
    /// The difference of the means, per comparison.
    nanoseconds: f64,
}

/// The pairs of one measurement, all of one class.
struct Input {
    class: usize,
    pairs: [(Bytes, Bytes); BATCH as usize],
}

fn test(
    samples: usize,
    equals: impl Fn(&Bytes, &Bytes) -> bool,
    one: Mask,
    other: Mask,
) -> Difference {
    let mut random = Random(1);
    let mut times: [Vec<f64>; 2] = Default::default();
    let mut pairs = [(EQUAL, EQUAL); BATCH as usize];
    for _ in 0..samples / PREPARED {
        let inputs: Vec<_> = (0..PREPARED).map(|_| random.input([one, other])).collect();
        let elapsed = inputs.iter().map(|input| {
            pairs.copy_from_slice(black_box(&input.pairs));
            let start = Instant::now();
            for (a, b) in &pairs {
                black_box(equals(black_box(a), black_box(b)));
            }
            start.elapsed()
        });
        // Collected first, so that no measurement follows a branch on the class of the one before it.
        let elapsed: Vec<_> = elapsed.collect();
        for (input, elapsed) in inputs.iter().zip(elapsed) {
            times[input.class].push(elapsed.as_secs_f64() * 1e9);
        }
    }
    let mut sorted = times.concat();
    sorted.sort_unstable_by(f64::total_cmp);
    let slowest = PERCENTILES.map(|percentile| sorted[(sorted.len() - 1) * percentile / 100]);
    let differences = slowest.map(|slowest| Difference::of(&times, slowest));
    let greatest = differences.into_iter().max_by(|a, b| a.t.total_cmp(&b.t));
    greatest.expect("there are percentiles")
}

impl Difference {
    fn of(times: &[Vec<f64>; 2], slowest: f64) -> Self {
        let included = |times: &Vec<f64>| {
            let times = times.iter().filter(|&&time| time <= slowest);
            Sample::of(times)
        };
        let [one, other] = times.each_ref().map(included);
        let deviation = (one.variance / one.count + other.variance / other.count).sqrt();
        let difference = (one.mean - other.mean).abs();
        Self {
            // With a coarse clock, all times up to a percentile can be the same.
            t: difference / deviation.max(f64::MIN_POSITIVE),
            nanoseconds: difference / f64::from(BATCH),
        }
    }
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

    fn input(&mut self, masks: [Mask; 2]) -> Input {
        let class = usize::from(self.next() >> 63 == 1);
        let mask = masks[class];
        Input {
            class,
            pairs: [(); BATCH as usize].map(|()| self.pair(mask)),
        }
    }

    fn pair(&mut self, mask: Mask) -> (Bytes, Bytes) {
        let mut digest = [0; 32];
        for bytes in digest.as_chunks_mut::<8>().0 {
            *bytes = self.next().to_le_bytes();
        }
        let mut other = digest;
        for (byte, mask) in other.iter_mut().zip(mask) {
            *byte ^= mask;
        }
        (digest, other)
    }
}
