//! PostgreSQL is stopped, crashed and suspended while nodes serve requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use test_support::postgres::{Postgres, Stop, SuspendedServer, on_blocking_thread};
use test_support::stall::Stopwatch;
use tokio::task::JoinHandle;
use tower_service_token::token::TokenFormat;

use crate::database::TestDatabase;
use crate::node::{HttpClient, Measurements, Node, TIMEOUT, Token, pause};
use crate::process_config::{ProcessConfig, Role};

const TTL: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_millis(500);

/// Retries until the database is available and the token is created.
async fn create_when_possible(node: &mut Node, name: &str) -> Token {
    let started = Instant::now();
    loop {
        match node.try_create(name).await {
            Ok(token) => return token,
            Err(error) => assert!(started.elapsed() < TIMEOUT, "{error}"),
        }
        pause().await;
    }
}

pub(crate) async fn nodes_and_feeds_recover_after_server_restart(database: TestDatabase) {
    let mut a = Node::start(&database, "a").await;
    let mut b = Node::start(&database, "b").await;
    for stop_mode in [Stop::Fast, Stop::Immediate] {
        let tables = database.tables().await;
        tables.wait_for_listener("a").await;
        tables.wait_for_listener("b").await;
        let before = a.create_and_cache(&mut b, "before").await;
        drop(tables);
        on_blocking_thread(database.server(), move |server| {
            server.stop(stop_mode);
            server.start();
        })
        .await;
        let started = Stopwatch::start();

        // The feeds may not be connected yet.
        let created_early = create_when_possible(&mut a, "at-once").await;
        let available = started.elapsed_without_stalls();
        for token in [&before, &created_early] {
            b.client
                .time_until_response(&token.secret, (200, ""), started)
                .await;
        }
        let mut early = Measurements::default();
        for token in [&before, &created_early] {
            a.revoke(token).await;
            let acknowledged = Stopwatch::start();
            early.add(
                b.client
                    .time_until_rejected(&token.secret, acknowledged)
                    .await,
            );
        }

        let tables = database.tables().await;
        tables.wait_for_listener("b").await;
        let feed_connected = started.elapsed_without_stalls();
        let mut late = Measurements::default();
        for number in 0..5 {
            let token = a.create_and_cache(&mut b, &format!("late-{number}")).await;
            a.revoke(&token).await;
            late.add(
                b.client
                    .time_until_rejected(&token.secret, Stopwatch::start())
                    .await,
            );
        }
        database.report(&format!(
            "{stop_mode:?} restart: available after {available:.1?}; early revocations applied \
             after {}; feed connected after {feed_connected:.1?}; later revocations applied after {}",
            early.summary(),
            late.summary()
        ));
        // Both bounds are far below the TTL of 30 s.
        assert!(early.max() < Duration::from_secs(10));
        assert!(late.max() < Duration::from_secs(5));
    }
}

/// Counts the responses to one group of clients.
#[derive(Default)]
struct ResponseCounts {
    expected: AtomicU64,
    unavailable: AtomicU64,
}

/// Selects one of the counters.
type Count = fn(&ResponseCounts) -> &AtomicU64;

