//! The cost of sharing a store between threads.
//!
//! 1, 2, 4 and 8 threads send requests through one layer over one [`MemoryStore`] of 1,000 tokens:
//! all threads one hot token, or each its own 64. At the same time, a writer changes the store every
//! millisecond: it revokes a token, inserts another, and replaces the record of the hot one. The
//! inner service returns the request, so only the layer runs between two requests, and the
//! principal replaces its predecessor in the extensions.
//!
//! As a reference for the machine, these runs alternate with runs that have a layer and a store per
//! thread, so that the threads share only their cores and caches.
//!
//! Then one reader runs beside a writer that never pauses, against the same reader beside a thread
//! that uses as much of a core without the store. The difference is the cost of a writer to a
//! reader, in throughput and in the slowest requests. It shows whether a reader waits for the lock of a
//! writer.
//!
//! Throughput is the best of several alternating windows, because other programs can only lower it. On
//! Linux the CPU time per request is printed too, which other programs disturb less. A ratio of 1.00
//! means that the threads do not cost each other anything.

#[path = "support/mode.rs"]
mod mode;
#[path = "support/request.rs"]
mod request;
#[path = "support/tokens.rs"]
mod tokens;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::future::{Ready, ready};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use axum::body::Body;
use benches::results::{Goal, Results};
use http::{Request, Response};
use tower::{Layer, Service};
use tower_service_token::middleware::ServiceToken;
use tower_service_token::reject::Rejection;
use tower_service_token::token::{MintedToken, TokenId};
use tower_service_token::{MemoryStore, ServiceTokenLayer};

use self::request::{call, request_with};

const THREADS: [usize; 4] = [1, 2, 4, 8];
const TOKENS: usize = 1_000;
const TOKENS_OF_A_THREAD: usize = 64;
const SPARE_TOKENS: usize = 10_000;
const BATCH: u16 = 16;
const PAUSE: Duration = Duration::from_millis(1);

fn main() {
    let (window, rounds) = if mode::is_full_run() {
        (Duration::from_millis(100), 15)
    } else {
        println!("windows of 5 ms, too short for meaningful figures");
        (Duration::from_millis(5), 1)
    };
    let bench = Bench::new(window, rounds);
    let alone = [(); 8].map(|()| reader(&tokens::store(&bench.tokens)));
    let spread = |thread| &bench.tokens[thread * TOKENS_OF_A_THREAD..][..TOKENS_OF_A_THREAD];
    let mut results = Results::new("contention");
    let workloads = [
        Workload {
            name: "a store each",
            goal: Goal::None,
            reader_of: &|thread| (&alone[thread], spread(thread)),
        },
        Workload {
            name: "spread tokens",
            goal: Goal::AtLeast(1.8),
            reader_of: &|thread| (&bench.reader, spread(thread)),
        },
        Workload {
            name: "one hot token",
            goal: Goal::AtLeast(1.4),
            reader_of: &|_| (&bench.reader, &bench.tokens[..1]),
        },
    ];
    bench.print_scaling(&workloads, &mut results);
    bench.print_waits();
    results.finish();
}

struct Bench {
    window: Duration,
    rounds: usize,
    tokens: Vec<MintedToken>,
    spare: Vec<MintedToken>,
    store: MemoryStore,
    reader: Reader,
}

impl Bench {
    fn new(window: Duration, rounds: usize) -> Self {
        let tokens = tokens::mint(TOKENS);
        let store = tokens::store(&tokens);
        Self {
            window,
            rounds,
            tokens,
            spare: tokens::mint(SPARE_TOKENS),
            reader: reader(&store),
            store,
        }
    }

