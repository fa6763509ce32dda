use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::activity::{Activity, CloseReason};

/// The part of all connections that one client address keeps while others wait. A quarter leaves
/// room for the rest of the world even if two or three addresses take their whole share, and is
/// more than a client that reuses its connections needs.
const SHARE_DIVISOR: usize = 4;

/// The connections of one listener, and which of them makes room for another.
#[derive(Default)]
pub(super) struct ConnectionTable {
    entries: HashMap<u64, Entry>,
}

struct Entry {
    /// `None` for a declared proxy, which speaks for many clients.
    client: Option<IpAddr>,
    activity: Arc<Activity>,
}

impl ConnectionTable {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn insert(&mut self, client: Option<IpAddr>, activity: Arc<Activity>) {
        let entry = Entry { client, activity };
        self.entries.insert(entry.activity.id(), entry);
    }

    /// Has no effect if the connection was closed to make room.
    pub(super) fn remove(&mut self, id: u64) {
        self.entries.remove(&id);
    }

    /// Closes a connection so that one of `client` fits. Returns `false` if none may be closed.
    pub(super) fn make_room(&mut self, client: Option<IpAddr>, max: usize) -> bool {
        let Some(id) = self.victim(client, max) else {
            return false;
        };
        if let Some(entry) = self.entries.remove(&id) {
            entry.activity.close(CloseReason::Full);
        }
        true
    }

    /// The longest idle connection of an address that exceeds its share, or of all.
    fn victim(&self, client: Option<IpAddr>, max: usize) -> Option<u64> {
        let share = (max / SHARE_DIVISOR).max(1);
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for client in self.entries.values().filter_map(|entry| entry.client) {
            *counts.entry(client).or_default() += 1;
        }
        if let Some(client) = client {
            let count = counts.get(&client).copied().unwrap_or_default();
            if count >= share {
                return self.longest_idle(Some(client));
            }
        }
        let greediest = counts.iter().max_by_key(|(_, count)| **count);
        greediest
            .filter(|(_, count)| **count > share)
            .and_then(|(client, _)| self.longest_idle(Some(*client)))
            .or_else(|| self.longest_idle(None))
    }

    fn longest_idle(&self, of: Option<IpAddr>) -> Option<u64> {
        let entries = self.entries.values();
        let idle = entries
            .filter(|entry| of.is_none() || entry.client == of)
            .filter_map(|entry| Some((entry.activity.idle_since()?, entry.activity.id())));
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

    async fn add(table: &mut ConnectionTable, client: Option<u8>) -> Arc<Activity> {
        let activity = Arc::new(Activity::new());
        table.insert(client.map(ip), Arc::clone(&activity));
        advance(Duration::from_secs(1)).await;
        activity
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[tokio::test(start_paused = true)]
    async fn closes_the_longest_idle_connection() {
        let mut table = ConnectionTable::default();
        let busy = add(&mut table, Some(1)).await;
        busy.begin_request();
        let mut clients = Vec::new();
        for client in 2..=5 {
            clients.push(add(&mut table, Some(client)).await);
        }
        clients[0].progress();
        assert!(table.make_room(Some(ip(9)), MAX));
        assert!(clients[1].is_closed());
        assert_eq!(table.len(), 4);
        assert!(!busy.is_closed() && !clients[0].is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn closes_connections_beyond_an_address_share_first() {
        let mut table = ConnectionTable::default();
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
        let mut table = ConnectionTable::default();
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
        let mut table = ConnectionTable::default();
        let busy = add(&mut table, Some(1)).await;
        busy.begin_request();
        assert!(!table.make_room(Some(ip(9)), 1));
        // One that waits for its client gives way, however many requests it has.
        busy.wait_for_client();
        assert!(table.make_room(Some(ip(9)), 1));
        assert!(busy.is_closed());
    }
}
