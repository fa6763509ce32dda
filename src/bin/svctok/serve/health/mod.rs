//! `/healthz` and `/readyz`, and the log lines and gauges of the store's condition.
//!
//! 1. `/healthz` returns 200 while the process runs.
//! 2. `/readyz` returns 200 while tokens can be read, which is all that verification needs.
//!    `/readyz?write` returns 200 while they can be changed too. Other parameters are ignored. The
//!    body names the condition of reads, writes and change feed.
//! 3. `/readyz` returns 200 after the loss of the feed: cached tokens expire anyway, and without
//!    this node its traffic would fail at once.
//! 4. The store is checked every 5 s. Requests cause further checks: at most two of reads and one of
//!    writes per second.
//! 5. One line is logged when reads or writes begin to fail, and one when they work again. The store
//!    itself logs the loss of its feed. Checks end when the service stops.

mod observer;
mod periodic_check;
mod status;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CACHE_CONTROL;
use tokio::sync::watch;
use tokio::time::sleep;
use tower_service_token::reject::FailureLogged;
use tower_service_token::store::FeedStatus;
use tower_service_token::token::TokenId;
use tower_service_token::{TokenStore, internal};

use self::observer::{observer, set_feed_gauge};
use self::periodic_check::{PeriodicCheck, Timing};
use self::status::{Condition, Operation, Status};
use crate::store_handle::StoreHandle;
use crate::store_url::OpenedStore;

const READS: Timing = Timing {
    fresh: Duration::from_millis(500),
    interval: Duration::from_secs(5),
    deadline: Duration::from_secs(2),
};

/// Stores time out earlier, with a more specific error.
const WRITES: Timing = Timing {
    fresh: Duration::from_secs(1),
    interval: Duration::from_secs(5),
    deadline: Duration::from_secs(4),
};

const FEED_INTERVAL: Duration = Duration::from_secs(1);

/// What the health endpoints report.
pub(super) struct Health {
    stopping: watch::Receiver<bool>,
    feed: watch::Receiver<FeedStatus>,
    /// `None` for a token file, which is in memory and read-only.
    checks: Option<Checks>,
}

struct Checks {
    reads: PeriodicCheck,
    writes: PeriodicCheck,
}

impl Health {
    /// Checks the store until the service stops.
    pub(super) fn new(store: OpenedStore, stopping: watch::Receiver<bool>) -> Self {
        let (feed, checks) = match store {
            OpenedStore::Registry(registry) => {
                let checks = Checks::start(&registry, &stopping);
                (follow_feed(registry, &stopping), Some(checks))
            }
            OpenedStore::ReadOnly(store) => (follow_feed(store, &stopping), None),
        };
        Self {
            stopping,
            feed,
            checks,
        }
    }

    async fn status(&self, needed: Operation) -> Status {
        let is_stopping = *self.stopping.borrow();
        let (reads, writes) = match &self.checks {
            None => (Condition::Ok, Condition::ReadOnly),
            Some(Checks { reads, writes }) if is_stopping => (reads.last(), writes.last()),
            Some(Checks { reads, writes }) => match needed {
                Operation::Reads => (reads.fresh().await, writes.last()),
                Operation::Writes => tokio::join!(reads.fresh(), writes.fresh()),
            },
        };
        Status {
            is_stopping: *self.stopping.borrow(),
            reads,
            writes,
            feed: *self.feed.borrow(),
        }
    }
}

impl Checks {
    fn start(registry: &Arc<dyn StoreHandle>, stopping: &watch::Receiver<bool>) -> Self {
        let (store, writable) = (Arc::clone(registry), Arc::clone(registry));
        let id = TokenId::from_i64(1).expect("ids begin at zero");
        let read = async move || store.get(id).await.map(drop);
        let (reads, run) = PeriodicCheck::new(READS, read, observer(Operation::Reads));
        spawn_until_stopped(run, stopping);
        let write = async move || writable.check_writable().await;
        let (writes, run) = PeriodicCheck::new(WRITES, write, observer(Operation::Writes));
        spawn_until_stopped(run, stopping);
        Self { reads, writes }
    }
}

