use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::principal_end::PrincipalEnd;
use crate::clock::Clock;
use crate::digest::TokenDigest;
use crate::principal::Principal;
use crate::store::{StoreError, TokenRecord, verdict_again};
use crate::ticket_store::RightsDigest;
use crate::token::TokenId;

/// How long after a failed lookup the next one starts.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A principal that streams depend on. Streams of the same token share one.
pub(super) struct Watched {
    id: TokenId,
    digest: TokenDigest,
    rights: RightsDigest,
    end: watch::Sender<Option<PrincipalEnd>>,
    state: Mutex<State>,
}

struct State {
    /// The principal at the last lookup.
    principal: Principal,
    /// How many changes were reported.
    changes: u64,
    needs_lookup: bool,
    not_before: Instant,
    looked_up_at: Instant,
    /// When the principal ends unless a lookup succeeds.
    deadline: Option<Instant>,
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
            end: watch::Sender::new(None),
            state: Mutex::new(State {
                principal: principal.clone(),
                changes: 0,
                needs_lookup: true,
                not_before: now,
                looked_up_at: now,
                deadline: Some(now + bound),
            }),
        }
    }

    /// Returns whether this is the same secret with the same rights, and has not ended.
    pub(super) fn is_same(&self, principal: &Principal) -> bool {
        self.digest == principal.presented_digest()
            && self.rights == RightsDigest::of(principal)
            && !self.has_ended()
    }

    pub(super) fn id(&self) -> TokenId {
        self.id
    }

    pub(super) fn digest(&self) -> &TokenDigest {
        &self.digest
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

    /// Ends the principal if its times or the deadline have passed. Returns whether a lookup is due.
    pub(super) fn judge(
        &self,
        now: Instant,
        clock: &dyn Clock,
        (bound, reports_no_changes): (Duration, bool),
    ) -> bool {
        let mut state = self.state();
        if reports_no_changes {
            // The store stopped reporting changes.
            state.deadline.get_or_insert(now + bound);
            state.needs_lookup |= now >= state.looked_up_at + bound / 2;
        }
        let record = state.principal.record().clone();
        let judged = verdict_again(Some(record), &self.digest, clock);
        if let Err(denial) = judged {
            self.end(denial.kind().into());
        } else if state.deadline.is_some_and(|deadline| now >= deadline) {
            self.end(PrincipalEnd::Unavailable);
        }
        state.needs_lookup && now >= state.not_before && !self.has_ended()
    }

    /// Returns since when a lookup is due.
    pub(super) fn due_since(&self) -> Instant {
        self.state().not_before
    }

    /// Starts a lookup. Returns how many changes were reported, to pass to
    /// [`looked_up`](Self::looked_up).
    pub(super) fn start_lookup(&self, now: Instant) -> u64 {
        let mut state = self.state();
        // If it fails, others go first.
        state.not_before = now + RETRY_DELAY;
        state.changes
    }

    /// Applies the result of a lookup that started at `started`, after `changes` changes.
    pub(super) fn looked_up(
        &self,
        found: Result<Option<TokenRecord>, StoreError>,
        started: Instant,
        changes: u64,
        clock: &dyn Clock,
        (bound, reports_no_changes): (Duration, bool),
    ) {
        let Ok(found) = found else { return };
        let principal = match verdict_again(found, &self.digest, clock) {
            Err(denial) => return self.end(denial.kind().into()),
            Ok(principal) => principal,
        };
        if principal.id() != self.id || RightsDigest::of(&principal) != self.rights {
            return self.end(PrincipalEnd::RightsChanged);
        }
        let mut state = self.state();
        state.principal = principal;
        state.looked_up_at = started;
        state.not_before = started;
        // A change during the lookup requires another one.
        state.needs_lookup = state.changes != changes;
        let is_limited = reports_no_changes || state.needs_lookup;
        state.deadline = is_limited.then(|| started + bound);
    }

    /// Returns when the next judgement is due because of the times of the token.
    pub(super) fn next_time(&self) -> Option<SystemTime> {
        let state = self.state();
        let record = state.principal.record();
        let grace_end = record.grace_ends_at();
        let grace_end = grace_end.filter(|_| state.principal.uses_previous_secret());
        record.expires_at().into_iter().chain(grace_end).min()
    }

    /// Returns when the next lookup or the deadline is due, if there is one.
    pub(super) fn next_instant(&self) -> Option<Instant> {
        let state = self.state();
        let lookup = state.needs_lookup.then_some(state.not_before);
        lookup.into_iter().chain(state.deadline).min()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
