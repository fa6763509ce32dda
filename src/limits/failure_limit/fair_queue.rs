use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

use crate::limits::client::Client;

/// A queue that is fair to clients: they take turns, and the entries of a client leave in order.
///
/// Turns are taken by network first: among all IPv4 /16 (IPv6 /32) networks, then among the /24
/// (/48) networks in one, then among the addresses (/64 networks) in one. The owner of many
/// addresses in a network gets the share of that network.
///
/// A queue is either the queue of one client, with entries, or the queue of a network, with the
/// queues in it as children. A [`path`] leads from the root to the queue of a client.
pub(super) struct FairQueue<T> {
    len: usize,
    children: HashMap<u64, Self>,
    /// The children in the order of their turns.
    turns: VecDeque<u64>,
    by_len: BTreeSet<(usize, u64)>,
    /// The entries of a client, by ascending number.
    entries: VecDeque<(u64, T)>,
}

impl<T> FairQueue<T> {
    pub(super) fn new() -> Self {
        Self {
            len: 0,
            children: HashMap::new(),
            turns: VecDeque::new(),
            by_len: BTreeSet::new(),
            entries: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of entries of the client at this path.
    pub(super) fn len_at(&self, path: &[u64]) -> usize {
        match path {
            [] => self.len,
            [key, rest @ ..] => self.children.get(key).map_or(0, |child| child.len_at(rest)),
        }
    }

    /// Adds an entry. Numbers must ascend.
    pub(super) fn push(&mut self, path: &[u64], number: u64, value: T) {
        self.len += 1;
        let [key, rest @ ..] = path else {
            self.entries.push_back((number, value));
            return;
        };
        let child = self.children.entry(*key).or_insert_with(|| {
            self.turns.push_back(*key);
            Self::new()
        });
        self.by_len.remove(&(child.len, *key));
        child.push(rest, number, value);
        self.by_len.insert((child.len, *key));
    }

    /// Removes the entry whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(u64, T)> {
        let Some(key) = self.turns.pop_front() else {
            return self.take(VecDeque::pop_front);
        };
        self.turns.push_back(key);
        self.take_from_child(key, Self::pop)
    }

    /// Removes the newest entry of the client with the most in the network with the most.
    pub(super) fn evict(&mut self) -> Option<(u64, T)> {
        match self.by_len.last() {
            Some((_, key)) => self.take_from_child(*key, Self::evict),
            None => self.take(VecDeque::pop_back),
        }
    }

    /// Removes the entry with this number, if it is still queued.
    pub(super) fn remove(&mut self, path: &[u64], number: u64) -> Option<(u64, T)> {
        let [key, rest @ ..] = path else {
            return self.take(|entries| {
                let at = entries.binary_search_by_key(&number, |entry| entry.0);
                entries.remove(at.ok()?)
            });
        };
        self.take_from_child(*key, |child| child.remove(rest, number))
    }

    /// Takes an entry of a child, and removes the child if it was its last.
    fn take_from_child(
        &mut self,
        key: u64,
        take: impl FnOnce(&mut Self) -> Option<(u64, T)>,
    ) -> Option<(u64, T)> {
        let child = self.children.get_mut(&key)?;
        let before = child.len;
        let entry = take(child)?;
        let len = child.len;
        self.len -= 1;
        self.by_len.remove(&(before, key));
        if len > 0 {
            self.by_len.insert((len, key));
        } else {
            self.children.remove(&key);
            // After `pop` the key is at the back.
            if self.turns.back() == Some(&key) {
                self.turns.pop_back();
            } else {
                self.turns.retain(|turn| *turn != key);
            }
        }
        Some(entry)
    }

    fn take(
        &mut self,
        take: impl FnOnce(&mut VecDeque<(u64, T)>) -> Option<(u64, T)>,
    ) -> Option<(u64, T)> {
        let entry = take(&mut self.entries)?;
        self.len -= 1;
        Some(entry)
    }
}

/// Returns the networks of a client, and the client itself. The two highest bits of the first key
/// distinguish the kinds of clients.
pub(super) fn path(client: Client) -> [u64; 3] {
    match client {
        Client::Unknown => [0, 0, 0],
        Client::Holder(id) => [1 << 62 | id.as_i64().unsigned_abs(), 0, 0],
        Client::Network(IpAddr::V4(address)) => {
            let bits = u64::from(address.to_bits());
            [2 << 62 | bits >> 16, bits >> 8, bits]
        }
        Client::Network(IpAddr::V6(address)) => {
            let bits = u64::try_from(address.to_bits() >> 64).expect("64 bits");
            [3 << 62 | bits >> 32, bits >> 16, bits]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(address: [u8; 4]) -> [u64; 3] {
        path(Client::Network(address.into()))
    }

    fn drain(queue: &mut FairQueue<&'static str>) -> String {
        let mut all = Vec::new();
        while let Some((_, value)) = queue.pop() {
            all.push(value);
        }
        assert!(queue.is_empty() && queue.children.is_empty());
        assert!(queue.turns.is_empty() && queue.by_len.is_empty());
        all.join(" ")
    }

    #[test]
    fn clients_take_turns_and_entries_keep_their_order() {
        let mut queue = FairQueue::new();
        let (a, b, c) = (
            v4([192, 0, 2, 1]),
            v4([198, 51, 100, 1]),
            path(Client::Unknown),
        );
        for (number, (client, value)) in [
            (a, "a1"),
            (a, "a2"),
            (a, "a3"),
            (b, "b1"),
            (c, "c1"),
            (c, "c2"),
        ]
        .into_iter()
        .enumerate()
        {
            queue.push(&client, number as u64, value);
        }
        assert_eq!((queue.len(), queue.len_at(&a), queue.len_at(&b)), (6, 3, 1));
        assert_eq!(drain(&mut queue), "a1 b1 c1 a2 c2 a3");
    }

    #[test]
    fn addresses_of_one_network_share_its_turns() {
        let mut queue = FairQueue::new();
        for number in 0..4_u16 {
            let network = [0x2001, 0xdb8, number % 2, number, 0, 0, 0, 0];
            queue.push(
                &path(Client::Network(network.into())),
                u64::from(number),
                ["n0", "m0", "n1", "m1"][usize::from(number)],
            );
        }
        queue.push(&v4([192, 0, 2, 1]), 4, "a1");
        queue.push(&v4([192, 0, 2, 1]), 5, "a2");
        assert_eq!(drain(&mut queue), "n0 a1 m0 a2 n1 m1");
    }

    #[test]
    fn evicts_the_newest_entry_of_the_longest_queue() {
        let mut queue = FairQueue::new();
        let (a, b) = (v4([192, 0, 2, 1]), v4([192, 0, 2, 2]));
        queue.push(&v4([198, 51, 100, 1]), 0, "c1");
        for (number, client) in [(1, a), (2, a), (3, b), (4, a)] {
            queue.push(&client, number, "x");
        }
        assert_eq!(queue.evict(), Some((4, "x")));
        assert_eq!(queue.evict(), Some((2, "x")));
        assert_eq!(queue.len(), 3);
        assert_eq!(drain(&mut queue), "c1 x x");
        assert_eq!(queue.evict(), None);
    }

    #[test]
    fn removes_by_number() {
        let mut queue = FairQueue::new();
        let a = v4([192, 0, 2, 1]);
        for (number, value) in [(3, "a3"), (5, "a5"), (9, "a9")] {
            queue.push(&a, number, value);
        }
        assert_eq!(queue.remove(&a, 5), Some((5, "a5")));
        assert_eq!(queue.remove(&a, 5), None);
        assert_eq!(queue.remove(&path(Client::Unknown), 3), None);
        assert_eq!(drain(&mut queue), "a3 a9");
        queue.push(&a, 10, "a10");
        assert_eq!(queue.remove(&a, 10), Some((10, "a10")));
        assert_eq!(drain(&mut queue), "");
    }
}
