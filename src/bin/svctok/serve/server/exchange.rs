use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::request;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::activity::{Activity, CloseReason};
use super::budget::Owner;
use super::in_flight::{Evict, InFlight, Overloaded};
use super::rejection_log::RejectionLog;

/// What a request occupies by itself: 5 KiB for its task and its stream, the included part of its
/// head, and that of its response, in bytes.
pub(super) const BASE_COST: usize = 5 * 1024 + INCLUDED_HEAD + INCLUDED_RESPONSE;

/// The part of a head that is reserved for each request, in bytes.
const INCLUDED_HEAD: usize = 1024;

/// The part of a response's body that is reserved before the request is handled, in bytes: a change
/// that was committed must not lose its response, which may hold a secret.
pub(super) const INCLUDED_RESPONSE: usize = 2 * 1024;

/// What a part of a body occupies beyond its length, in bytes.
const FRAME_COST: usize = 96;

/// What a header occupies beyond its name and its value, in bytes.
pub(super) const HEADER_COST: usize = 112;

/// How long a client may send no part of a request's body, or take none of a response's.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take for the whole body of a response.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(120);

/// A request and its response, from the request's head to the last byte of the response.
pub(super) struct Exchange {
    id: u64,
    in_flight: Arc<InFlight>,
    activity: Arc<Activity>,
    /// Whether other exchanges share its connection, by HTTP/2.
    is_multiplexed: bool,
    state: Mutex<State>,
    ending: Notify,
}

struct State {
    phase: Phase,
    /// Bytes of the request's body.
    received: usize,
    /// Whether the response has begun, after which the request's body no longer matters.
    is_answered: bool,
    ended: Option<EndReason>,
    /// The task that sends the response, if others share the connection.
    task: Option<AbortHandle>,
}

#[derive(Clone, Copy)]
enum Phase {
    /// Waits for the service.
    Working,
    /// Waits for the request's body.
    Receiving {
        progress: Instant,
    },
    Sending {
        since: Instant,
        progress: Instant,
    },
}

/// Why the service ends an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndReason {
    /// Other requests need the memory.
    Overload,
    /// Its client does not send the request or does not take the response.
    Stalled,
}