    fn print_scaling(&self, kinds: &[Workload<'_>; 3], results: &mut Results) {
        let mut readings = [(); 3].map(|()| THREADS.map(|_| Measurement::default()));
        for _ in 0..self.rounds {
            for (kind, readings) in kinds.iter().zip(&mut readings) {
                for (threads, reading) in THREADS.iter().zip(readings) {
                    let readers: Vec<_> = (0..*threads).map(kind.reader_of).collect();
                    let (elapsed, reads) =
                        self.window(&readers, BackgroundLoad::Writer(Some(PAUSE)));
                    reading.add(elapsed, reads);
                }
            }
        }
        for (kind, readings) in kinds.iter().zip(&readings) {
            kind.print(readings, results);
        }
    }

    fn print_waits(&self) {
        let mut readings = [Measurement::default(), Measurement::default()];
        let loads = [BackgroundLoad::Spinner, BackgroundLoad::Writer(None)];
        for _ in 0..self.rounds {
            for (load, reading) in loads.iter().zip(&mut readings) {
                let reader = (&self.reader, &self.tokens[..TOKENS_OF_A_THREAD]);
                let (elapsed, reads) = self.window(&[reader], *load);
                reading.add(elapsed, reads);
            }
        }
        println!(
            "one reader beside a thread that does not use the store {}",
            readings[0]
        );
        println!(
            "one reader beside a writer that never pauses           {}",
            readings[1]
        );
        println!(
            "ratio with / without writer: throughput {:.2} (no goal), slowest of 1,000 {:.2}",
            readings[1].best / readings[0].best,
            readings[1].slowest_of_1_000().as_secs_f64()
                / readings[0].slowest_of_1_000().as_secs_f64()
        );
    }

    /// Runs all readers concurrently, each with its tokens.
    fn window(
        &self,
        readers: &[(&Reader, &[MintedToken])],
        load: BackgroundLoad,
    ) -> (Duration, Vec<Read>) {
        let stop = AtomicBool::new(false);
        let start = Barrier::new(readers.len() + 1);
        thread::scope(|scope| {
            scope.spawn(|| self.run_load(load, &stop));
            let readers: Vec<_> = readers
                .iter()
                .map(|(reader, tokens)| {
                    scope.spawn(|| read(Reader::clone(reader), tokens, &start, &stop))
                })
                .collect();
            start.wait();
            let started = Instant::now();
            thread::sleep(self.window);
            stop.store(true, Ordering::Relaxed);
            let elapsed = started.elapsed();
            let reads = readers
                .into_iter()
                .map(|reader| reader.join().expect("no panic"));
            (elapsed, reads.collect())
        })
    }

    fn run_load(&self, load: BackgroundLoad, stop: &AtomicBool) {
        let BackgroundLoad::Writer(pause) = load else {
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            return;
        };
        let mut inserted = Vec::with_capacity(SPARE_TOKENS);
        for (number, token) in self.spare.iter().enumerate().cycle() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if inserted.len() == SPARE_TOKENS {
                self.remove(&mut inserted);
            }
            let record = tokens::record(token, number);
            self.store.insert(record).expect("a spare token");
            inserted.push(token.id());
            self.store.revoke(token.id()).expect("just inserted");
            let hot = tokens::record(&self.tokens[0], 0);
            self.store.replace(hot).expect("never removed");
            if let Some(pause) = pause {
                thread::sleep(pause);
            }
        }
        self.remove(&mut inserted);
    }

    fn remove(&self, inserted: &mut Vec<TokenId>) {
        for id in inserted.drain(..) {
            self.store.remove(id);
        }
    }
}

/// The tokens that the threads send.
struct Workload<'a> {
    name: &'a str,
    /// The goal of the ratio for two threads.
    goal: Goal,
    reader_of: &'a dyn Fn(usize) -> (&'a Reader, &'a [MintedToken]),
}

impl Workload<'_> {
    fn print(&self, readings: &[Measurement; 4], results: &mut Results) {
        println!("{}", self.name);
        for (threads, reading) in THREADS.iter().zip(readings) {
            println!("{threads:>4} threads {reading}");
        }
        let [one, others @ ..] = readings;
        results.add_reading(self.name, "1", 1.0);
        let goals = [self.goal, Goal::None, Goal::None];
        for ((threads, reading), goal) in THREADS[1..].iter().zip(others).zip(goals) {
            let ratio = reading.best / one.best;
            results.ratio(
                format!("{threads} threads to 1, {}", self.name),
                ratio,
                goal,
            );
            results.add_reading(self.name, &threads.to_string(), ratio);
            println!(
                "CPU time of {threads} threads to 1 = {:.2}",
                reading.cpu_time_each() / one.cpu_time_each()
            );
        }
        println!();
    }
}

