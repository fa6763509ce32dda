//! Whether the time that comparing two digests takes tells where they differ.
//!
//! As dudect does it (Reparaz, Balasch, Verbauwhede: "dude, is my code constant time?", 2016): the
//! comparisons of two classes of inputs are timed, the class drawn at random each time; the
//! slowest are left out, as the system's work and not ours; Welch's t-test says how sure it is that
//! the means differ. |t| below 4.5 is no evidence of a leak, however often this is run; above 10
//! is a leak. The classes: equal digests against ones that differ in the first byte, and ones that
//! differ in the first against ones that differ in the last.
//!
//! The same is done with a comparison that stops at the first difference, as `==` on bytes may: it
//! shows that the method finds a leak where there is one. Run by hand; timing on a shared machine
//! is no basis for a test that must pass.

#[path = "support/mode.rs"]
mod mode;

use std::hint::black_box;
use std::time::Instant;

use tower_service_token::digest::TokenDigest;

/// Comparisons that are timed as one; a single one is shorter than the clock is fine.
const BATCH: usize = 64;

type Bytes = [u8; 32];

fn main() {
    let is_full_run = mode::is_full_run();
    let samples = if is_full_run { 1_000_000 } else { 2_000 };
    for (what, t) in [
        (
            "TokenDigest ==, equal or not",
            test(samples, ours, EQUAL, FIRST),
        ),
        (
            "TokenDigest ==, first or last byte",
            test(samples, ours, FIRST, LAST),
        ),
    ] {
        println!("{what}: |t| = {t:.1} (below 4.5: no leak seen)");
        assert!(t.is_finite(), "the clock stands still");
    }
    // A short run on a busy machine may find too little at first.
    let mut control = 0.0;
    for _ in 0..10 {
        control = test(samples, stops_early, FIRST, LAST);
        println!("control that leaks: |t| = {control:.1}");
        if control > 10.0 {
            break;
        }
    }
    // Ten times what passes for a leak, and still a small part of what it is.
    assert!(
        control > 10.0,
        "the method finds no leak where there is one"
    );
}

/// Where a digest differs from the one it is compared with.
type Difference = Option<usize>;

const EQUAL: Difference = None;
const FIRST: Difference = Some(0);
const LAST: Difference = Some(31);

fn ours(a: &Bytes, b: &Bytes) -> bool {
    TokenDigest::from_bytes(*a) == TokenDigest::from_bytes(*b)
}

fn stops_early(a: &Bytes, b: &Bytes) -> bool {
    a.iter().zip(b).all(|(a, b)| black_box(*a) == black_box(*b))
}

/// Welch's t for the times of two classes, without its sign.
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
        // Both classes write, so that their inputs lie in the cache alike.
        let pairs = [(); BATCH].map(|()| random.pair(difference));
        let start = Instant::now();
        for (a, b) in &pairs {
            black_box(equals(black_box(a), black_box(b)));
        }
        times[class].push(start.elapsed().as_secs_f64());
    }
    let slow = slowest_kept(&times);
    let [one, other] = times.map(|times| Sample::of(times.iter().filter(|&&time| time <= slow)));
    let deviation = (one.variance / one.count + other.variance / other.count).sqrt();
    ((one.mean - other.mean) / deviation).abs()
}

/// The time that nine in ten stay below, of both classes together.
fn slowest_kept(times: &[Vec<f64>; 2]) -> f64 {
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
    /// By Welford's method, which keeps what differences of large sums lose.
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

/// Knuth's generator; nothing here is secret.
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
        // A write in each class; where nothing is to differ it changes nothing.
        other[difference.unwrap_or(0)] ^= u8::from(difference.is_some());
        (digest, other)
    }
}
