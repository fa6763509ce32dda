//! The cost of sharing a store between threads.
//!
//! 1, 2, 4 and 8 threads send requests through one layer over one [`MemoryStore`] of 1,000 tokens:
//! all threads one hot token, or each its own 64. Meanwhile a writer changes the store every
//! millisecond: it revokes a token, inserts another, and replaces the record of the hot one. The
//! inner service returns the request, so only the layer runs between two requests, and the
//! principal replaces its predecessor in the extensions.
//!
//! In turns with these, as a reference for the machine, the same runs with a layer and a store per
//! thread: threads that share only their cores and the caches between them.
//!
//! Then one reader runs beside a writer that never pauses, against the same reader beside a thread
//! that uses as much of a core without the store. The difference is the cost of a writer to a
//! reader, in throughput and in the slowest requests. A reader that waits for a writer's lock shows
//! here.
//!
//! Throughput is the best of several windows, measured in turns, because other programs can only
//! lower it. On Linux the CPU time per request is printed too. Other programs disturb it less; 1.00
//! means that threads cost each other nothing.

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
        println!("windows of 5 ms: only to show that it runs");
        (Duration::from_millis(5), 1)
    };
    let bench = Bench::new(window, rounds);
    let alone = [(); 8].map(|()| reader(&tokens::store(&bench.tokens)));
    let spread = |thread| &bench.tokens[thread * TOKENS_OF_A_THREAD..][..TOKENS_OF_A_THREAD];
    bench.print_scaling(&[
        Kind {
            name: "a store each",
            goal: "no goal",
            reader_of: &|thread| (&alone[thread], spread(thread)),
        },
        Kind {
            name: "spread tokens",
            goal: "goal >= 1.80",
            reader_of: &|thread| (&bench.reader, spread(thread)),
        },
        Kind {
            name: "one hot token",
            goal: "goal >= 1.40",
            reader_of: &|_| (&bench.reader, &bench.tokens[..1]),
        },
    ]);
    bench.print_waits();
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

    fn print_scaling(&self, kinds: &[Kind<'_>; 3]) {
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
            kind.print(readings);
        }
    }

    fn print_waits(&self) {
        let mut readings = [Measurement::default(), Measurement::default()];
        let neighbours = [BackgroundLoad::Spinner, BackgroundLoad::Writer(None)];
        for _ in 0..self.rounds {
            for (load, reading) in neighbours.iter().zip(&mut readings) {
                let reader = (&self.reader, &self.tokens[..TOKENS_OF_A_THREAD]);
                let (elapsed, reads) = self.window(&[reader], *load);
                reading.add(elapsed, reads);
            }
        }
        println!(
            "one reader beside a thread that leaves the store alone {}",
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

    /// All readers at the same time, each with its tokens.
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

/// The tokens that the threads send, and how they are divided.
struct Kind<'a> {
    name: &'a str,
    /// For two threads.
    goal: &'a str,
    reader_of: &'a dyn Fn(usize) -> (&'a Reader, &'a [MintedToken]),
}

impl Kind<'_> {
    fn print(&self, readings: &[Measurement; 4]) {
        println!("{}", self.name);
        for (threads, reading) in THREADS.iter().zip(readings) {
            println!("{threads:>4} threads {reading}");
        }
        let [one, more @ ..] = readings;
        let goals = [self.goal, "no goal", "no goal"];
        for ((threads, reading), goal) in THREADS[1..].iter().zip(more).zip(goals) {
            println!(
                "ratio {}: {threads} threads / 1 thread = {:.2} ({goal}); time on a core = {:.2}",
                self.name,
                reading.best / one.best,
                reading.on_core_each() / one.on_core_each()
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

/// No change is refused: the writer never touches the tokens of the readers.
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
    on_core: Option<Duration>,
}

fn read(mut reader: Reader, tokens: &[MintedToken], start: &Barrier, stop: &AtomicBool) -> Read {
    let tokens = tokens.iter().cycle().take(TOKENS_OF_A_THREAD);
    let mut requests: VecDeque<_> = tokens
        .map(|token| request_with(token.expose_secret()))
        .collect();
    let mut batches = Vec::with_capacity(1 << 16);
    start.wait();
    let before = time_on_core();
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BATCH {
            let request = requests.pop_front().expect("every request comes back");
            requests.push_back(call(&mut reader, request).into_body());
        }
        let now = Instant::now();
        batches.push(now - last);
        last = now;
    }
    let on_core = time_on_core().zip(before);
    Read {
        batches,
        on_core: on_core.map(|(after, before)| after.saturating_sub(before)),
    }
}

/// The CPU time of this thread, if the system reports it.
fn time_on_core() -> Option<Duration> {
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
    on_core: Duration,
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
            self.on_core += read.on_core.unwrap_or_default();
            self.batches.extend(read.batches);
        }
        self.batches.sort_unstable();
    }

    /// Nanoseconds per request.
    fn on_core_each(&self) -> f64 {
        self.on_core.as_secs_f64() * 1e9 / self.requests
    }

    /// The duration of the slowest of a thousand batches.
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
            "{:9.0} requests/s, {:5.0} ns on a core each; {BATCH} requests took {:?}, or {:?} (slowest of 1,000), or {:?} (slowest of all)",
            self.best,
            self.on_core_each(),
            self.batches
                .get(self.batches.len() / 2)
                .copied()
                .unwrap_or_default(),
            self.slowest_of_1_000(),
            self.batches.last().copied().unwrap_or_default(),
        )
    }
}
