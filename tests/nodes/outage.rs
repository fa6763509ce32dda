//! PostgreSQL is stopped, crashed and frozen while nodes continue to serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use test_support::postgres::{Postgres, Stop};
use test_support::stall::Stopwatch;
use tokio::task::{JoinHandle, spawn_blocking};
use tower_service_token::token::TokenFormat;

use crate::database::TestDatabase;
use crate::node::{HttpClient, Measurements, Node, TIMEOUT, Token, pause};
use crate::process_config::{ProcessConfig, Role};

const TTL: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_millis(500);

async fn on_a_thread(database: &TestDatabase, work: impl FnOnce(&Postgres) + Send + 'static) {
    let server = Arc::clone(database.server());
    spawn_blocking(move || work(&server)).await.unwrap();
}

/// Thaws the server when dropped, so that it can be stopped.
struct PausedServer(Arc<Postgres>);

impl Drop for PausedServer {
    fn drop(&mut self) {
        self.0.thaw();
    }
}

/// Creates a token as soon as that can be done.
async fn create_when_possible(node: &mut Node, name: &str) -> Token {
    let begun = Instant::now();
    loop {
        match node.try_create(name).await {
            Ok(token) => return token,
            Err(error) => assert!(begun.elapsed() < TIMEOUT, "{error}"),
        }
        pause().await;
    }
}

pub(crate) async fn nodes_and_feeds_recover_after_server_restart(database: TestDatabase) {
    let mut a = Node::start(&database, "a").await;
    let mut b = Node::start(&database, "b").await;
    for how in [Stop::Fast, Stop::Immediate] {
        let tables = database.tables().await;
        tables.wait_for_listener("a").await;
        tables.wait_for_listener("b").await;
        let before = a.create_and_cache(&mut b, "before").await;
        drop(tables);
        on_a_thread(&database, move |server| {
            server.stop(how);
            server.start();
        })
        .await;
        let started = Stopwatch::start();

        // Whether the feeds are back or not.
        let at_once = create_when_possible(&mut a, "at-once").await;
        let works = started.elapsed_without_stalls();
        for token in [&before, &at_once] {
            b.caller.becomes(&token.secret, (200, ""), started).await;
        }
        let mut early = Measurements::default();
        for token in [&before, &at_once] {
            a.revoke(token).await;
            let acknowledged = Stopwatch::start();
            early.add(b.caller.refused(&token.secret, acknowledged).await);
        }

        let tables = database.tables().await;
        tables.wait_for_listener("b").await;
        let listens = started.elapsed_without_stalls();
        let mut late = Measurements::default();
        for number in 0..5 {
            let token = a.create_and_cache(&mut b, &format!("late-{number}")).await;
            a.revoke(&token).await;
            late.add(b.caller.refused(&token.secret, Stopwatch::start()).await);
        }
        database.report(&format!(
            "{how:?} restart: works after {works:.1?}; revoked at once {}; listens after \
             {listens:.1?}, then {}",
            early.show(),
            late.show()
        ));
        // Both are far below the TTL of 30 s.
        assert!(early.max() < Duration::from_secs(10));
        assert!(late.max() < Duration::from_secs(5));
    }
}

/// The responses to clients of one kind.
#[derive(Default)]
struct ResponseCounts {
    usual: AtomicU64,
    unavailable: AtomicU64,
}

/// The responses to count.
type Count = fn(&ResponseCounts) -> &AtomicU64;