/// The load beside the readers.
#[derive(Clone, Copy)]
enum BackgroundLoad {
    /// An empty loop.
    Spinner,
    /// Changes to the store, with a pause after every three.
    Writer(Option<Duration>),
}

/// Panics. Every request is accepted, because the writer never revokes the tokens of the readers.
fn rejected(rejection: &Rejection) -> Response<Request<Body>> {
    panic!("{rejection}")
}

type Reader = ServiceToken<ReturnRequest, fn(&Rejection) -> Response<Request<Body>>>;

fn reader(store: &MemoryStore) -> Reader {
    ServiceTokenLayer::new(store.clone())
        .without_cache_headers()
        .with_rejection_response(rejected as fn(&_) -> _)
        .layer(ReturnRequest)
}

#[derive(Clone)]
struct ReturnRequest;

impl Service<Request<Body>> for ReturnRequest {
    type Response = Response<Request<Body>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(Response::new(request)))
    }
}

/// The measurements of one reader in a window.
struct Read {
    /// The duration of each batch.
    batches: Vec<Duration>,
    cpu_time: Option<Duration>,
}

fn read(mut reader: Reader, tokens: &[MintedToken], start: &Barrier, stop: &AtomicBool) -> Read {
    let tokens = tokens.iter().cycle().take(TOKENS_OF_A_THREAD);
    let mut requests: VecDeque<_> = tokens
        .map(|token| request_with(token.expose_secret()))
        .collect();
    let mut batches = Vec::with_capacity(1 << 16);
    start.wait();
    let before = thread_cpu_time();
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BATCH {
            let request = requests.pop_front().expect("every request is returned");
            requests.push_back(call(&mut reader, request).into_body());
        }
        let now = Instant::now();
        batches.push(now - last);
        last = now;
    }
    let cpu_time = thread_cpu_time().zip(before);
    Read {
        batches,
        cpu_time: cpu_time.map(|(after, before)| after.saturating_sub(before)),
    }
}

/// Returns the CPU time of this thread, if the system reports it.
fn thread_cpu_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// The measurements of all windows of one kind.
#[derive(Default)]
struct Measurement {
    /// Requests per second in the best window.
    best: f64,
    requests: f64,
    cpu_time: Duration,
    batches: Vec<Duration>,
}

impl Measurement {
    fn add(&mut self, elapsed: Duration, reads: Vec<Read>) {
        let batches: usize = reads.iter().map(|read| read.batches.len()).sum();
        let requests =
            f64::from(BATCH) * f64::from(u32::try_from(batches).expect("a short window"));
        self.best = self.best.max(requests / elapsed.as_secs_f64());
        self.requests += requests;
        for read in reads {
            self.cpu_time += read.cpu_time.unwrap_or_default();
            self.batches.extend(read.batches);
        }
        self.batches.sort_unstable();
    }

    /// Returns the CPU time per request in nanoseconds.
    fn cpu_time_each(&self) -> f64 {
        self.cpu_time.as_secs_f64() * 1e9 / self.requests
    }

    /// Returns the duration of the slowest of a thousand batches.
    fn slowest_of_1_000(&self) -> Duration {
        let rank = self.batches.len() / 1_000;
        let slow = self.batches.iter().nth_back(rank);
        slow.copied().unwrap_or_default()
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:9.0} requests/s, {:5.0} ns of CPU time each; {BATCH} requests took {:?}, or {:?} (slowest of 1,000), or {:?} (slowest of all)",
            self.best,
            self.cpu_time_each(),
            self.batches
                .get(self.batches.len() / 2)
                .copied()
                .unwrap_or_default(),
            self.slowest_of_1_000(),
            self.batches.last().copied().unwrap_or_default(),
        )
    }
}
