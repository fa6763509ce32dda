use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::SetOnce;
use tokio::time::Instant;

use super::budget::Owner;

/// The number of rejected or aborted requests in a row after which a connection is closed.
pub(super) const MAX_REJECTED: usize = 16;

/// The activity of a connection, which decides when it is closed.
pub(super) struct Activity {
    owner: Owner,
    state: Mutex<State>,
    closed: SetOnce<CloseReason>,
}

struct State {
    /// The number of requests whose response is not complete.
    requests: usize,
    /// The number of those that wait for the service, not for the client.
    working: usize,
    has_had_request: bool,
    /// The number of requests that were rejected or aborted since one was answered.
    rejected: usize,
    progress: Instant,
}

/// Why the service closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// Another connection needs its place.
    Full,
    /// It has had no request for too long.
    Idle,
    /// It has reached its maximum age.
    Age,
    /// Its client does not read a response.
    Stalled,
    /// Its client's requests occupy more memory than those of others.
    Overload,
}

impl CloseReason {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Stalled => "stalled",
            Self::Overload => "overload",
        }
    }
}

impl Activity {
    /// Creates the activity of a new connection. The client address is `None` for a declared proxy.
    pub(super) fn new(client: Option<IpAddr>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let connection = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            owner: Owner { connection, client },
            state: Mutex::new(State {
                requests: 0,
                working: 0,
                has_had_request: false,
                rejected: 0,
                progress: Instant::now(),
            }),
            closed: SetOnce::new(),
        }
    }

    /// Returns the client, and an id that is unique among the connections of the process.
    pub(super) fn owner(&self) -> Owner {
        self.owner
    }

    /// Records that the service begins to work on a request.
    pub(super) fn begin_request(&self) {
        self.update(Instant::now(), |state| {
            state.requests += 1;
            state.working += 1;
            state.has_had_request = true;
        });
    }

    /// Records that a request on which the service worked waits for its client.
    pub(super) fn wait_for_client(&self, now: Instant) {
        self.update(now, |state| state.working -= 1);
    }

    /// Records that the service works on a request that has waited for its client.
    pub(super) fn resume_work(&self) {
        self.update(Instant::now(), |state| state.working += 1);
    }

    pub(super) fn end_request(&self, was_working: bool, is_answered: bool) {
        self.update(Instant::now(), |state| {
            if is_answered {
                state.rejected = 0;
            }
            state.requests -= 1;
            state.working -= usize::from(was_working);
        });
    }

    /// Counts a request that is rejected or aborted because of a limit. Closes the connection after
    /// too many in a row, because closed streams occupy memory too.
    pub(super) fn reject_request(&self) {
        let rejected = {
            let mut state = self.state();
            state.rejected += 1;
            state.rejected
        };
        if rejected >= MAX_REJECTED {
            self.close(CloseReason::Overload);
        }
    }

    /// Records that the client has sent or received a part of a body.
    pub(super) fn progress(&self, now: Instant) {
        self.update(now, |_| {});
    }

    pub(super) fn has_had_request(&self) -> bool {
        self.state().has_had_request
    }

    /// Returns the time of the last progress, or `None` while the service works on a request.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.working == 0).then_some(state.progress)
    }

    /// Returns when the last request ended, or `None` while there is one.
    pub(super) fn without_request_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.requests == 0).then_some(state.progress)
    }

    /// Makes the task of the connection close it. The first reason counts.
    pub(super) fn close(&self, reason: CloseReason) {
        let _ = self.closed.set(reason);
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// Waits until the connection is to be closed.
    pub(super) async fn closed(&self) -> CloseReason {
        *self.closed.wait().await
    }

    /// Changes the state and records progress.
    fn update(&self, now: Instant, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.progress = now;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