/// Clients that send requests continuously.
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

    /// Four clients that are to see `usual` or 503 and nothing else.
    fn ask(
        &mut self,
        name: &'static str,
        usual: u16,
        caller: &HttpClient,
        next: impl Fn() -> String + Send + Sync + Clone + 'static,
    ) {
        let answers = Arc::new(ResponseCounts::default());
        self.clients.push((name, usual, Arc::clone(&answers)));
        for _ in 0..4 {
            let (caller, next, answers) = (caller.clone(), next.clone(), Arc::clone(&answers));
            let done = Arc::clone(&self.done);
            self.tasks.push(tokio::spawn(async move {
                while !done.load(Ordering::SeqCst) {
                    let answer = caller.get(&next()).await;
                    let count = match answer.status {
                        503 if answer.has_retry_after => &answers.unavailable,
                        status if status == usual => &answers.usual,
                        status => panic!("{name}: {status} {}", answer.body),
                    };
                    count.fetch_add(1, Ordering::SeqCst);
                    pause().await;
                }
            }));
        }
    }

    /// Waits until each sort of clients got `more` of what is counted; how long after `since`.
    async fn all_get(&self, more: u64, count: Count, since: Stopwatch) -> Duration {
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
            assert!(since.elapsed_without_stalls() < TIMEOUT, "{}", self.show());
            pause().await;
        }
    }

    fn counts(&self, count: Count) -> Vec<u64> {
        let counts = self.clients.iter();
        let counts = counts.map(|(_, _, answers)| count(answers).load(Ordering::SeqCst));
        counts.collect()
    }

    /// A client that ended got a wrong answer.
    fn check(&self) {
        assert!(!self.tasks.iter().any(JoinHandle::is_finished), "see above");
    }

    async fn end(self) -> String {
        self.done.store(true, Ordering::SeqCst);
        let shown = self.show();
        for task in self.tasks {
            task.await.unwrap();
        }
        shown
    }

    fn show(&self) -> String {
        let clients = self.clients.iter().map(|(name, status, answers)| {
            let usual = answers.usual.load(Ordering::SeqCst);
            let unavailable = answers.unavailable.load(Ordering::SeqCst);
            format!("{name} {usual} x {status}, {unavailable} x 503")
        });
        clients.collect::<Vec<_>>().join("; ")
    }
}

pub(crate) async fn outage_under_load_returns_503_and_never_401(database: TestDatabase) {
    let mut a = Node::start(&database, "a").await;
    let process_config = ProcessConfig::new(Role::Server, &database.store("b"));
    let b = Node::with(process_config.with_ttl(TTL).with_deadline(DEADLINE)).await;
    let mut tokens = Vec::new();
    for number in 0..600 {
        tokens.push(a.create(&format!("token-{number}")).await.secret);
    }
    let hot: Vec<String> = tokens.drain(..4).collect();
    let tokens = Arc::new(tokens);

    let mut load = LoadGenerator::new();
    let turn = Arc::new(AtomicUsize::new(0));
    let next = {
        let turn = Arc::clone(&turn);
        move || hot[turn.fetch_add(1, Ordering::SeqCst) % hot.len()].clone()
    };
    load.ask("remembered", 200, &b.caller, next);
    // So many that each is evicted before its next use, or was never used.
    let next = move || {
        let turn = turn.fetch_add(1, Ordering::SeqCst);
        tokens[turn % tokens.len()].clone()
    };
    load.ask("cold", 200, &b.caller, next);
    let next = || {
        let minted = TokenFormat::default().mint().unwrap();
        minted.expose_secret().to_owned()
    };
    load.ask("unknown", 401, &b.caller, next);

    let (usual, unavailable): (Count, Count) =
        (|answers| &answers.usual, |answers| &answers.unavailable);
    let mut recovered = Vec::new();
    for how in [Stop::Fast, Stop::Immediate, Stop::Fast, Stop::Immediate] {
        load.all_get(20, usual, Stopwatch::start()).await;
        on_a_thread(&database, move |server| server.stop(how)).await;
        let stopped = Stopwatch::start();
        let refused = load.all_get(10, unavailable, stopped).await;
        on_a_thread(&database, Postgres::start).await;
        let started = Stopwatch::start();
        let works = load.all_get(20, usual, started).await;
        recovered.push(works);
        database.report(&format!(
            "{how:?} stop: 503 after {refused:.1?}; works {works:.1?} after the start"
        ));
    }
    database.report(&format!("under load: {}", load.end().await));
    let slowest = recovered.into_iter().max().unwrap();
    assert!(slowest < Duration::from_secs(15), "{slowest:?}");
}

