use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::budget::{Allocation, Budget, Owner};
use super::rejection_log::RejectionLog;

/// What all requests and responses in flight may occupy, in bytes.
const LIMIT: usize = 8 * 1024 * 1024;

/// What those for health and metrics may occupy on one listener, in bytes.
const HEALTH_LIMIT: usize = 1024 * 1024;

/// How often stalled exchanges are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The requests and responses in flight of many connections, which share a [`Budget`].
pub(in crate::serve) struct InFlight {
    state: Mutex<State>,
    rejections: RejectionLog,
    gauge: metrics::Gauge,
}

/// What can be evicted from a budget while it waits for its client.
pub(super) trait Evict: Send + Sync {
    /// Ends it because others need the memory.
    fn evict(&self);

    /// Ends it if its client has made no progress for too long.
    fn evict_if_stalled(&self);
}

/// No room is left, and none can be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overloaded;

struct State {
    budget: Budget,
    next: u64,
    exchanges: HashMap<u64, Weak<dyn Evict>>,
}

impl InFlight {
    /// Creates a budget of 8 MiB, whose use `svctok_bytes_in_flight` shows.
    pub(in crate::serve) fn new() -> Arc<Self> {
        Self::with_limit(LIMIT, metrics::gauge!("svctok_bytes_in_flight"))
    }

    /// Creates a budget of 1 MiB for health and metrics.
    pub(super) fn for_health() -> Arc<Self> {
        Self::with_limit(HEALTH_LIMIT, metrics::Gauge::noop())
    }

    pub(super) fn with_limit(limit: usize, gauge: metrics::Gauge) -> Arc<Self> {
        let state = State {
            budget: Budget::new(limit),
            next: 0,
            exchanges: HashMap::new(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            rejections: RejectionLog::default(),
            gauge,
        })
    }

    /// Returns the log of requests that are rejected.
    pub(super) fn rejections(&self) -> &RejectionLog {
        &self.rejections
    }

