use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, Either, FutureExt, pending, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;
use tokio::task::consume_budget;
use tokio::time::{Instant, timeout, timeout_at};

use super::fair_queue::FairQueue;
use super::principal_end::PrincipalEnd;
use super::watch_list::WatchList;
use super::watched::{Validity, Watched};
use crate::store::{StoreError, TokenRecord, TokenStore};

/// Leaves connections of a pool to requests.
const CONCURRENT_LOOKUPS: usize = 4;

/// One check serves all streams that opened and all changes that came within this time.
const UPDATE_DELAY: Duration = Duration::from_millis(10);

/// The longest time by which a check of all principals is delayed, so that they are not visited for each
/// of them.
const MAX_CHECK_DELAY: Duration = Duration::from_millis(100);

/// The task that looks up the principals of a [`WatchList`]. It ends when nothing is watched.
pub(super) struct WatchTask {
    list: Weak<WatchList>,
    wake: Arc<Notify>,
    /// Weak, so that a principal is no longer looked up once its streams have ended.
    queue: FairQueue<Weak<Watched>>,
    lookups: FuturesUnordered<BoxFuture<'static, Lookup>>,
    /// When all principals are checked.
    check_all_at: Instant,
    /// When those that were added or changed are checked.
    check_updated_at: Option<Instant>,
    is_done: bool,
}

/// A lookup that has ended.
struct Lookup {
    watched: Arc<Watched>,
    /// `None` if it took too long.
    found: Option<Result<Option<TokenRecord>, StoreError>>,
    started: Instant,
    changes: u64,
}

impl WatchTask {
    pub(super) fn new(list: &Arc<WatchList>) -> Self {
        Self {
            list: Arc::downgrade(list),
            wake: Arc::clone(&list.wake),
            queue: FairQueue::new(CONCURRENT_LOOKUPS),
            lookups: FuturesUnordered::new(),
            check_all_at: Instant::now(),
            check_updated_at: None,
            is_done: false,
        }
    }

    pub(super) async fn run(mut self) {
        while let Some(list) = self.list.upgrade() {
            if self.check(&list) && list.end_task_if_idle() {
                break;
            }
            self.start_lookups(&list);
            drop(list);
            self.wait().await;
        }
        self.is_done = true;
    }

    /// Checks the principals whose check is due. Returns whether all were checked.
    fn check(&mut self, list: &WatchList) -> bool {
        let now = Instant::now();
        let checks_all = now >= self.check_all_at;
        let principals = if checks_all {
            self.check_all_at = now + list.bound() / 2;
            list.take_all()
        } else if self.check_updated_at.is_some_and(|at| now >= at) {
            list.take_updated()
        } else {
            return false;
        };
        self.check_updated_at = None;
        let validity = list.validity();
        for watched in principals {
            self.check_one(list, &watched, now, validity);
        }
        checks_all
    }

    fn check_one(
        &mut self,
        list: &WatchList,
        watched: &Arc<Watched>,
        now: Instant,
        validity: Validity,
    ) {
        let checked = watched.check(now, &*list.clock, validity);
        if checked.is_due {
            self.queue.push(watched.tenant(), Arc::downgrade(watched));
        }
        let delay = (validity.bound / 100).min(MAX_CHECK_DELAY);
        let next = checked.next.max(now + delay);
        self.check_all_at = self.check_all_at.min(next);
    }

    fn start_lookups(&mut self, list: &WatchList) {
        while let Some((tenant, watched)) = self.queue.start() {
            let open = watched.upgrade().filter(|it| !it.has_ended());
            match open {
                None => self.queue.finish(&tenant),
                Some(watched) => {
                    let lookup = look_up(Arc::clone(&list.store), watched, list.bound() / 4);
                    self.lookups.push(lookup.boxed());
                }
            }
        }
    }

    /// Waits until a lookup has ended, principals were added or changed, or a check is due.
    async fn wait(&mut self) {
        let check_at = self.check_updated_at.unwrap_or(self.check_all_at);
        let event = {
            let woken = pin!(self.wake.notified());
            let lookup = pin!(next_of(&mut self.lookups));
            let event = timeout_at(check_at.min(self.check_all_at), select(woken, lookup)).await;
            event.map(|event| match event {
                Either::Left(_) => None,
                Either::Right((lookup, _)) => Some(lookup),
            })
        };
        match event {
            Err(_) => {}
            Ok(None) => {
                let check_at = Instant::now() + UPDATE_DELAY;
                self.check_updated_at.get_or_insert(check_at);
            }
            Ok(Some(lookup)) => self.finish(lookup),
        }
        // The lookups of a store in memory never wait.
        consume_budget().await;
    }

    fn finish(&mut self, lookup: Lookup) {
        let watched = lookup.watched;
        self.queue.finish(watched.tenant());
        let Some(list) = self.list.upgrade() else {
            return;
        };
        let (started, changes) = (lookup.started, lookup.changes);
        let validity = list.validity();
        watched.looked_up(lookup.found, started, changes, &*list.clock, validity);
        self.check_one(&list, &watched, Instant::now(), validity);
    }
}

/// Returns the next result. Waits forever if nothing runs.
async fn next_of<F: Future>(running: &mut FuturesUnordered<F>) -> F::Output {
    match running.next().await {
        Some(result) => result,
        None => pending().await,
    }
}

async fn look_up(store: Arc<dyn TokenStore>, watched: Arc<Watched>, limit: Duration) -> Lookup {
    let started = Instant::now();
    let changes = watched.start_lookup();
    let lookup = async { store.find_again(watched.id(), watched.digest()).await };
    // A panic at the record of one token must not end the streams of others.
    let found = match timeout(limit, AssertUnwindSafe(lookup).catch_unwind()).await {
        Err(_) => None,
        Ok(Ok(found)) => Some(found),
        Ok(Err(_)) => {
            watched.end(PrincipalEnd::Unavailable);
            None
        }
    };
    Lookup {
        watched,
        found,
        started,
        changes,
    }
}

impl Drop for WatchTask {
    /// Ends all principals if the runtime was shut down: nothing looks them up until the next is added.
    fn drop(&mut self) {
        let Some(list) = self.list.upgrade().filter(|_| !self.is_done) else {
            return;
        };
        for watched in list.task_aborted() {
            watched.end(PrincipalEnd::Unavailable);
        }
    }
}
