//! One case of a bench, measured twice: by criterion, and interleaved with the other cases for ratios.
//!
//! Requests are built outside of the measured time. Each response is dropped before the next
//! request, as on a server's connection. All cases are called through one box.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use benches::results::Results;
use criterion::{BatchSize, Criterion};
use http::{Request, Response, StatusCode};
use tower::Service;
use tower_service_token::token::MintedToken;

use crate::request::call;

/// The number of requests built ahead; few enough to stay in the cache.
const BATCH: u16 = 64;
const BATCHES_IN_A_SLICE: u16 = 16;
const ROUNDS: usize = 201;

/// The stack offsets at which rounds run. How fast a copy between stack and heap is depends on their
/// addresses modulo 4 KiB, which differ by process.
const STACK_OFFSETS: usize = 64;

pub(crate) struct Case {
    id: String,
    request: Box<dyn FnMut() -> Request<Body>>,
    handle: Box<dyn FnMut(Request<Body>)>,
}

impl Case {
    /// Creates a case.
    ///
    /// # Panics
    ///
    /// Panics if the service does not respond to a request with `expected`.
    pub(crate) fn new<S>(
        id: impl Into<String>,
        expected: StatusCode,
        mut request: impl FnMut() -> Request<Body> + 'static,
        mut service: S,
    ) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + 'static,
    {
        let id = id.into();
        assert_eq!(call(&mut service, request()).status(), expected, "{id}");
        Self {
            id,
            request: Box::new(request),
            handle: Box::new(move |request| drop(black_box(call(&mut service, request)))),
        }
    }

    /// Measures a slice below this number of stack frames of 48 bytes or more.
    #[inline(never)]
    fn slice_at(&mut self, depth: usize) -> Duration {
        let frame = black_box([0_u8; 16]);
        let elapsed = match depth {
            0 => self.slice(),
            _ => self.slice_at(depth - 1),
        };
        black_box(frame);
        elapsed
    }

    #[inline(never)]
    fn slice(&mut self) -> Duration {
        let mut elapsed = Duration::ZERO;
        for _ in 0..BATCHES_IN_A_SLICE {
            let requests: Vec<_> = (0..BATCH).map(|_| (self.request)()).collect();
            let start = Instant::now();
            for request in requests {
                (self.handle)(black_box(request));
            }
            elapsed += start.elapsed();
        }
        elapsed
    }
}

/// Builds requests with these tokens in random order.
pub(crate) fn requests_with(
    tokens: &Arc<[MintedToken]>,
    request_with: fn(&str) -> Request<Body>,
) -> impl FnMut() -> Request<Body> + 'static {
    let tokens = Arc::clone(tokens);
    let mut state = 1_u64;
    move || {
        // Knuth's generator: cheap, and unpredictable for a prefetcher.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let number = usize::try_from(state >> 33).expect("31 bits") % tokens.len();
        request_with(tokens[number].expose_secret())
    }
}

/// Runs the cases as one criterion group.
pub(crate) fn bench(criterion: &mut Criterion, group: &str, cases: &mut [Case]) {
    let mut group = criterion.benchmark_group(group);
    group.warm_up_time(Duration::from_secs(1));
    group.measurement_time(Duration::from_secs(2));
    for Case {
        id,
        request,
        handle,
    } in cases
    {
        group.bench_function(id.as_str(), |bencher| {
            let size = BatchSize::NumIterations(BATCH.into());
            bencher.iter_batched(&mut *request, &mut *handle, size);
        });
    }
    group.finish();
}

/// The nanoseconds per request of each case. The cases alternate in short slices, so that other programs
/// slow all of them equally.
pub(crate) struct Times(Vec<(String, f64)>);

impl Times {
    pub(crate) fn measure(cases: &mut [Case]) -> Self {
        let mut slices = vec![Vec::with_capacity(ROUNDS); cases.len()];
        for round in 0..ROUNDS {
            for (case, slices) in cases.iter_mut().zip(&mut slices) {
                slices.push(case.slice_at(round % STACK_OFFSETS));
            }
        }
        let requests = f64::from(BATCH) * f64::from(BATCHES_IN_A_SLICE);
        let medians = cases.iter().zip(slices).map(|(case, mut slices)| {
            slices.sort_unstable();
            let median = slices[ROUNDS / 2].as_secs_f64() * 1e9 / requests;
            println!("{:>40} {median:8.1} ns", case.id);
            (case.id.clone(), median)
        });
        Self(medians.collect())
    }

    /// Adds the times to the results of a bench, as a group.
    pub(crate) fn add_to(&self, results: &mut Results, group: &str) {
        for (id, time) in &self.0 {
            results.add_reading(group, id, *time);
        }
    }

    /// Returns the time of a case.
    ///
    /// # Panics
    ///
    /// Panics if no case has this ID.
    pub(crate) fn of(&self, id: &str) -> f64 {
        let time = self.0.iter().find(|(known, _)| known == id);
        time.unwrap_or_else(|| panic!("no case has the ID {id}")).1
    }
}
