use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::exchange::{EndReason, Exchange};
use super::log_throttle::LogThrottle;

/// What all requests and responses in flight may occupy, in bytes.
const LIMIT: usize = 16 * 1024 * 1024;

/// How often stalled exchanges are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The bytes of requests and responses in flight, of all connections together.
///
/// Beyond the limit, the connection that holds most gives way: its oldest exchange that waits for
/// its client ends. If none holds more than the one that asks, that one is refused.
pub(in crate::serve) struct InFlight {
    limit: usize,
    state: Mutex<State>,
    refusals: LogThrottle,
    gauge: metrics::Gauge,
}

/// No room is left, and none can be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overloaded;

#[derive(Default)]
struct State {
    bytes: usize,
    next: u64,
    exchanges: HashMap<u64, Held>,
    connections: HashMap<u64, Usage>,
}

struct Held {
    connection: u64,
    bytes: usize,
    exchange: Weak<Exchange>,
}

/// What it took to make room.
struct Room {
    is_made: bool,
    /// Removed already, and still to be ended.
    ended: Vec<Weak<Exchange>>,
}

#[derive(Default)]
struct Usage {
    exchanges: usize,
    bytes: usize,
    /// Those exchanges that wait for their client, the oldest first.
    waiting: BTreeSet<u64>,
}

impl InFlight {
    pub(in crate::serve) fn new() -> Arc<Self> {
        Self::with_limit(LIMIT)
    }

    fn with_limit(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            state: Mutex::default(),
            refusals: LogThrottle::default(),
            gauge: metrics::gauge!("svctok_bytes_in_flight"),
        })
    }

    /// Adds an exchange that occupies this many bytes by itself.
    pub(super) fn insert(
        self: &Arc<Self>,
        connection: u64,
        bytes: usize,
        exchange: impl FnOnce(u64) -> Exchange,
    ) -> Result<Arc<Exchange>, Overloaded> {
        let mut state = self.state();
        let room = state.make_room(connection, bytes, self.limit);
        let inserted = room.is_made.then(|| {
            let id = state.next;
            state.next += 1;
            let exchange = Arc::new(exchange(id));
            let held = Held {
                connection,
                bytes: 0,
                exchange: Arc::downgrade(&exchange),
            };
            state.exchanges.insert(id, held);
            state.connections.entry(connection).or_default().exchanges += 1;
            state.add(id, bytes);
            exchange
        });
        self.finish(state, &room);
        inserted.ok_or(Overloaded)
    }

    /// An exchange occupies more bytes, until they are released or it ends.
    pub(super) fn reserve(&self, id: u64, bytes: usize) -> Result<(), Overloaded> {
        let mut state = self.state();
        // Absent if it was ended.
        let connection = state.exchanges.get(&id).ok_or(Overloaded)?.connection;
        let room = state.make_room(connection, bytes, self.limit);
        let is_reserved = room.is_made && state.add(id, bytes);
        self.finish(state, &room);
        is_reserved.then_some(()).ok_or(Overloaded)
    }

    pub(super) fn release(&self, id: u64, bytes: usize) {
        let mut state = self.state();
        state.subtract(id, bytes);
        self.show(&state);
    }

    /// Whether an exchange waits for its client, and may be ended to make room.
    pub(super) fn set_waiting(&self, id: u64, is_waiting: bool) {
        let mut state = self.state();
        let State {
            exchanges,
            connections,
            ..
        } = &mut *state;
        let held = exchanges.get(&id);
        if let Some(usage) = held.and_then(|held| connections.get_mut(&held.connection)) {
            if is_waiting {
                usage.waiting.insert(id);
            } else {
                usage.waiting.remove(&id);
            }
        }
    }

    pub(super) fn remove(&self, id: u64) {
        let mut state = self.state();
        state.remove(id);
        self.show(&state);
    }

    /// Ends stalled exchanges, for as long as the process runs.
    pub(in crate::serve) async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            for exchange in self.waiting() {
                exchange.end_if_stalled();
            }
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.state().bytes
    }

    #[cfg(test)]
    pub(super) fn exchanges(&self) -> usize {
        self.state().exchanges.len()
    }

    fn waiting(&self) -> Vec<Arc<Exchange>> {
        let state = self.state();
        let usages = state.connections.values();
        let waiting = usages.flat_map(|usage| &usage.waiting);
        let held = waiting.filter_map(|id| state.exchanges.get(id));
        held.filter_map(|held| held.exchange.upgrade()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::cast_precision_loss, reason = "the limit is far below 2^52")]
    fn show(&self, state: &State) {
        self.gauge.set(state.bytes as f64);
    }

    /// An exchange that ends uses `self`: only without the lock.
    fn finish(&self, state: MutexGuard<'_, State>, room: &Room) {
        self.show(&state);
        drop(state);
        for exchange in room.ended.iter().filter_map(Weak::upgrade) {
            exchange.end(EndReason::Overload);
        }
        if !room.is_made
            && let Some(count) = self.refusals.record()
        {
            tracing::warn!(count, "too many bytes in flight: requests are refused");
        }
    }
}

