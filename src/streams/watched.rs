use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::fair_queue::Tenant;
use super::principal_end::PrincipalEnd;
use crate::clock::Clock;
use crate::digest::TokenDigest;
use crate::principal::{Principal, RightsDigest};
use crate::store::{StoreError, TokenRecord, verdict_again};
use crate::token::TokenId;

/// How long after a failed lookup the next one starts.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A principal that streams depend on. Streams of the same token share one.
pub(super) struct Watched {
    id: TokenId,
    digest: TokenDigest,
    rights: RightsDigest,
    tenant: Tenant,
    end: watch::Sender<Option<PrincipalEnd>>,
    state: Mutex<State>,
}

struct State {
    /// The principal at the last lookup.
    principal: Principal,
    /// How many changes were reported.
    changes: u64,
    needs_lookup: bool,
    /// Whether a lookup waits for its turn, or runs.
    is_queued: bool,
    not_before: Instant,
    looked_up_at: Instant,
    /// When the principal ends unless a lookup succeeds.
    deadline: Option<Instant>,
}

/// How long the result of a lookup is valid.
#[derive(Clone, Copy)]
pub(super) struct Validity {
    /// For how long a stream may be open without a successful lookup.
    pub(super) bound: Duration,
    /// Whether the store reports all changes, so that a lookup is due only after one.
    pub(super) reports_changes: bool,
}

/// The result of [`Watched::check`].
pub(super) struct Checked {
    /// Whether to queue a lookup.
    pub(super) is_due: bool,
    /// When the next check is due.
    pub(super) next: Instant,
}

impl Watched {
    /// Creates a principal that must be looked up at once: it may come from a cache, and its token may
    /// have changed since.
    pub(super) fn new(principal: &Principal, bound: Duration) -> Self {
        let now = Instant::now();
        Self {
            id: principal.id(),
            digest: principal.presented_digest(),
            rights: RightsDigest::of(principal),
            tenant: Tenant::of(principal),
            end: watch::Sender::new(None),
            state: Mutex::new(State {
                principal: principal.clone(),
                changes: 0,
                needs_lookup: true,
                is_queued: false,
                not_before: now,
                looked_up_at: now,
                deadline: Some(now + bound),
            }),
        }
    }

    /// Returns whether the other has the same secret and rights, and this has not ended.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest && self.rights == other.rights && !self.has_ended()
    }

    pub(super) fn id(&self) -> TokenId {
        self.id
    }

    pub(super) fn digest(&self) -> &TokenDigest {
        &self.digest
    }

    pub(super) fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<PrincipalEnd>> {
        self.end.subscribe()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Ends the principal unless it has ended.
    pub(super) fn end(&self, reason: PrincipalEnd) {
        self.end.send_if_modified(|end| {
            let is_first = end.is_none();
            end.get_or_insert(reason);
            is_first
        });
    }

    /// Records that the token may have changed.
    pub(super) fn changed(&self, bound: Duration) {
        let mut state = self.state();
        state.changes += 1;
        state.needs_lookup = true;
        let now = Instant::now();
        state.not_before = now;
        let deadline = now + bound;
        state.deadline = Some(state.deadline.map_or(deadline, |it| it.min(deadline)));
    }

    /// Ends the principal if its times or the deadline have passed. Otherwise it may need a lookup.
    pub(super) fn check(&self, now: Instant, clock: &dyn Clock, validity: Validity) -> Checked {
        let mut state = self.state();
        let poll_at = state.looked_up_at + validity.bound / 2;
        if !validity.reports_changes {
            // The store may have stopped to report changes.
            state.deadline.get_or_insert(now + validity.bound);
        }
        state.needs_lookup |= state.deadline.is_some() && now >= poll_at;
        let record = state.principal.record().clone();
        if let Err(denial) = verdict_again(Some(record), &self.digest, clock) {
            self.end(denial.kind().into());
        } else if state.deadline.is_some_and(|deadline| now >= deadline) {
            self.end(PrincipalEnd::Unavailable);
        }
        // The wall clock may be set, so times are compared again after half of the bound.
        let latest = now + validity.bound / 2;
        if self.has_ended() {
            return Checked {
                is_due: false,
                next: latest,
            };
        }
        let is_wanted = state.needs_lookup && !state.is_queued;
        let is_due = is_wanted && now >= state.not_before;
        state.is_queued |= is_due;
        let lookup_at = if is_wanted {
            Some(state.not_before)
        } else {
            state.deadline.map(|_| poll_at)
        };
        let lookup_at = lookup_at.filter(|_| !state.is_queued);
        let next = now + state.until_next_time(clock).min(validity.bound / 2);
        let instants = lookup_at.into_iter().chain(state.deadline);
        let next = instants.fold(next, Instant::min);
        Checked { is_due, next }
    }

    /// Starts a lookup. Returns how many changes were reported, to pass to
    /// [`looked_up`](Self::looked_up).
    pub(super) fn start_lookup(&self) -> u64 {
        self.state().changes
    }

    /// Applies the result of a lookup that started at `started`, after `changes` changes. It is `None`
    /// if the lookup took too long.
    pub(super) fn looked_up(
        &self,
        found: Option<Result<Option<TokenRecord>, StoreError>>,
        started: Instant,
        changes: u64,
        clock: &dyn Clock,
        validity: Validity,
    ) {
        let mut state = self.state();
        state.is_queued = false;
        let Some(Ok(found)) = found else {
            // Others go first.
            state.not_before = Instant::now() + RETRY_DELAY;
            return;
        };
        let principal = match verdict_again(found, &self.digest, clock) {
            Err(denial) => return self.end(denial.kind().into()),
            Ok(principal) => principal,
        };
        if principal.id() != self.id || RightsDigest::of(&principal) != self.rights {
            return self.end(PrincipalEnd::RightsChanged);
        }
        state.principal = principal;
        state.looked_up_at = started;
        state.not_before = started;
        // A change during the lookup requires another one.
        state.needs_lookup = state.changes != changes;
        let is_limited = !validity.reports_changes || state.needs_lookup;
        state.deadline = is_limited.then(|| started + validity.bound);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns how long it is until the token expires, or the grace period of its secret ends.
    fn until_next_time(&self, clock: &dyn Clock) -> Duration {
        let record = self.principal.record();
        let grace_end = record.grace_ends_at();
        let grace_end = grace_end.filter(|_| self.principal.uses_previous_secret());
        let next = record.expires_at().into_iter().chain(grace_end).min();
        next.map_or(Duration::MAX, |time| {
            time.duration_since(clock.now()).unwrap_or_default()
        })
    }
}
