use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::fair_queue::Tenant;
use super::stream_limits::{StreamLimits, TooManyStreams};
use super::watched::{Validity, Watched};
use crate::clock::Clock;
use crate::principal::Principal;
use crate::store::{ChangeListener, TokenChange, TokenStore};
use crate::token::TokenId;

/// All watched principals of one watcher.
pub(super) struct WatchList {
    pub(super) store: Arc<dyn TokenStore>,
    pub(super) clock: Arc<dyn Clock>,
    bound: Duration,
    limits: StreamLimits,
    subscribed: Once,
    entries: Mutex<Entries>,
    /// Wakes the task that looks the principals up.
    pub(super) wake: Arc<Notify>,
}

#[derive(Default)]
struct Entries {
    by_id: HashMap<TokenId, Vec<Opened>>,
    /// The number of open streams of each owner.
    per_owner: HashMap<Tenant, usize>,
    /// The number of all open streams.
    total: usize,
    /// The tokens whose principals were added or changed, and not taken by the task yet.
    updated: HashSet<TokenId>,
    has_task: bool,
}

/// A principal with the number of its open streams.
struct Opened {
    watched: Arc<Watched>,
    streams: usize,
}

/// A stream of a principal was added.
pub(super) struct Added {
    pub(super) watched: Arc<Watched>,
    /// Whether the caller must start the task.
    pub(super) needs_task: bool,
}

impl WatchList {
    pub(super) fn new(
        store: Arc<dyn TokenStore>,
        clock: Arc<dyn Clock>,
        bound: Duration,
        limits: StreamLimits,
    ) -> Self {
        Self {
            store,
            clock,
            bound,
            limits,
            subscribed: Once::new(),
            entries: Mutex::default(),
            wake: Arc::default(),
        }
    }

    /// Adds a stream of a principal.
    pub(super) fn add(self: &Arc<Self>, principal: &Principal) -> Result<Added, TooManyStreams> {
        self.subscribed.call_once(|| {
            let listener: Arc<dyn ChangeListener> = Arc::clone(self) as _;
            self.store.subscribe(&listener);
        });
        // Hashes before the lock, which all streams share.
        let opened = Watched::new(principal, self.bound);
        let mut entries = self.entries();
        entries.check_limits(&opened, self.limits)?;
        let watched = entries.open(opened);
        let needs_task = !std::mem::replace(&mut entries.has_task, true);
        drop(entries);
        self.wake.notify_one();
        Ok(Added {
            watched,
            needs_task,
        })
    }

    /// Removes a stream of a principal. It is no longer looked up once its last stream is removed.
    pub(super) fn remove(&self, watched: &Arc<Watched>) {
        self.entries().close(watched);
    }

    /// Takes the principals that were added or changed.
    pub(super) fn take_updated(&self) -> Vec<Arc<Watched>> {
        let mut entries = self.entries();
        let updated = std::mem::take(&mut entries.updated);
        updated
            .iter()
            .flat_map(|id| entries.of_token(*id))
            .collect()
    }

    /// Returns all principals, and forgets which were added or changed.
    pub(super) fn take_all(&self) -> Vec<Arc<Watched>> {
        let mut entries = self.entries();
        entries.updated.clear();
        entries.all()
    }

    /// Returns whether no principal is left that may end. If so, the caller must end the task.
    pub(super) fn end_task_if_idle(&self) -> bool {
        let mut entries = self.entries();
        let mut opened = entries.by_id.values().flatten();
        let is_idle = opened.all(|it| it.watched.has_ended());
        entries.has_task &= !is_idle;
        is_idle
    }

    /// Records that the task was aborted. Returns all principals.
    pub(super) fn task_aborted(&self) -> Vec<Arc<Watched>> {
        let mut entries = self.entries();
        entries.has_task = false;
        entries.all()
    }

    pub(super) fn bound(&self) -> Duration {
        self.bound
    }

    pub(super) fn validity(&self) -> Validity {
        Validity {
            bound: self.bound,
            reports_changes: self.store.reports_changes(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // A panic cannot leave the entries inconsistent.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn check_limits(&self, opened: &Watched, limits: StreamLimits) -> Result<(), TooManyStreams> {
        let of_token = self.by_id.get(&opened.id()).into_iter().flatten();
        let per_token: usize = of_token.map(|it| it.streams).sum();
        let of_owner = self.per_owner.get(opened.tenant());
        let per_owner = of_owner.copied().unwrap_or_default();
        let has_owner = matches!(opened.tenant(), Tenant::Owner(_));
        if per_token >= limits.per_token() {
            Err(TooManyStreams::PerToken)
        } else if has_owner && per_owner >= limits.per_owner() {
            Err(TooManyStreams::PerOwner)
        } else if self.total >= limits.total() {
            Err(TooManyStreams::InTotal)
        } else {
            Ok(())
        }
    }

    fn open(&mut self, opened: Watched) -> Arc<Watched> {
        let of_token = self.by_id.entry(opened.id()).or_default();
        let known = of_token.iter_mut().find(|it| it.watched.is_same(&opened));
        let watched = if let Some(known) = known {
            known.streams += 1;
            Arc::clone(&known.watched)
        } else {
            let watched = Arc::new(opened);
            self.updated.insert(watched.id());
            of_token.push(Opened {
                watched: Arc::clone(&watched),
                streams: 1,
            });
            watched
        };
        if let Tenant::Owner(_) = watched.tenant() {
            *self.per_owner.entry(watched.tenant().clone()).or_default() += 1;
        }
        self.total += 1;
        watched
    }

    fn close(&mut self, watched: &Arc<Watched>) {
        if let Entry::Occupied(mut of_token) = self.by_id.entry(watched.id()) {
            of_token.get_mut().retain_mut(|it| {
                it.streams -= usize::from(Arc::ptr_eq(&it.watched, watched));
                it.streams > 0
            });
            if of_token.get().is_empty() {
                of_token.remove();
            }
        }
        self.total -= 1;
        if let Entry::Occupied(mut count) = self.per_owner.entry(watched.tenant().clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    fn of_token(&self, id: TokenId) -> impl Iterator<Item = Arc<Watched>> {
        let opened = self.by_id.get(&id).into_iter().flatten();
        opened.map(|it| Arc::clone(&it.watched))
    }

    fn all(&self) -> Vec<Arc<Watched>> {
        let opened = self.by_id.values().flatten();
        opened.map(|it| Arc::clone(&it.watched)).collect()
    }
}

impl ChangeListener for WatchList {
    fn changed(&self, change: &TokenChange) {
        let mut entries = self.entries();
        let changed: Vec<_> = match change {
            TokenChange::Token { id, .. } => entries.of_token(*id).collect(),
            TokenChange::Everything => entries.all(),
        };
        for watched in &changed {
            watched.changed(self.bound);
            entries.updated.insert(watched.id());
        }
        drop(entries);
        if !changed.is_empty() {
            self.wake.notify_one();
        }
    }
}
