//! What many listening nodes cost one PostgreSQL: a revocation, and a minute without changes.
//!
//! The nodes are stores of this process, each with the connections of a real node. Their traffic passes
//! a proxy that counts its bytes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use test_support::postgres::Postgres;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tower_service_token::lifecycle::NewToken;
use tower_service_token::store::sql::PostgresStore;
use tower_service_token::store::{ChangeListener, FeedStatus, TokenChange};
use tower_service_token::token::TokenId;
use tower_service_token::{ServiceTokens, TokenStore};

use crate::database::TestDatabase;
use crate::node::{TIMEOUT, pause};

/// The connections that the server of the long test allows: each node has one that listens and one in
/// its pool.
pub(crate) const CONNECTIONS: u32 = 500;

pub(crate) const LONG_TIMEOUT: Duration = Duration::from_secs(600);

const MAX_DELAY: Duration = Duration::from_secs(5);

pub(crate) async fn revocation_reaches_ten_listeners(database: TestDatabase) {
    let fleet = Fleet::start(&database, 10).await;
    let cost = fleet.cost_of_revocations(&database, 5).await;
    database.report(&format!("each of 5 revocations on 10 nodes: {cost}"));
}

/// The long form. The limits are far above what was measured, see `benches/README.md`.
pub(crate) async fn two_hundred_listeners_in_an_idle_minute(database: TestDatabase) {
    let fleet = Fleet::start(&database, 200).await;
    let revocation = fleet.cost_of_revocations(&database, 100).await;
    database.report(&format!(
        "each of 100 revocations on 200 nodes: {revocation}"
    ));
    let before = fleet.cost_so_far(&database);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let minute = fleet.cost_so_far(&database).since(&before);
    database.report(&format!("an idle minute of 200 nodes: {minute}"));
    assert!(revocation.cpu_time < Duration::from_millis(200));
    assert!(minute.cpu_time < Duration::from_secs(6));
    assert_eq!(minute.changes, 0, "nothing changed");
}

struct Fleet {
    nodes: Vec<PostgresStore>,
    listeners: Vec<Arc<Arrivals>>,
    traffic: Arc<Traffic>,
}

impl Fleet {
    async fn start(database: &TestDatabase, size: usize) -> Self {
        let traffic = Arc::new(Traffic::default());
        let url = counted(&database.store("fan_out"), Arc::clone(&traffic)).await;
        let (mut nodes, mut listeners) = (Vec::new(), Vec::new());
        for _ in 0..size {
            let node = PostgresStore::connect(&url).await.unwrap();
            let arrivals = Arc::new(Arrivals::default());
            node.subscribe(&(Arc::clone(&arrivals) as Arc<dyn ChangeListener>));
            nodes.push(node);
            listeners.push(arrivals);
        }
        let started = Instant::now();
        let is_connected = |node: &PostgresStore| node.feed_status() == FeedStatus::Connected;
        while !nodes.iter().all(is_connected) {
            assert!(started.elapsed() < TIMEOUT, "a feed does not connect");
            pause().await;
        }
        Self {
            nodes,
            listeners,
            traffic,
        }
    }

    /// Revokes tokens on one node, each after the last one has reached all nodes, and returns the mean
    /// cost and the longest delay.
    async fn cost_of_revocations(&self, database: &TestDatabase, count: u32) -> Cost {
        let tokens = ServiceTokens::new(self.nodes[0].clone());
        let mut ids = Vec::new();
        for number in 0..count {
            let new = NewToken::new(format!("token {number}"));
            ids.push(tokens.create(new).await.unwrap().record().id());
        }
        for id in &ids {
            self.wait_for(*id).await;
        }
        for listener in &self.listeners {
            listener.0.lock().unwrap().clear();
        }
        let before = self.cost_so_far(database);
        let mut longest = Duration::ZERO;
        for id in ids {
            tokens.revoke(id).await.unwrap();
            let acknowledged = Instant::now();
            let last = self.wait_for(id).await;
            longest = longest.max(last.saturating_duration_since(acknowledged));
        }
        let sum = self.cost_so_far(database).since(&before);
        assert!(
            longest < MAX_DELAY,
            "a node got a revocation after {longest:?}"
        );
        Cost {
            cpu_time: sum.cpu_time / count,
            bytes_sent: sum.bytes_sent / u64::from(count),
            bytes_received: sum.bytes_received / u64::from(count),
            changes: sum.changes / usize::try_from(count).unwrap(),
            longest,
        }
    }

