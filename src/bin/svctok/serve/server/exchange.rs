use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::request;
use tokio::sync::SetOnce;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::activity::{Activity, CloseReason};
use super::in_flight::{Evict, InFlight, Overloaded};
use super::rejection_log::RejectionLog;

/// The bytes that a request occupies by itself: 5 KiB for its task and stream, and the included
/// parts of its head and response.
pub(super) const BASE_COST: usize = 5 * 1024 + INCLUDED_HEAD + INCLUDED_RESPONSE;

/// The bytes of a head that are reserved for each request.
const INCLUDED_HEAD: usize = 1024;

/// The bytes of a response's body that are reserved before the request is handled: a committed
/// change must not lose its response, which may contain a secret.
pub(super) const INCLUDED_RESPONSE: usize = 2 * 1024;

/// The bytes that a part of a body occupies beyond its length.
const FRAME_COST: usize = 96;

/// The bytes that a header occupies beyond its name and value.
pub(super) const HEADER_COST: usize = 112;

/// The time in which a client must send a part of a request's body or receive one of a response's.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The time in which a client must receive the whole body of a response.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(120);

/// A request and its response, from the request's head to the last byte of the response.
pub(super) struct Exchange {
    id: u64,
    in_flight: Arc<InFlight>,
    activity: Arc<Activity>,
    /// Whether other exchanges share its connection, as in HTTP/2.
    is_multiplexed: bool,
    state: Mutex<State>,
    /// Set under the lock of the state.
    ended: SetOnce<EndReason>,
}

struct State {
    phase: Phase,
    /// Bytes of the request's body.
    received: usize,
    /// Whether the response has begun, after which the request's body no longer matters.
    is_answered: bool,
    /// The task that sends the response, if others share the connection.
    task: Option<AbortHandle>,
}

#[derive(Clone, Copy)]
enum Phase {
    /// The service works on it.
    Working,
    /// It waits for the request's body.
    Receiving { progress: Instant },
    /// It waits for the client to receive the response.
    Sending { since: Instant, progress: Instant },
}

/// Why the service ends an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndReason {
    /// Other requests need the memory.
    Overload,
    /// Its client sends no part of the request, or receives none of the response.
    Stalled,
}

impl Exchange {
    /// Begins an exchange on the connection of this activity. The request's head occupies `head`
    /// bytes.
    pub(super) fn begin(
        in_flight: &Arc<InFlight>,
        activity: &Arc<Activity>,
        head: usize,
        is_multiplexed: bool,
    ) -> Result<Arc<Self>, Overloaded> {
        let bytes = BASE_COST + head.saturating_sub(INCLUDED_HEAD);
        in_flight.insert(activity.owner(), bytes, |id| {
            activity.begin_request();
            Self {
                id,
                in_flight: Arc::clone(in_flight),
                activity: Arc::clone(activity),
                is_multiplexed,
                state: Mutex::new(State {
                    phase: Phase::Working,
                    received: 0,
                    is_answered: false,
                    task: None,
                }),
                ended: SetOnce::new(),
            }
        })
    }

    pub(super) fn rejections(&self) -> &RejectionLog {
        self.in_flight.rejections()
    }

    /// Sets the task that sends the response, which is aborted if the exchange ends meanwhile.
    pub(super) fn set_task(&self, task: AbortHandle) {
        let mut state = self.state();
        if self.ended.get().is_some() && state.is_answered {
            task.abort();
        }
        state.task = Some(task);
    }

    /// Marks an exchange that waits for the request's body, unless the response has begun.
    pub(super) fn wait_for_body(&self) {
        let now = Instant::now();
        self.wait(Phase::Receiving { progress: now }, now);
    }

    /// Marks an exchange whose response is on its way to the client.
    pub(super) fn start_sending(&self) {
        let now = Instant::now();
        let (since, progress) = (now, now);
        self.wait(Phase::Sending { since, progress }, now);
    }

    fn wait(&self, phase: Phase, now: Instant) {
        {
            let mut state = self.state();
            let is_late = state.is_answered && matches!(phase, Phase::Receiving { .. });
            if !matches!(state.phase, Phase::Working) || is_late {
                return;
            }
            state.phase = phase;
        }
        self.activity.wait_for_client(now);
        self.in_flight.update(|budget| budget.mark_waiting(self.id));
    }

    /// Marks an exchange that has received its body. Returns an error if it has ended, or ends
    /// because its client holds its share already.
    pub(super) fn resume_work(&self) -> Result<(), EndReason> {
        let is_waiting = matches!(self.state().phase, Phase::Receiving { .. });
        // First of all, so that it is no longer evicted.
        if is_waiting
            && self
                .in_flight
                .allocate(|budget| budget.resume(self.id))
                .is_err()
        {
            self.abort(EndReason::Overload);
        }
        {
            let mut state = self.state();
            if let Some(reason) = self.end_reason() {
                return Err(reason);
            }
            if !matches!(state.phase, Phase::Receiving { .. }) {
                return Ok(());
            }
            state.phase = Phase::Working;
        }
        self.activity.resume_work();
        Ok(())
    }

