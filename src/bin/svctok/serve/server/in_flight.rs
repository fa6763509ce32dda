use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::budget::{Budget, Owner};
use super::rejection_log::RejectionLog;

/// The bytes that all requests and responses in flight may occupy.
const LIMIT: usize = 8 * 1024 * 1024;

/// The bytes that those for health and metrics may occupy on one listener.
const HEALTH_LIMIT: usize = 1024 * 1024;

/// The interval between two searches for stalled exchanges.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The requests and responses in flight of many connections, which share a [`Budget`].
pub(crate) struct InFlight {
    budget: Mutex<Budget<Handle>>,
    rejections: RejectionLog,
    gauge: metrics::Gauge,
}

pub(super) type Handle = Weak<dyn Evict>;

/// An exchange that can be evicted from a budget while it waits for its client.
pub(super) trait Evict: Send + Sync {
    /// Ends the exchange because others need the memory.
    fn evict(&self);

    /// Ends the exchange if its client has made no progress for too long.
    fn evict_if_stalled(&self);
}

/// There is no room, and none can be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overloaded;

impl InFlight {
    /// Creates a budget of 8 MiB, whose use `svctok_bytes_in_flight` shows.
    pub(crate) fn new() -> Arc<Self> {
        Self::with_limit(LIMIT, metrics::gauge!("svctok_bytes_in_flight"))
    }

    /// Creates a budget of 1 MiB for health and metrics.
    pub(super) fn for_health() -> Arc<Self> {
        Self::with_limit(HEALTH_LIMIT, metrics::Gauge::noop())
    }

    pub(super) fn with_limit(limit: usize, gauge: metrics::Gauge) -> Arc<Self> {
        Arc::new(Self {
            budget: Mutex::new(Budget::new(limit)),
            rejections: RejectionLog::new(),
            gauge,
        })
    }

    /// Returns the log of rejected requests.
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
        let mut inserted = None;
        let granted = self.allocate(|budget| {
            budget.insert(owner, bytes, |id| {
                let exchange = Arc::new(exchange(id));
                let weak: Weak<E> = Arc::downgrade(&exchange);
                inserted = Some(exchange);
                weak
            })
        });
        granted.and(inserted.ok_or(Overloaded))
    }

    /// Ends stalled exchanges, for as long as the process runs.
    pub(crate) async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            let waiting: Vec<_> = self.budget().waiting().filter_map(Weak::upgrade).collect();
            for exchange in waiting {
                exchange.evict_if_stalled();
            }
            self.rejections.flush();
        }
    }

    #[cfg(test)]
    pub(super) fn exchanges(&self) -> usize {
        self.budget().exchanges()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.budget().bytes()
    }

    /// Allocates bytes, and ends the exchanges that are evicted for them. Returns an error if the
    /// budget does not grant them.
    pub(super) fn allocate(
        &self,
        allocate: impl FnOnce(&mut Budget<Handle>) -> bool,
    ) -> Result<(), Overloaded> {
        let mut is_granted = false;
        let evicted = self.update(|budget| {
            is_granted = allocate(budget);
            budget.take_evicted()
        });
        // Not under the lock: an exchange locks the budget again when it is dropped.
        for exchange in evicted.iter().filter_map(Weak::upgrade) {
            exchange.evict();
        }
        is_granted.then_some(()).ok_or(Overloaded)
    }

    /// Changes the budget and the gauge.
    #[expect(clippy::cast_precision_loss, reason = "the limit is far below 2^52")]
    pub(super) fn update<T>(&self, update: impl FnOnce(&mut Budget<Handle>) -> T) -> T {
        let mut budget = self.budget();
        let updated = update(&mut budget);
        self.gauge.set(budget.bytes() as f64);
        updated
    }

    fn budget(&self) -> MutexGuard<'_, Budget<Handle>> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A connection of a client, or of a proxy.
    fn connection_of(client: Option<u8>) -> Arc<Activity> {
        let client = client.map(|last| IpAddr::from([192, 0, 2, last]));
        Arc::new(Activity::new(client))
    }

    fn connection() -> Arc<Activity> {
        connection_of(None)
    }

    fn try_begin(
        in_flight: &Arc<InFlight>,
        activity: &Arc<Activity>,
    ) -> Result<Arc<Exchange>, Overloaded> {
        Exchange::begin(in_flight, activity, 0, true)
    }

    fn begin(in_flight: &Arc<InFlight>, activity: &Arc<Activity>) -> Arc<Exchange> {
        try_begin(in_flight, activity).unwrap()
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
        let modest = connection_of(Some(1));
        let modest = [1, 2].map(|_| begin(&in_flight, &modest));
        for exchange in &modest {
            exchange.wait_for_body();
        }
        // Each connection is smaller than the other client's.
        let mut greedy = Vec::new();
        for _ in 0..8 {
            greedy.push(try_begin(&in_flight, &connection_of(Some(2))).unwrap());
            greedy.last().unwrap().wait_for_body();
        }
        try_begin(&in_flight, &connection_of(Some(3))).unwrap();
        assert!(modest.iter().all(|it| it.end_reason().is_none()));
        let ended = greedy.iter().filter(|it| it.end_reason().is_some());
        assert_eq!(ended.count(), 1);
    }

    #[tokio::test]
    async fn does_not_evict_working_exchanges() {
        let in_flight = in_flight(2 * BASE_COST);
        let greedy = connection();
        let _both = [begin(&in_flight, &greedy), begin(&in_flight, &greedy)];
        let rejected = try_begin(&in_flight, &connection());
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
        assert!(try_begin(&in_flight, &one).is_err());
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
            while let Ok(exchange) = try_begin(&in_flight, &connection_of(Some(client))) {
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
        assert!(try_begin(&in_flight, &connection()).is_err());
    }

    #[tokio::test]
    async fn waiting_exchange_resumes_only_within_its_share() {
        let in_flight = in_flight(64 * BASE_COST);
        let waiting = try_begin(&in_flight, &connection_of(Some(1))).unwrap();
        waiting.wait_for_body();
        let mut held = Vec::new();
        while let Ok(exchange) = try_begin(&in_flight, &connection_of(Some(1))) {
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
        let long = Exchange::begin(&in_flight, &connection(), head, true).unwrap();
        assert_eq!(in_flight.bytes(), BASE_COST + 15 * 1024);
        drop(long);
        assert_eq!(in_flight.bytes(), 0);
    }
}