    /// Adds an exchange that occupies this many bytes by itself.
    pub(super) fn insert<E: Evict + 'static>(
        &self,
        owner: Owner,
        bytes: usize,
        exchange: impl FnOnce(u64) -> E,
    ) -> Result<Arc<E>, Overloaded> {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        let room = state.budget.insert(id, owner, bytes);
        let inserted = room.is_granted.then(|| {
            let exchange = Arc::new(exchange(id));
            let weak: Weak<E> = Arc::downgrade(&exchange);
            state.exchanges.insert(id, weak);
            exchange
        });
        self.end_evicted(state, &room);
        inserted.ok_or(Overloaded)
    }

    /// Adds bytes of a request's body, until they are released or the exchange ends.
    pub(super) fn receive(&self, id: u64, bytes: usize) -> Result<(), Overloaded> {
        let mut state = self.state();
        let room = state.budget.receive(id, bytes);
        self.end_evicted(state, &room);
        room.is_granted.then_some(()).ok_or(Overloaded)
    }

    /// Adds bytes of a response, until they are released or the exchange ends.
    pub(super) fn reserve(&self, id: u64, bytes: usize) -> Result<(), Overloaded> {
        let mut state = self.state();
        let room = state.budget.reserve(id, bytes);
        self.end_evicted(state, &room);
        room.is_granted.then_some(()).ok_or(Overloaded)
    }

    pub(super) fn release(&self, id: u64, bytes: usize) {
        let mut state = self.state();
        state.budget.release(id, bytes);
        self.update_gauge(&state);
    }

    /// An exchange waits for its client, and may be evicted.
    pub(super) fn mark_waiting(&self, id: u64) {
        self.state().budget.mark_waiting(id);
    }

    /// The service works on an exchange that has waited. Returns an error if it was evicted, or its
    /// client has its share already.
    pub(super) fn resume(&self, id: u64) -> Result<(), Overloaded> {
        let is_resumed = self.state().budget.resume(id);
        is_resumed.then_some(()).ok_or(Overloaded)
    }

    pub(super) fn remove(&self, id: u64) {
        let mut state = self.state();
        state.exchanges.remove(&id);
        state.budget.remove(id);
        self.update_gauge(&state);
    }

    /// Ends stalled exchanges, for as long as the process runs.
    pub(in crate::serve) async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            for exchange in self.waiting() {
                exchange.evict_if_stalled();
            }
            self.rejections.flush();
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.state().budget.bytes()
    }

    #[cfg(test)]
    pub(super) fn exchanges(&self) -> usize {
        self.state().budget.exchanges()
    }

    fn waiting(&self) -> Vec<Arc<dyn Evict>> {
        let state = self.state();
        let waiting = state.budget.waiting();
        let waiting = waiting.filter_map(|id| state.exchanges.get(&id)?.upgrade());
        waiting.collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::cast_precision_loss, reason = "the limit is far below 2^52")]
    fn update_gauge(&self, state: &State) {
        self.gauge.set(state.budget.bytes() as f64);
    }

    /// Ends what was evicted, without the lock: an exchange that ends uses `self`.
    fn end_evicted(&self, mut state: MutexGuard<'_, State>, room: &Allocation) {
        self.update_gauge(&state);
        let ids = room.evicted.iter();
        let evicted: Vec<_> = ids.filter_map(|id| state.exchanges.remove(id)).collect();
        drop(state);
        for exchange in evicted.iter().filter_map(Weak::upgrade) {
            exchange.evict();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::activity::Activity;
    use super::super::exchange::{BASE_COST, EndReason, Exchange, INCLUDED_RESPONSE};
    use super::*;

    fn in_flight(limit: usize) -> Arc<InFlight> {
        InFlight::with_limit(limit, metrics::Gauge::noop())
    }

    fn connection() -> Arc<Activity> {
        Arc::new(Activity::new())
    }

    fn begin_as(
        in_flight: &Arc<InFlight>,
        activity: &Arc<Activity>,
        client: Option<u8>,
    ) -> Result<Arc<Exchange>, Overloaded> {
        let client = client.map(|last| IpAddr::from([192, 0, 2, last]));
        Exchange::begin(in_flight, activity, client, 0, true)
    }

    /// Begins an exchange of a proxy, which has no share.
    fn begin(in_flight: &Arc<InFlight>, activity: &Arc<Activity>) -> Arc<Exchange> {
        begin_as(in_flight, activity, None).unwrap()
    }

    #[tokio::test]
    async fn bytes_are_released_on_drop() {
        let in_flight = in_flight(10 * BASE_COST);
        let exchange = begin(&in_flight, &connection());
        exchange.receive(1000).unwrap();
        let length = INCLUDED_RESPONSE + 2000;
        let reservation = exchange.begin_response(Some(length as u64)).unwrap();
        assert_eq!(in_flight.bytes(), BASE_COST + 2000);
        drop(exchange);
        assert_eq!(in_flight.bytes(), BASE_COST + 2000);
        drop(reservation);
        assert_eq!(in_flight.bytes(), 0);
        assert_eq!(in_flight.exchanges(), 0);
    }

    #[tokio::test]
    async fn evicts_from_the_largest_connection() {
        let in_flight = in_flight(10 * BASE_COST);
        let greedy = connection();
        let first = begin(&in_flight, &greedy);
        let rest: Vec<_> = (0..8).map(|_| begin(&in_flight, &greedy)).collect();
        let modest = begin(&in_flight, &connection());
        first.wait_for_body();
        rest[0].wait_for_body();
        modest.wait_for_body();
        let newcomer = begin(&in_flight, &connection());
        assert_eq!(first.ended().await, EndReason::Overload);
        newcomer.receive(BASE_COST / 2).unwrap();
        assert_eq!(rest[0].ended().await, EndReason::Overload);
        assert_eq!(modest.end_reason(), None);
    }

    #[tokio::test]
    async fn evicts_from_the_largest_client() {
        let in_flight = in_flight(10 * BASE_COST);
        let modest = connection();
        let modest = [1, 2].map(|_| begin_as(&in_flight, &modest, Some(1)).unwrap());
        for exchange in &modest {
            exchange.wait_for_body();
        }
        // Each connection is smaller than the other client's.
        let mut greedy = Vec::new();
        for _ in 0..8 {
            greedy.push(begin_as(&in_flight, &connection(), Some(2)).unwrap());
            greedy.last().unwrap().wait_for_body();
        }
        begin_as(&in_flight, &connection(), Some(3)).unwrap();
        assert!(modest.iter().all(|it| it.end_reason().is_none()));
        let ended = greedy.iter().filter(|it| it.end_reason().is_some());
        assert_eq!(ended.count(), 1);
    }

    #[tokio::test]
    async fn does_not_evict_working_exchanges() {
        let in_flight = in_flight(2 * BASE_COST);
        let greedy = connection();
        let _both = [begin(&in_flight, &greedy), begin(&in_flight, &greedy)];
        let rejected = begin_as(&in_flight, &connection(), None);
        assert_eq!(rejected.err(), Some(Overloaded));
    }

    #[tokio::test]
    async fn rejects_at_equal_share() {
        let in_flight = in_flight(4 * BASE_COST);
        let (one, other) = (connection(), connection());
        let held = [&one, &one, &other, &other].map(|it| begin(&in_flight, it));
        for exchange in &held {
            exchange.wait_for_body();
        }
        assert_eq!(held[0].receive(1).err(), Some(Overloaded));
        assert!(begin_as(&in_flight, &one, None).is_err());
        assert!(held.iter().all(|it| it.end_reason().is_none()));
        assert_eq!(in_flight.bytes(), 4 * BASE_COST);
    }

    #[tokio::test]
    async fn working_clients_leave_room_for_another() {
        let in_flight = in_flight(64 * BASE_COST);
        let mut held = Vec::new();
        let mut counts = Vec::new();
        for client in 1..=8 {
            let before = held.len();
            while let Ok(exchange) = begin_as(&in_flight, &connection(), Some(client)) {
                held.push(exchange);
            }
            counts.push(held.len() - before);
        }
        assert_eq!(counts[0], 16, "a quarter of the whole");
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        // A proxy may have the rest.
        let rest = 64 - held.len();
        for _ in 0..rest {
            held.push(begin(&in_flight, &connection()));
        }
        assert!(begin_as(&in_flight, &connection(), None).is_err());
    }

    #[tokio::test]
    async fn waiting_exchange_resumes_only_within_its_share() {
        let in_flight = in_flight(64 * BASE_COST);
        let waiting = begin_as(&in_flight, &connection(), Some(1)).unwrap();
        waiting.wait_for_body();
        let mut held = Vec::new();
        while let Ok(exchange) = begin_as(&in_flight, &connection(), Some(1)) {
            held.push(exchange);
        }
        assert_eq!(waiting.resume_work(), Err(EndReason::Overload));
        assert_eq!(held[0].receive(1).err(), Some(Overloaded));
        // A response is the end of the work, and always has room.
        let large = Some(8 * BASE_COST as u64);
        assert!(held[0].begin_response(large).unwrap().is_some());
    }

    #[tokio::test]
    async fn included_response_fits_an_exhausted_budget() {
        let in_flight = in_flight(2 * BASE_COST);
        let held = [1, 2].map(|_| begin(&in_flight, &connection()));
        let small = Some(INCLUDED_RESPONSE as u64);
        assert!(held[0].begin_response(small).unwrap().is_some());
        let large = Some(INCLUDED_RESPONSE as u64 + 1);
        assert_eq!(
            held[1].begin_response(large).err(),
            Some(EndReason::Overload)
        );
    }

    #[tokio::test]
    async fn long_head_counts_against_the_budget() {
        let in_flight = in_flight(4 * BASE_COST);
        let head = 16 * 1024;
        let long = Exchange::begin(&in_flight, &connection(), None, head, true).unwrap();
        assert_eq!(in_flight.bytes(), BASE_COST + 15 * 1024);
        drop(long);
        assert_eq!(in_flight.bytes(), 0);
    }
}