    /// Begins the response, releases the request's body, and reserves the bytes of a body of known
    /// length. Returns an error if the exchange has ended, or there is no room.
    pub(super) fn begin_response(
        self: &Arc<Self>,
        length: Option<u64>,
    ) -> Result<Option<Reservation>, EndReason> {
        self.resume_work()?;
        let received = {
            let mut state = self.state();
            if let Some(reason) = self.end_reason() {
                return Err(reason);
            }
            state.is_answered = true;
            std::mem::take(&mut state.received)
        };
        // The request's body is no longer held.
        self.in_flight
            .update(|budget| budget.release(self.id, received));
        let Some(length @ 1..) = length else {
            return Ok(None);
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX / 2);
        let beyond = length.saturating_sub(INCLUDED_RESPONSE);
        let reservation = self.reserve(beyond);
        reservation.map(Some).map_err(|_| EndReason::Overload)
    }

    /// Adds the bytes of a part of the request's body.
    pub(super) fn receive(&self, bytes: usize) -> Result<(), Overloaded> {
        let bytes = bytes + FRAME_COST;
        self.in_flight
            .allocate(|budget| budget.receive(self.id, bytes))?;
        self.state().received += bytes;
        Ok(())
    }

    pub(super) fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reservation, Overloaded> {
        self.in_flight
            .allocate(|budget| budget.reserve(self.id, bytes))?;
        Ok(Reservation {
            exchange: Arc::clone(self),
            bytes,
        })
    }

    /// Records that the client has received a part of the response.
    pub(super) fn progress(&self) {
        let now = Instant::now();
        if let Phase::Sending { progress, .. } = &mut self.state().phase {
            *progress = now;
        }
        self.activity.progress(now);
    }

    /// Ends the exchange: rejects a request whose body is incomplete, and aborts a response.
    pub(super) fn abort(&self, reason: EndReason) {
        self.end(self.state(), reason);
    }

    /// Ends the exchange under the lock under which its phase was read, so that the service cannot
    /// resume it meanwhile.
    fn end(&self, state: MutexGuard<'_, State>, reason: EndReason) {
        if self.ended.set(reason).is_err() {
            return;
        }
        let reason = reason.for_connection();
        metrics::counter!("svctok_requests_aborted_total", "reason" => reason.label()).increment(1);
        if state.is_answered {
            match (&state.task, self.is_multiplexed) {
                (Some(task), _) => task.abort(),
                // `set_task` aborts it.
                (None, true) => {}
                (None, false) => self.activity.close(reason),
            }
        }
        drop(state);
        self.activity.reject_request();
    }

    /// Waits until the service ends the exchange.
    pub(super) async fn ended(&self) -> EndReason {
        *self.ended.wait().await
    }

    /// Returns why the exchange has ended, if it has.
    pub(super) fn end_reason(&self) -> Option<EndReason> {
        self.ended.get().copied()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Evict for Exchange {
    fn evict(&self) {
        let state = self.state();
        if !matches!(state.phase, Phase::Working) {
            self.end(state, EndReason::Overload);
        }
    }

    fn evict_if_stalled(&self) {
        let state = self.state();
        if is_stalled(state.phase, Instant::now()) {
            self.end(state, EndReason::Stalled);
        }
    }
}

/// Returns the bytes that the head of a request occupies.
pub(super) fn head_size(head: &request::Parts) -> usize {
    let uri = &head.uri;
    let target = uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    let authority = uri
        .authority()
        .map_or(0, |authority| authority.as_str().len());
    let headers = head.headers.iter();
    let headers = headers.map(|(name, value)| name.as_str().len() + value.len() + HEADER_COST);
    target + authority + headers.sum::<usize>()
}

fn is_stalled(phase: Phase, now: Instant) -> bool {
    match phase {
        Phase::Working => false,
        Phase::Receiving { progress } => now - progress >= STALL_TIMEOUT,
        Phase::Sending { since, progress } => {
            now - progress >= STALL_TIMEOUT || now - since >= RESPONSE_TIMEOUT
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let (was_working, is_answered) = {
            let state = self.state();
            (
                matches!(state.phase, Phase::Working),
                self.ended.get().is_none(),
            )
        };
        self.activity.end_request(was_working, is_answered);
        self.in_flight.update(|budget| budget.remove(self.id));
    }
}

impl EndReason {
    /// Returns the same reason for a connection.
    fn for_connection(self) -> CloseReason {
        match self {
            Self::Overload => CloseReason::Overload,
            Self::Stalled => CloseReason::Stalled,
        }
    }
}

/// Bytes of a response, released on drop.
pub(super) struct Reservation {
    exchange: Arc<Exchange>,
    bytes: usize,
}

impl Reservation {
    pub(super) fn exchange(&self) -> &Exchange {
        &self.exchange
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Exchange { id, in_flight, .. } = &*self.exchange;
        in_flight.update(|budget| budget.release(*id, self.bytes));
    }
}
