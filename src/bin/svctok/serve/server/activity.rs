use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

/// How many requests in a row a connection may have refused or cut off.
pub(super) const MAX_REJECTED: usize = 16;

/// What a connection does, as far as it matters for closing it.
pub(super) struct Activity {
    id: u64,
    state: Mutex<State>,
    closing: Notify,
}

struct State {
    /// Requests that are not answered completely.
    requests: usize,
    /// Those among them that wait for the service, not for the client.
    working: usize,
    has_had_request: bool,
    /// Requests that were refused or cut off since one was answered.
    rejected: usize,
    progress: Instant,
    closed: Option<CloseReason>,
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
    /// Its client does not take a response.
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
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            state: Mutex::new(State {
                requests: 0,
                working: 0,
                has_had_request: false,
                rejected: 0,
                progress: Instant::now(),
                closed: None,
            }),
            closing: Notify::new(),
        }
    }

    /// Of this process's connections, each has another.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// A request begins, and the service works on it.
    pub(super) fn begin_request(&self) {
        let mut state = self.state();
        state.requests += 1;
        state.working += 1;
        state.has_had_request = true;
        state.progress = Instant::now();
    }

    /// A request on which the service worked waits for its client.
    pub(super) fn wait_for_client(&self) {
        self.state().working -= 1;
    }

    /// The service works on a request that has waited for its client.
    pub(super) fn resume_work(&self) {
        self.state().working += 1;
    }

    pub(super) fn end_request(&self, was_working: bool, is_answered: bool) {
        let mut state = self.state();
        if is_answered {
            state.rejected = 0;
        }
        state.requests -= 1;
        state.working -= usize::from(was_working);
        state.progress = Instant::now();
    }

    /// Counts a request that is refused or cut off for want of room or progress. Too many in a row
    /// end the connection: its closed streams occupy memory as well.
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

    /// The client has sent or taken a part of a body.
    pub(super) fn progress(&self) {
        self.state().progress = Instant::now();
    }

    pub(super) fn has_had_request(&self) -> bool {
        self.state().has_had_request
    }

    /// Since when nothing happens that the service does; `None` while it works on a request.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.working == 0).then_some(state.progress)
    }

    /// Since when there is no request, or `None` while there is one.
    pub(super) fn without_request_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.requests == 0).then_some(state.progress)
    }

    /// Makes the connection's task end it. The first reason counts.
    pub(super) fn close(&self, reason: CloseReason) {
        self.state().closed.get_or_insert(reason);
        self.closing.notify_one();
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed.is_some()
    }

    /// Waits until the connection is to be closed. One task may wait at a time.
    pub(super) async fn closed(&self) -> CloseReason {
        loop {
            let reason = self.state().closed;
            if let Some(reason) = reason {
                return reason;
            }
            self.closing.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