impl Exchange {
    /// Begins an exchange on the connection of this activity, whose client address is `None` if it
    /// is a declared proxy's. The request's head occupies `head` bytes.
    pub(super) fn begin(
        in_flight: &Arc<InFlight>,
        activity: &Arc<Activity>,
        client: Option<IpAddr>,
        head: usize,
        is_multiplexed: bool,
    ) -> Result<Arc<Self>, Overloaded> {
        let connection = activity.id();
        let bytes = BASE_COST + head.saturating_sub(INCLUDED_HEAD);
        in_flight.insert(Owner { connection, client }, bytes, |id| {
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
                    ended: None,
                    task: None,
                }),
                ending: Notify::new(),
            }
        })
    }

    pub(super) fn rejections(&self) -> &RejectionLog {
        self.in_flight.rejections()
    }

    /// The task that sends the response is aborted if the exchange ends while it does.
    pub(super) fn set_task(&self, task: AbortHandle) {
        let mut state = self.state();
        if state.ended.is_some() && state.is_answered {
            task.abort();
        }
        state.task = Some(task);
    }

    /// Waits for the request's body from now on, unless the response has begun.
    pub(super) fn wait_for_body(&self) {
        let progress = Instant::now();
        {
            let mut state = self.state();
            if state.is_answered || !matches!(state.phase, Phase::Working) {
                return;
            }
            state.phase = Phase::Receiving { progress };
        }
        self.activity.wait_for_client();
        self.activity.progress();
        self.in_flight.mark_waiting(self.id);
    }

    /// Works on a request that has waited for its body. Returns an error if the exchange has ended,
    /// or ends because its client has its share already.
    pub(super) fn resume_work(&self) -> Result<(), EndReason> {
        let is_waiting = matches!(self.state().phase, Phase::Receiving { .. });
        // First of all, so that it is not evicted any more.
        if is_waiting && self.in_flight.resume(self.id).is_err() {
            self.abort(EndReason::Overload);
        }
        {
            let mut state = self.state();
            if let Some(reason) = state.ended {
                return Err(reason);
            }
            if !matches!(state.phase, Phase::Receiving { .. }) {
                return Ok(());
            }
            state.phase = Phase::Working;
        }
        self.activity.resume_work();
        self.activity.progress();
        Ok(())
    }

    /// Begins the response, releases the request's body, and reserves the bytes of a body of known
    /// length. Returns an error if the exchange has ended, or there is no room.
    pub(super) fn begin_response(
        self: &Arc<Self>,
        length: Option<u64>,
    ) -> Result<Option<Reservation>, EndReason> {
        self.resume_work()?;
        {
            let mut state = self.state();
            if let Some(reason) = state.ended {
                return Err(reason);
            }
            state.is_answered = true;
        }
        self.release_request();
        let Some(length @ 1..) = length else {
            return Ok(None);
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX / 2);
        let beyond = length.saturating_sub(INCLUDED_RESPONSE);
        let reservation = self.reserve(beyond);
        reservation.map(Some).map_err(|_| EndReason::Overload)
    }

    pub(super) fn is_answered(&self) -> bool {
        self.state().is_answered
    }

    /// The response is on its way to the client from now on.
    pub(super) fn start_sending(&self) {
        let since = Instant::now();
        let progress = since;
        {
            let mut state = self.state();
            if !matches!(state.phase, Phase::Working) {
                return;
            }
            state.phase = Phase::Sending { since, progress };
        }
        self.activity.wait_for_client();
        self.activity.progress();
        self.in_flight.mark_waiting(self.id);
    }

    /// Takes a part of the request's body into account.
    pub(super) fn receive(&self, bytes: usize) -> Result<(), Overloaded> {
        let bytes = bytes + FRAME_COST;
        self.in_flight.receive(self.id, bytes)?;
        self.state().received += bytes;
        Ok(())
    }

    /// The request's body is no longer held.
    fn release_request(&self) {
        let received = std::mem::take(&mut self.state().received);
        if received > 0 {
            self.in_flight.release(self.id, received);
        }
    }

    pub(super) fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reservation, Overloaded> {
        self.in_flight.reserve(self.id, bytes)?;
        Ok(Reservation {
            exchange: Arc::clone(self),
            bytes,
        })
    }

    /// The client has taken a part of the response.
    pub(super) fn progress(&self) {
        if let Phase::Sending { progress, .. } = &mut self.state().phase {
            *progress = Instant::now();
        }
        self.activity.progress();
    }

    /// Ends the exchange: the service refuses a request whose body is incomplete, and cuts off a
    /// response that is under way.
    pub(super) fn abort(&self, reason: EndReason) {
        self.end(self.state(), reason);
    }

    /// Under the lock under which its phase was read: one that the service works on again is not
    /// ended.
    fn end(&self, mut state: MutexGuard<'_, State>, reason: EndReason) {
        if state.ended.is_some() {
            return;
        }
        state.ended = Some(reason);
        metrics::counter!("svctok_requests_cut_off_total", "reason" => reason.label()).increment(1);
        if state.is_answered {
            match (&state.task, self.is_multiplexed) {
                (Some(task), _) => task.abort(),
                // `set_task` aborts it.
                (None, true) => {}
                (None, false) => self.activity.close(reason.into()),
            }
        }
        self.ending.notify_one();
        drop(state);
        self.activity.reject_request();
    }

    /// Waits until the exchange ends before its response.
    pub(super) async fn ended(&self) -> EndReason {
        loop {
            if let Some(reason) = self.end_reason() {
                return reason;
            }
            self.ending.notified().await;
        }
    }

    /// Returns why the exchange has ended, if it has.
    pub(super) fn end_reason(&self) -> Option<EndReason> {
        self.state().ended
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

/// Returns what the head of a request occupies, in bytes.
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
            (matches!(state.phase, Phase::Working), state.ended.is_none())
        };
        self.activity.end_request(was_working, is_answered);
        self.in_flight.remove(self.id);
    }
}

impl EndReason {
    fn label(self) -> &'static str {
        CloseReason::from(self).label()
    }
}

impl From<EndReason> for CloseReason {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::Overload => Self::Overload,
            EndReason::Stalled => Self::Stalled,
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
        self.exchange
            .in_flight
            .release(self.exchange.id, self.bytes);
    }
}