fn follow_feed<S: TokenStore + ?Sized>(
    store: Arc<S>,
    stopping: &watch::Receiver<bool>,
) -> watch::Receiver<FeedStatus> {
    let (states, state) = watch::channel(store.feed_status());
    let follow = async move {
        loop {
            let state = store.feed_status();
            set_feed_gauge(state);
            states.send_replace(state);
            sleep(FEED_INTERVAL).await;
        }
    };
    spawn_until_stopped(follow, stopping);
    state
}

/// Spawns the task, and drops it and its reference to the store when the service stops.
fn spawn_until_stopped(
    task: impl Future<Output = ()> + Send + 'static,
    stopping: &watch::Receiver<bool>,
) {
    let mut stopping = stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = task => {}
            _ = stopping.wait_for(|it| *it) => {}
        }
    });
}

pub(super) fn routes(health: &Arc<Health>) -> Router {
    let alive = async || ([(CACHE_CONTROL, "no-store")], "ok\n");
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(readiness))
        .with_state(Arc::clone(health))
}

async fn readiness(State(health): State<Arc<Health>>, RawQuery(query): RawQuery) -> Response {
    let needed = Operation::from_query(query.as_deref());
    let status = health.status(needed).await;
    let response = status.code(needed).into_response();
    let mut response = internal::with_json(response, status.body(needed));
    // The observer logs changes; a line per probe would let clients fill the log.
    response.extensions_mut().insert(FailureLogged);
    response
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tower_service_token::MemoryStore;
    use tower_service_token::store::file::FileStore;

    use super::*;

    fn code(status: Status) -> StatusCode {
        status.code(Operation::Reads)
    }

    #[tokio::test]
    async fn stopping_service_is_not_ready() {
        let (stopping, stopped) = watch::channel(false);
        let store = OpenedStore::Registry(Arc::new(MemoryStore::new()));
        let health = Health::new(store, stopped);
        assert_eq!(code(health.status(Operation::Reads).await), StatusCode::OK);
        stopping.send(true).unwrap();
        let status = health.status(Operation::Reads).await;
        assert_eq!(code(status), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn checks_drop_the_store_when_the_service_stops() {
        let (stopping, stopped) = watch::channel(false);
        let registry: Arc<dyn StoreHandle> = Arc::new(MemoryStore::new());
        let health = Health::new(OpenedStore::Registry(Arc::clone(&registry)), stopped);
        health.status(Operation::Writes).await;
        assert!(Arc::strong_count(&registry) > 1);
        stopping.send(true).unwrap();
        while Arc::strong_count(&registry) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failing_writes_leave_reads_ready() {
        let (reads, run) = PeriodicCheck::new(READS, async || Ok::<(), ()>(()), |_| {});
        tokio::spawn(run);
        let (writes, run) = PeriodicCheck::new(WRITES, async || Err(()), |_| {});
        tokio::spawn(run);
        let (_stopping, stopping) = watch::channel(false);
        let (_feed, feed) = watch::channel(FeedStatus::Lost);
        let checks = Some(Checks { reads, writes });
        let health = Health {
            stopping,
            feed,
            checks,
        };
        let status = health.status(Operation::Writes).await;
        assert_eq!(status.writes, Condition::Failing);
        assert_eq!(
            status.code(Operation::Writes),
            StatusCode::SERVICE_UNAVAILABLE
        );
        let status = health.status(Operation::Reads).await;
        assert_eq!(
            (status.reads, code(status)),
            (Condition::Ok, StatusCode::OK)
        );
        assert_eq!(status.feed, FeedStatus::Lost);
    }

    #[tokio::test]
    async fn token_file_is_ready_for_reads_only() {
        let name = format!("svctok-health-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "tokens = []").unwrap();
        let store = FileStore::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (_stopping, stopped) = watch::channel(false);
        let health = Health::new(OpenedStore::ReadOnly(Arc::new(store)), stopped);
        let status = health.status(Operation::Writes).await;
        assert_eq!(status.writes, Condition::ReadOnly);
        assert_eq!(code(status), StatusCode::OK);
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(status.code(Operation::Writes), unavailable);
    }
}