    /// Returns when the last node received a change of this token.
    async fn wait_for(&self, id: TokenId) -> Instant {
        let started = Instant::now();
        loop {
            let times = self.listeners.iter().map(|listener| listener.of(id));
            if let Some(times) = times.collect::<Option<Vec<_>>>() {
                return times.into_iter().max().unwrap();
            }
            assert!(started.elapsed() < TIMEOUT, "a node gets no change of {id}");
            pause().await;
        }
    }

    fn cost_so_far(&self, database: &TestDatabase) -> Cost {
        let changes = self.listeners.iter().map(|listener| listener.count());
        Cost {
            cpu_time: database.server().cpu_time(),
            bytes_sent: self.traffic.sent.load(Ordering::Relaxed),
            bytes_received: self.traffic.received.load(Ordering::Relaxed),
            changes: changes.sum(),
            longest: Duration::ZERO,
        }
    }
}

/// When a node received its first change of each token.
#[derive(Default)]
struct Arrivals(Mutex<HashMap<TokenId, Instant>>);

impl Arrivals {
    fn of(&self, id: TokenId) -> Option<Instant> {
        self.0.lock().unwrap().get(&id).copied()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl ChangeListener for Arrivals {
    fn changed(&self, change: &TokenChange) {
        if let TokenChange::Token { id, .. } = change {
            let now = Instant::now();
            self.0.lock().unwrap().entry(*id).or_insert(now);
        }
    }
}

/// What a period cost the server.
struct Cost {
    cpu_time: Duration,
    /// The bytes from the server to the nodes.
    bytes_sent: u64,
    bytes_received: u64,
    /// The changes that reached a node.
    changes: usize,
    longest: Duration,
}

impl Cost {
    fn since(&self, before: &Self) -> Self {
        Self {
            cpu_time: self.cpu_time.saturating_sub(before.cpu_time),
            bytes_sent: self.bytes_sent - before.bytes_sent,
            bytes_received: self.bytes_received - before.bytes_received,
            changes: self.changes - before.changes,
            longest: self.longest,
        }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} of the server's CPU time, {} changes received, {} bytes sent and {} received by \
             the server, the last node after at most {:?}",
            self.cpu_time, self.changes, self.bytes_sent, self.bytes_received, self.longest
        )
    }
}

/// The bytes that passed the proxy.
#[derive(Default)]
struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
}

/// Starts a proxy that counts bytes, and returns the URL that leads through it.
async fn counted(url: &str, traffic: Arc<Traffic>) -> String {
    let (user, rest) = url.split_once('@').unwrap();
    let (server, database) = rest.split_once('/').unwrap();
    let server: SocketAddr = server.parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let Ok(server) = TcpStream::connect(server).await else {
                continue;
            };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let (sent, received) = (Arc::clone(&traffic), Arc::clone(&traffic));
            tokio::spawn(async move { copy(from_client, to_server, &received.received).await });
            tokio::spawn(async move { copy(from_server, to_client, &sent.sent).await });
        }
    });
    format!("{user}@{proxy}/{database}")
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: &AtomicU64) {
    let mut buffer = vec![0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        count.fetch_add(u64::try_from(length).unwrap(), Ordering::Relaxed);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Starts the server of the long test.
pub(crate) fn server() -> Result<Postgres, String> {
    Postgres::private_with_connections(CONNECTIONS)
}