/// Groups of clients that send requests continuously.
struct LoadGenerator {
    clients: Vec<(&'static str, u16, Arc<ResponseCounts>)>,
    done: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl LoadGenerator {
    fn new() -> Self {
        Self {
            clients: Vec::new(),
            done: Arc::default(),
            tasks: Vec::new(),
        }
    }

    /// Starts four clients, which panic on a status other than `expected` and 503.
    fn add_clients(
        &mut self,
        name: &'static str,
        expected: u16,
        client: &HttpClient,
        next: impl Fn() -> String + Send + Sync + Clone + 'static,
    ) {
        let counts = Arc::new(ResponseCounts::default());
        self.clients.push((name, expected, Arc::clone(&counts)));
        for _ in 0..4 {
            let (client, next, counts) = (client.clone(), next.clone(), Arc::clone(&counts));
            let done = Arc::clone(&self.done);
            self.tasks.push(tokio::spawn(async move {
                while !done.load(Ordering::SeqCst) {
                    let response = client.get(&next()).await;
                    let count = match response.status {
                        503 if response.has_retry_after => &counts.unavailable,
                        status if status == expected => &counts.expected,
                        status => panic!("{name}: {status} {}", response.body),
                    };
                    count.fetch_add(1, Ordering::SeqCst);
                    pause().await;
                }
            }));
        }
    }

    /// Waits until each group got `more` responses of one kind, and returns the time from `since`.
    async fn wait_for_responses(&self, more: u64, count: Count, since: Stopwatch) -> Duration {
        let before: Vec<u64> = self.counts(count);
        loop {
            self.check();
            let now = self.counts(count);
            if before
                .iter()
                .zip(&now)
                .all(|(before, now)| *now >= before + more)
            {
                return since.elapsed_without_stalls();
            }
            assert!(
                since.elapsed_without_stalls() < TIMEOUT,
                "{}",
                self.summary()
            );
            pause().await;
        }
    }

    fn counts(&self, count: Count) -> Vec<u64> {
        let counts = self.clients.iter();
        let counts = counts.map(|(_, _, counts)| count(counts).load(Ordering::SeqCst));
        counts.collect()
    }

    /// Panics if a client has ended, which it does only after a wrong response.
    fn check(&self) {
        assert!(
            !self.tasks.iter().any(JoinHandle::is_finished),
            "a client got a wrong response"
        );
    }

    async fn end(self) -> String {
        self.done.store(true, Ordering::SeqCst);
        let summary = self.summary();
        for task in self.tasks {
            task.await.unwrap();
        }
        summary
    }

    fn summary(&self) -> String {
        let clients = self.clients.iter().map(|(name, status, counts)| {
            let expected = counts.expected.load(Ordering::SeqCst);
            let unavailable = counts.unavailable.load(Ordering::SeqCst);
            format!("{name} {expected} x {status}, {unavailable} x 503")
        });
        clients.collect::<Vec<_>>().join("; ")
    }
}

pub(crate) async fn outage_under_load_returns_503_and_never_401(database: TestDatabase) {
    let mut a = Node::start(&database, "a").await;
    let process_config = ProcessConfig::new(Role::Server, &database.store("b"));
    let b = Node::start_with(process_config.with_ttl(TTL).with_deadline(DEADLINE)).await;
    let mut tokens = Vec::new();
    for number in 0..600 {
        tokens.push(a.create(&format!("token-{number}")).await.secret);
    }
    let hot: Vec<String> = tokens.drain(..4).collect();
    let tokens = Arc::new(tokens);

    let mut load = LoadGenerator::new();
    let request_number = Arc::new(AtomicUsize::new(0));
    let next = {
        let request_number = Arc::clone(&request_number);
        move || hot[request_number.fetch_add(1, Ordering::SeqCst) % hot.len()].clone()
    };
    load.add_clients("cached", 200, &b.client, next);
    // So many tokens that most requests miss the cache.
    let next = move || {
        let request_number = request_number.fetch_add(1, Ordering::SeqCst);
        tokens[request_number % tokens.len()].clone()
    };
    load.add_clients("cold", 200, &b.client, next);
    let next = || {
        let minted = TokenFormat::default().mint().unwrap();
        minted.expose_secret().to_owned()
    };
    load.add_clients("unknown", 401, &b.client, next);

    let (expected, unavailable): (Count, Count) =
        (|counts| &counts.expected, |counts| &counts.unavailable);
    let mut recovered = Vec::new();
    for stop_mode in [Stop::Fast, Stop::Immediate, Stop::Fast, Stop::Immediate] {
        load.wait_for_responses(20, expected, Stopwatch::start())
            .await;
        on_blocking_thread(database.server(), move |server| server.stop(stop_mode)).await;
        let stopped = Stopwatch::start();
        let failing = load.wait_for_responses(10, unavailable, stopped).await;
        on_blocking_thread(database.server(), Postgres::start).await;
        let started = Stopwatch::start();
        let available = load.wait_for_responses(20, expected, started).await;
        recovered.push(available);
        database.report(&format!(
            "{stop_mode:?} stop: 503 after {failing:.1?}; available {available:.1?} after the start"
        ));
    }
    database.report(&format!("under load: {}", load.end().await));
    let slowest = recovered.into_iter().max().unwrap();
    assert!(slowest < Duration::from_secs(15), "{slowest:?}");
}

pub(crate) async fn cached_tokens_are_accepted_for_ttl_during_outage(database: TestDatabase) {
    const TTL: Duration = Duration::from_secs(3);
    const SLACK: Duration = Duration::from_secs(1);
    /// How far the clock of a node may be behind.
    const CLOCK_LAG: Duration = Duration::from_millis(50);

    let mut a = Node::start(&database, "a").await;
    let process_config = ProcessConfig::new(Role::Server, &database.store("b"));
    let mut b = Node::start_with(process_config.with_ttl(TTL).with_deadline(DEADLINE)).await;
    let tables = database.tables().await;
    tables.wait_for_listener("b").await;
    drop(tables);
    let first = a.create("first").await;
    b.wait_until_cached_stably(&[first]).await;
    for stop_mode in [Stop::Fast, Stop::Immediate] {
        let token = create_when_possible(&mut a, "token").await;
        let first_request = Instant::now();
        let tokens = [token];
        b.wait_until_cached_stably(&tokens).await;
        let [token] = tokens;
        let (cached_at, watch) = (Instant::now(), Stopwatch::start());
        on_blocking_thread(database.server(), move |server| server.stop(stop_mode)).await;
        let stopped = Instant::now();
        let mut accepted = 0;
        let first_503 = loop {
            let response = b.client.get(&token.secret).await;
            if response.status == 503 {
                break Instant::now();
            }
            assert_eq!(response.status, 200, "{}", response.body);
            accepted += 1;
            pause().await;
        };
        let stalled = watch.stalled();
        database.report(&format!(
            "{stop_mode:?} stop, TTL {TTL:?}: 200 for {accepted} requests and {:.1?}, then 503",
            first_503 - cached_at
        ));
        assert!(
            first_request + TTL <= first_503 + CLOCK_LAG,
            "the entry expired too early"
        );
        // Stopping the server may take longer than the TTL, and no request is sent meanwhile.
        let latest = stopped.max(cached_at + TTL) + DEADLINE + SLACK;
        assert!(first_503 <= latest + stalled, "{:?}", first_503 - cached_at);
        on_blocking_thread(database.server(), Postgres::start).await;
        let started = Stopwatch::start();
        b.client
            .time_until_response(&token.secret, (200, ""), started)
            .await;
        // A feed that reconnects clears the cache, so the next round waits for it.
        let tables = database.tables().await;
        tables.wait_for_listener("b").await;
        drop(tables);
        b.wait_until_cached_stably(&[token]).await;
    }
}

pub(crate) async fn suspended_server_returns_503_within_deadline_and_serves_cached_tokens(
    database: TestDatabase,
) {
    const SLACK: Duration = Duration::from_secs(1);

    let mut a = Node::start(&database, "a").await;
    let process_config = ProcessConfig::new(Role::Server, &database.store("b"));
    let mut b = Node::start_with(process_config.with_deadline(DEADLINE)).await;
    database.tables().await.wait_for_listener("b").await;
    // A feed that connects clears the cache, so the entry must stay cached for a while.
    let hot = [a.create("hot").await];
    b.wait_until_cached_stably(&hot).await;
    let [hot] = hot;
    let mut cold = Vec::new();
    for number in 0..10 {
        cold.push(a.create(&format!("cold-{number}")).await);
    }

    let suspended = SuspendedServer::suspend(database.server()).await;
    let (mut unavailable_times, mut hit_times) = (Measurements::default(), Measurements::default());
    let lookups = cold.iter().map(|token| async {
        let started = Stopwatch::start();
        let response = b.client.get(&token.secret).await;
        (response, started.elapsed_without_stalls())
    });
    let lookups = futures::future::join_all(lookups);
    let hits = async {
        for _ in 0..10 {
            let started = Stopwatch::start();
            b.client.assert_status(&hot.secret, 200).await;
            hit_times.add(started.elapsed_without_stalls());
        }
    };
    for (response, time) in futures::future::join(lookups, hits).await.0 {
        assert_eq!(response.status, 503, "{}", response.body);
        assert!(response.has_retry_after);
        unavailable_times.add(time);
    }
    drop(suspended);
    let resumed = Stopwatch::start();
    let mut recovery = Measurements::default();
    for token in cold.iter().chain([&hot]) {
        recovery.add(
            b.client
                .time_until_response(&token.secret, (200, ""), resumed)
                .await,
        );
    }
    database.report(&format!(
        "suspended, deadline {DEADLINE:?}: 503 in {}; cached tokens 200 in {}; 200 again after {:.1?}",
        unavailable_times.summary(),
        hit_times.summary(),
        recovery.max()
    ));
    assert!(unavailable_times.max() < DEADLINE + SLACK);
    assert!(hit_times.max() < DEADLINE);
    assert!(recovery.max() < Duration::from_secs(5));
    database.tables().await.wait_for_listener("b").await;
    a.revoke(&hot).await;
    let time = b
        .client
        .time_until_rejected(&hot.secret, Stopwatch::start())
        .await;
    assert!(time < Duration::from_secs(5), "{time:?}");
}