pub(crate) async fn cached_tokens_are_accepted_for_ttl_during_outage(database: TestDatabase) {
    const TTL: Duration = Duration::from_secs(3);
    const SLACK: Duration = Duration::from_secs(1);

    let mut a = Node::start(&database, "a").await;
    let process_config = ProcessConfig::new(Role::Server, &database.store("b"));
    let mut b = Node::with(process_config.with_ttl(TTL).with_deadline(DEADLINE)).await;
    let tables = database.tables().await;
    tables.wait_for_listener("b").await;
    drop(tables);
    let first = a.create("first").await;
    b.wait_until_cached_stably(&[first]).await;
    for how in [Stop::Fast, Stop::Immediate] {
        let token = create_when_possible(&mut a, "token").await;
        let asked = Instant::now();
        let tokens = [token];
        b.wait_until_cached_stably(&tokens).await;
        let [token] = tokens;
        let (remembered, watch) = (Instant::now(), Stopwatch::start());
        on_a_thread(&database, move |server| server.stop(how)).await;
        let stopped = Instant::now();
        let mut works = 0;
        let ended = loop {
            let answer = b.caller.get(&token.secret).await;
            if answer.status == 503 {
                break Instant::now();
            }
            assert_eq!(answer.status, 200, "{}", answer.body);
            works += 1;
            pause().await;
        };
        let stalled = watch.stalled();
        database.report(&format!(
            "{how:?} stop, TTL {TTL:?}: 200 for {works} requests and {:.1?}, then 503",
            ended - remembered
        ));
        assert!(asked + TTL <= ended, "forgotten before its time");
        // There are no requests before the server is stopped, which may take longer than the TTL.
        let latest = stopped.max(remembered + TTL) + DEADLINE + SLACK;
        assert!(ended <= latest + stalled, "{:?}", ended - remembered);
        on_a_thread(&database, Postgres::start).await;
        let started = Stopwatch::start();
        b.caller.becomes(&token.secret, (200, ""), started).await;
        // So that the next one is not evicted when the feed recovers.
        let tables = database.tables().await;
        tables.wait_for_listener("b").await;
        drop(tables);
        b.wait_until_cached_stably(&[token]).await;
    }
}

pub(crate) async fn frozen_server_returns_503_within_deadline_and_serves_cached_tokens(
    database: TestDatabase,
) {
    const SLACK: Duration = Duration::from_secs(1);

    let mut a = Node::start(&database, "a").await;
    let process_config = ProcessConfig::new(Role::Server, &database.store("b"));
    let mut b = Node::with(process_config.with_deadline(DEADLINE)).await;
    database.tables().await.wait_for_listener("b").await;
    // Remembered for a while, so that the feed that begins makes the node forget it no more.
    let hot = [a.create("hot").await];
    b.wait_until_cached_stably(&hot).await;
    let [hot] = hot;
    let mut cold = Vec::new();
    for number in 0..10 {
        cold.push(a.create(&format!("cold-{number}")).await);
    }

    on_a_thread(&database, Postgres::freeze).await;
    let frozen = PausedServer(Arc::clone(database.server()));
    let (mut late, mut quick) = (Measurements::default(), Measurements::default());
    let lookups = cold.iter().map(|token| async {
        let begun = Stopwatch::start();
        let answer = b.caller.get(&token.secret).await;
        (answer, begun.elapsed_without_stalls())
    });
    let lookups = futures::future::join_all(lookups);
    let hits = async {
        for _ in 0..10 {
            let begun = Stopwatch::start();
            b.caller.assert(&hot.secret, 200).await;
            quick.add(begun.elapsed_without_stalls());
        }
    };
    for (answer, time) in futures::future::join(lookups, hits).await.0 {
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert!(answer.has_retry_after);
        late.add(time);
    }
    drop(frozen);
    let thawed = Stopwatch::start();
    let mut back = Measurements::default();
    for token in cold.iter().chain([&hot]) {
        back.add(b.caller.becomes(&token.secret, (200, ""), thawed).await);
    }
    database.report(&format!(
        "frozen, deadline {DEADLINE:?}: 503 in {}; remembered 200 in {}; 200 again after {:.1?}",
        late.show(),
        quick.show(),
        back.max()
    ));
    assert!(late.max() < DEADLINE + SLACK);
    assert!(quick.max() < DEADLINE);
    assert!(back.max() < Duration::from_secs(5));
    database.tables().await.wait_for_listener("b").await;
    a.revoke(&hot).await;
    let time = b.caller.refused(&hot.secret, Stopwatch::start()).await;
    assert!(time < Duration::from_secs(5), "{time:?}");
}
