use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::activity::{Activity, CloseReason};
use super::budget::Owner;

/// The divisor of the share of all connections that one client address keeps while others wait. A
/// quarter leaves room for others even if two or three addresses take their whole share, and is more
/// than a client that reuses its connections needs.
const SHARE_DIVISOR: usize = 4;

/// A bounded number of connections of one listener.
pub(super) struct ConnectionTable {
    max: usize,
    gauge: metrics::Gauge,
    entries: Mutex<Entries>,
}

/// A connection's entry in a table, which is removed on drop.
pub(super) struct ConnectionGuard {
    table: Arc<ConnectionTable>,
    connection: u64,
}

/// By the id of the connection.
#[derive(Default)]
struct Entries(HashMap<u64, Arc<Activity>>);

impl ConnectionTable {
    /// Creates a table of at most `max` connections, whose number `gauge` shows.
    pub(super) fn new(max: usize, gauge: metrics::Gauge) -> Arc<Self> {
        Arc::new(Self {
            max,
            gauge,
            entries: Mutex::default(),
        })
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Adds a connection, and closes another one if the table is full. Returns `None` if none may be
    /// closed.
    pub(super) fn insert(self: &Arc<Self>, activity: &Arc<Activity>) -> Option<ConnectionGuard> {
        let Owner { connection, client } = activity.owner();
        let mut entries = self.entries();
        if entries.0.len() >= self.max && !entries.make_room(client, self.max) {
            return None;
        }
        entries.0.insert(connection, Arc::clone(activity));
        self.gauge.increment(1);
        let table = Arc::clone(self);
        Some(ConnectionGuard { table, connection })
    }

    /// Closes an idle connection, if there is one.
    pub(super) fn make_room(&self) {
        self.entries().make_room(None, self.max);
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        // Absent if the connection was closed to make room.
        self.table.entries().0.remove(&self.connection);
        self.table.gauge.decrement(1);
    }
}

impl Entries {
    /// Closes a connection so that one of `client` fits. Returns `false` if none may be closed.
    fn make_room(&mut self, client: Option<IpAddr>, max: usize) -> bool {
        let victim = self.victim(client, max);
        let Some(activity) = victim.and_then(|id| self.0.remove(&id)) else {
            return false;
        };
        activity.close(CloseReason::Full);
        true
    }

    /// Returns the longest idle connection of an address that exceeds its share, or of all.
    fn victim(&self, client: Option<IpAddr>, max: usize) -> Option<u64> {
        let share = (max / SHARE_DIVISOR).max(1);
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        let clients = self.0.values().filter_map(|it| it.owner().client);
        for client in clients {
            *counts.entry(client).or_default() += 1;
        }
        let has_its_share = |client| counts.get(&client).is_some_and(|count| *count >= share);
        if client.is_some_and(has_its_share) {
            return self.longest_idle(client);
        }
        let greediest = counts.iter().max_by_key(|(_, count)| **count);
        greediest
            .filter(|(_, count)| **count > share)
            .and_then(|(client, _)| self.longest_idle(Some(*client)))
            .or_else(|| self.longest_idle(None))
    }

    fn longest_idle(&self, of: Option<IpAddr>) -> Option<u64> {
        let idle = self.0.iter();
        let idle = idle
            .filter(|(_, activity)| of.is_none() || activity.owner().client == of)
            .filter_map(|(id, activity)| Some((activity.idle_since()?, *id)));
        let longest: Option<(Instant, u64)> = idle.min();
        longest.map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const MAX: usize = 8;

    async fn add(table: &mut Entries, client: Option<u8>) -> Arc<Activity> {
        let activity = Arc::new(Activity::new(client.map(ip)));
        let id = activity.owner().connection;
        table.0.insert(id, Arc::clone(&activity));
        advance(Duration::from_secs(1)).await;
        activity
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[tokio::test(start_paused = true)]
    async fn closes_the_longest_idle_connection() {
        let mut table = Entries::default();
        let busy = add(&mut table, Some(1)).await;
        busy.begin_request();
        let mut clients = Vec::new();
        for client in 2..=5 {
            clients.push(add(&mut table, Some(client)).await);
        }
        clients[0].progress(Instant::now());
        assert!(table.make_room(Some(ip(9)), MAX));
        assert!(clients[1].is_closed());
        assert_eq!(table.0.len(), 4);
        assert!(!busy.is_closed() && !clients[0].is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn closes_connections_beyond_an_address_share_first() {
        let mut table = Entries::default();
        let other = add(&mut table, Some(1)).await;
        let mut greedy = Vec::new();
        for _ in 0..3 {
            greedy.push(add(&mut table, Some(2)).await);
        }
        assert!(table.make_room(Some(ip(9)), MAX));
        assert!(greedy[0].is_closed() && !other.is_closed());
        // It is at its share now, and replaces its own.
        assert!(table.make_room(Some(ip(2)), MAX));
        assert!(greedy[1].is_closed() && !other.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn trusted_proxy_has_no_share() {
        let mut table = Entries::default();
        let other = add(&mut table, Some(1)).await;
        let mut proxied = Vec::new();
        for _ in 0..4 {
            proxied.push(add(&mut table, None).await);
        }
        assert!(table.make_room(None, MAX));
        assert!(other.is_closed());
        assert!(proxied.iter().all(|it| !it.is_closed()));
    }

    #[tokio::test(start_paused = true)]
    async fn does_not_close_working_connections() {
        let mut table = Entries::default();
        let busy = add(&mut table, Some(1)).await;
        busy.begin_request();
        assert!(!table.make_room(Some(ip(9)), 1));
        // One that waits for its client gives way, however many requests it has.
        busy.wait_for_client(Instant::now());
        assert!(table.make_room(Some(ip(9)), 1));
        assert!(busy.is_closed());
    }
}
