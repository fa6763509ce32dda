use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::activity::{Activity, CloseReason};
use super::in_flight::{InFlight, Overloaded};

/// What a request occupies without its bodies: its task, its headers and its stream, in bytes.
pub(super) const COST: usize = 6 * 1024;

/// What a part of a body occupies beyond its length, in bytes.
const FRAME_COST: usize = 96;

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
    ended: Option<EndReason>,
    /// The task that sends the response, if others share the connection.
    task: Option<AbortHandle>,
}

#[derive(Clone, Copy)]
enum Phase {
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
    /// Begins an exchange on the connection of this activity.
    pub(super) fn begin(
        in_flight: &Arc<InFlight>,
        activity: &Arc<Activity>,
        is_multiplexed: bool,
    ) -> Result<Arc<Self>, Overloaded> {
        in_flight.insert(activity.id(), COST, |id| {
            activity.begin_request();
            Self {
                id,
                in_flight: Arc::clone(in_flight),
                activity: Arc::clone(activity),
                is_multiplexed,
                state: Mutex::new(State {
                    phase: Phase::Working,
                    received: 0,
                    ended: None,
                    task: None,
                }),
                ending: Notify::new(),
            }
        })
    }

    /// The task that sends the response is aborted if the exchange ends while it does.
    pub(super) fn set_task(&self, task: AbortHandle) {
        let mut state = self.state();
        if state.ended.is_some() && matches!(state.phase, Phase::Sending { .. }) {
            task.abort();
        }
        state.task = Some(task);
    }

    pub(super) fn wait_for_body(&self) {
        let progress = Instant::now();
        self.enter(Phase::Receiving { progress });
    }

    pub(super) fn resume_work(&self) {
        self.enter(Phase::Working);
    }

    pub(super) fn start_sending(&self) {
        let since = Instant::now();
        let progress = since;
        self.enter(Phase::Sending { since, progress });
    }

    /// Takes a part of the request's body into account.
    pub(super) fn receive(&self, bytes: usize) -> Result<(), Overloaded> {
        let bytes = bytes + FRAME_COST;
        self.in_flight.reserve(self.id, bytes)?;
        self.state().received += bytes;
        Ok(())
    }

    /// The request's body is no longer held.
    pub(super) fn release_request(&self) {
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

    pub(super) fn end_if_stalled(&self) {
        let phase = self.state().phase;
        if is_stalled(phase, Instant::now()) {
            self.end(EndReason::Stalled);
        }
    }

    /// Ends the exchange if it waits for its client.
    pub(super) fn end(&self, reason: EndReason) {
        let phase = self.state().phase;
        if !matches!(phase, Phase::Working) {
            self.cut_off(reason);
        }
    }

    /// Ends the exchange: the service refuses a request whose body is incomplete, and cuts off a
    /// response that is under way.
    pub(super) fn cut_off(&self, reason: EndReason) {
        let mut state = self.state();
        if state.ended.is_some() {
            return;
        }
        state.ended = Some(reason);
        metrics::counter!("svctok_requests_cut_off_total", "reason" => reason.label()).increment(1);
        if matches!(state.phase, Phase::Sending { .. }) {
            match (&state.task, self.is_multiplexed) {
                (Some(task), _) => task.abort(),
                // `set_task` aborts it.
                (None, true) => {}
                (None, false) => self.activity.close(reason.into()),
            }
        }
        self.ending.notify_one();
        drop(state);
        self.activity.refuse_request();
    }

    /// Waits until the exchange ends before its response.
    pub(super) async fn ended(&self) -> EndReason {
        loop {
            let ended = self.state().ended;
            if let Some(reason) = ended {
                return reason;
            }
            self.ending.notified().await;
        }
    }

    #[cfg(test)]
    pub(super) fn has_ended(&self) -> Option<EndReason> {
        self.state().ended
    }

    fn enter(&self, phase: Phase) {
        let was_working = {
            let mut state = self.state();
            let last = std::mem::replace(&mut state.phase, phase);
            matches!(last, Phase::Working)
        };
        let is_working = matches!(phase, Phase::Working);
        match (was_working, is_working) {
            (true, false) => self.activity.wait_for_client(),
            (false, true) => self.activity.resume_work(),
            _ => {}
        }
        self.activity.progress();
        self.in_flight.set_waiting(self.id, !is_working);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
