use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use futures::stream::{self, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::principal_end::PrincipalEnd;
use super::watched::Watched;
use crate::clock::Clock;
use crate::principal::Principal;
use crate::store::{ChangeListener, TokenChange, TokenStore};
use crate::token::TokenId;

/// Leaves connections of a pool to requests.
const CONCURRENT_LOOKUPS: usize = 4;

/// The shortest time between two rounds.
const MIN_PAUSE: Duration = Duration::from_millis(10);

/// All watched principals of one watcher, and the task that looks them up.
pub(super) struct WatchList {
    store: Arc<dyn TokenStore>,
    clock: Arc<dyn Clock>,
    bound: Duration,
    subscribed: Once,
    entries: Mutex<Entries>,
    wake: Arc<Notify>,
}

#[derive(Default)]
struct Entries {
    /// Weak, so that a principal is no longer looked up once its streams have ended.
    by_id: HashMap<TokenId, Vec<Weak<Watched>>>,
    is_driven: bool,
}

impl WatchList {
    pub(super) fn new(store: Arc<dyn TokenStore>, clock: Arc<dyn Clock>, bound: Duration) -> Self {
        Self {
            store,
            clock,
            bound,
            subscribed: Once::new(),
            entries: Mutex::default(),
            wake: Arc::default(),
        }
    }

    /// Returns an empty list with another clock and bound.
    pub(super) fn with(&self, clock: Option<Arc<dyn Clock>>, bound: Option<Duration>) -> Self {
        let clock = clock.unwrap_or_else(|| Arc::clone(&self.clock));
        Self::new(Arc::clone(&self.store), clock, bound.unwrap_or(self.bound))
    }

    /// Adds a principal. Starts the task if it is not running.
    pub(super) fn add(self: &Arc<Self>, principal: &Principal) -> Arc<Watched> {
        // Panics before anything changes.
        let runtime = Handle::current();
        self.subscribed.call_once(|| {
            let listener: Arc<dyn ChangeListener> = Arc::clone(self) as _;
            self.store.subscribe(&listener);
        });
        let mut entries = self.entries();
        let of_token = entries.by_id.entry(principal.id()).or_default();
        let mut known = of_token.iter().filter_map(Weak::upgrade);
        let same = known.find(|known| known.is_same(principal));
        let watched = same.unwrap_or_else(|| {
            let watched = Arc::new(Watched::new(principal, self.bound));
            of_token.push(Arc::downgrade(&watched));
            watched
        });
        let is_driven = std::mem::replace(&mut entries.is_driven, true);
        drop(entries);
        if !is_driven {
            // Without the lock: a runtime that shuts down drops the task here.
            runtime.spawn(Driver::new(self).run());
        }
        self.wake.notify_one();
        watched
    }

    /// Judges all principals and looks up those that are due.
    async fn check(&self) {
        let now = Instant::now();
        let bound = (self.bound, !self.store.reports_changes());
        let is_due = |watched: &Arc<Watched>| watched.judge(now, &*self.clock, bound);
        let mut due: Vec<_> = self.all().into_iter().filter(is_due).collect();
        due.sort_by_key(|watched| watched.due_since());
        let lookups = stream::iter(due).for_each_concurrent(CONCURRENT_LOOKUPS, async |watched| {
            let started = Instant::now();
            let changes = watched.start_lookup(started);
            let found = self.store.find_again(watched.id(), watched.digest()).await;
            watched.looked_up(found, started, changes, &*self.clock, bound);
        });
        // Others must be judged meanwhile. The lookups that are cut off are due again.
        let _ = timeout(self.bound / 4, lookups).await;
    }

    /// Returns how long to wait for the next round. Returns `None` if nothing is watched.
    fn pause(&self) -> Option<Duration> {
        let mut entries = self.entries();
        entries.by_id.retain(|_, of_token| {
            let is_open = |it: Arc<Watched>| !it.has_ended();
            of_token.retain(|watched| watched.upgrade().is_some_and(is_open));
            !of_token.is_empty()
        });
        if entries.by_id.is_empty() {
            entries.is_driven = false;
            return None;
        }
        drop(entries);
        let (now, wall) = (Instant::now(), self.clock.now());
        // The wall clock may be set, so times are compared again after half of the bound.
        let mut pause = self.bound / 2;
        for watched in self.all() {
            let until_time = |time: SystemTime| time.duration_since(wall).unwrap_or_default();
            let times = watched.next_time().map(until_time);
            let instant = watched
                .next_instant()
                .map(|it| it.saturating_duration_since(now));
            pause = times.into_iter().chain(instant).fold(pause, Duration::min);
        }
        Some(pause)
    }

    fn all(&self) -> Vec<Arc<Watched>> {
        let entries = self.entries();
        let all = entries.by_id.values().flatten();
        all.filter_map(Weak::upgrade).collect()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // A panic cannot leave the entries inconsistent.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChangeListener for WatchList {
    fn changed(&self, change: &TokenChange) {
        let changed: Vec<Arc<Watched>> = match change {
            TokenChange::Token { id, .. } => {
                let entries = self.entries();
                let of_token = entries.by_id.get(id).into_iter().flatten();
                of_token.filter_map(Weak::upgrade).collect()
            }
            TokenChange::Everything => self.all(),
        };
        for watched in &changed {
            watched.changed(self.bound);
        }
        if !changed.is_empty() {
            self.wake.notify_one();
        }
    }
}

/// The task. It ends when nothing is watched.
struct Driver {
    list: Weak<WatchList>,
    wake: Arc<Notify>,
    is_done: bool,
}

impl Driver {
    fn new(list: &Arc<WatchList>) -> Self {
        Self {
            list: Arc::downgrade(list),
            wake: Arc::clone(&list.wake),
            is_done: false,
        }
    }

    async fn run(mut self) {
        loop {
            let Some(list) = self.list.upgrade() else {
                break;
            };
            list.check().await;
            let Some(pause) = list.pause() else { break };
            drop(list);
            let _ = timeout(pause, self.wake.notified()).await;
            // One round serves all streams that opened and all changes that came meanwhile.
            sleep(MIN_PAUSE).await;
        }
        self.is_done = true;
    }
}

impl Drop for Driver {
    /// Ends all principals if the runtime was shut down, or the store panicked: nothing looks them up
    /// until the next is added.
    fn drop(&mut self) {
        let Some(list) = self.list.upgrade().filter(|_| !self.is_done) else {
            return;
        };
        list.entries().is_driven = false;
        for watched in list.all() {
            watched.end(PrincipalEnd::Unavailable);
        }
    }
}