impl State {
    /// Removes exchanges until a connection may have more bytes, or none can be removed.
    fn make_room(&mut self, connection: u64, bytes: usize, limit: usize) -> Room {
        let mut ended = Vec::new();
        while self.bytes + bytes > limit {
            let own = self.connections.get(&connection);
            let own = own.map_or(0, |usage| usage.bytes) + bytes;
            let usages = self.connections.values();
            let greediest = usages
                .filter(|usage| usage.bytes > own)
                .filter_map(|usage| Some((usage.bytes, *usage.waiting.first()?)))
                .max();
            let Some((_, oldest)) = greediest else {
                return Room {
                    ended,
                    is_made: false,
                };
            };
            ended.extend(self.remove(oldest));
        }
        Room {
            ended,
            is_made: true,
        }
    }

    fn add(&mut self, id: u64, bytes: usize) -> bool {
        let Some(held) = self.exchanges.get_mut(&id) else {
            return false;
        };
        held.bytes += bytes;
        self.bytes += bytes;
        if let Some(usage) = self.connections.get_mut(&held.connection) {
            usage.bytes += bytes;
        }
        true
    }

    /// Has no effect if the exchange was ended.
    fn subtract(&mut self, id: u64, bytes: usize) {
        let Some(held) = self.exchanges.get_mut(&id) else {
            return;
        };
        held.bytes -= bytes;
        self.bytes -= bytes;
        if let Some(usage) = self.connections.get_mut(&held.connection) {
            usage.bytes -= bytes;
        }
    }

    fn remove(&mut self, id: u64) -> Option<Weak<Exchange>> {
        let held = self.exchanges.remove(&id)?;
        self.bytes -= held.bytes;
        if let Some(usage) = self.connections.get_mut(&held.connection) {
            usage.bytes -= held.bytes;
            usage.waiting.remove(&id);
            usage.exchanges -= 1;
            if usage.exchanges == 0 {
                self.connections.remove(&held.connection);
            }
        }
        Some(held.exchange)
    }
}

#[cfg(test)]
mod tests {
    use super::super::activity::Activity;
    use super::super::exchange::COST;
    use super::*;

    fn connection() -> Arc<Activity> {
        Arc::new(Activity::new())
    }

    fn begin(in_flight: &Arc<InFlight>, activity: &Arc<Activity>) -> Arc<Exchange> {
        Exchange::begin(in_flight, activity, true).unwrap()
    }

    #[tokio::test]
    async fn bytes_are_released_with_what_holds_them() {
        let in_flight = InFlight::with_limit(10 * COST);
        let exchange = begin(&in_flight, &connection());
        exchange.receive(1000).unwrap();
        let reservation = exchange.reserve(2000).unwrap();
        assert!(in_flight.bytes() >= COST + 3000);
        exchange.release_request();
        assert_eq!(in_flight.bytes(), COST + 2000);
        drop(exchange);
        assert_eq!(in_flight.bytes(), COST + 2000);
        drop(reservation);
        assert_eq!(in_flight.bytes(), 0);
        assert_eq!(in_flight.exchanges(), 0);
    }

    #[tokio::test]
    async fn who_holds_most_gives_way() {
        let in_flight = InFlight::with_limit(10 * COST);
        let greedy = connection();
        let first = begin(&in_flight, &greedy);
        let rest: Vec<_> = (0..8).map(|_| begin(&in_flight, &greedy)).collect();
        let modest = begin(&in_flight, &connection());
        first.wait_for_body();
        rest[0].wait_for_body();
        modest.wait_for_body();
        let newcomer = begin(&in_flight, &connection());
        assert_eq!(first.ended().await, EndReason::Overload);
        newcomer.reserve(COST).unwrap();
        assert_eq!(rest[0].ended().await, EndReason::Overload);
        assert_eq!(modest.has_ended(), None);
    }

    #[tokio::test]
    async fn a_request_that_the_service_works_on_does_not_give_way() {
        let in_flight = InFlight::with_limit(2 * COST);
        let greedy = connection();
        let _both = [begin(&in_flight, &greedy), begin(&in_flight, &greedy)];
        let refused = Exchange::begin(&in_flight, &connection(), true);
        assert_eq!(refused.err(), Some(Overloaded));
    }

    #[tokio::test]
    async fn who_holds_as_much_as_others_is_refused() {
        let in_flight = InFlight::with_limit(4 * COST);
        let (one, other) = (connection(), connection());
        let held = [&one, &one, &other, &other].map(|it| begin(&in_flight, it));
        for exchange in &held {
            exchange.wait_for_body();
        }
        assert_eq!(held[0].reserve(1).err(), Some(Overloaded));
        assert!(Exchange::begin(&in_flight, &one, true).is_err());
        assert!(held.iter().all(|it| it.has_ended().is_none()));
        assert_eq!(in_flight.bytes(), 4 * COST);
    }
}
