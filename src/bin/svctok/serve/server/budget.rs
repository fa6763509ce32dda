use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// A client address may hold a third of what is free in exchanges that the service works on. Alone,
/// that is a quarter of the whole. Among others it is less, so that one more always finds room.
const FREE_PER_SHARE: usize = 3;

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) connection: u64,
    /// `None` for a declared proxy, which speaks for many clients and has no share.
    pub(super) client: Option<IpAddr>,
}

/// Whose bytes are counted together: each connection of a proxy is a client of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum ClientKey {
    Address(IpAddr),
    Proxied(u64),
}

impl Owner {
    fn key(self) -> ClientKey {
        match self.client {
            Some(address) => ClientKey::Address(address),
            None => ClientKey::Proxied(self.connection),
        }
    }
}

/// Decides which exchanges fit into a number of bytes.
///
/// 1. Exchanges that wait for their client can be evicted. Those that the service works on cannot,
///    and a client address may hold only its share of them.
/// 2. Beyond the limit, the client that holds most gives way: the oldest waiting exchange of its
///    largest connection is evicted. A client that holds most itself is rejected, unless another of
///    its own connections is larger.
pub(super) struct Budget {
    limit: usize,
    bytes: usize,
    /// Of exchanges that the service works on.
    working: usize,
    exchanges: HashMap<u64, ExchangeEntry>,
    connections: HashMap<u64, Connection>,
    clients: HashMap<ClientKey, Client>,
}

struct ExchangeEntry {
    owner: Owner,
    bytes: usize,
    is_waiting: bool,
}

struct Connection {
    client: ClientKey,
    exchanges: usize,
    bytes: usize,
    /// The exchanges that wait for their client, the oldest first.
    waiting: BTreeSet<u64>,
}

#[derive(Default)]
struct Client {
    exchanges: usize,
    bytes: usize,
    /// Of exchanges that the service works on.
    working: usize,
}

/// What it took to make room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Allocation {
    pub(super) is_granted: bool,
    /// Exchanges that were removed, which are still to be ended.
    pub(super) evicted: Vec<u64>,
}

impl Allocation {
    fn denied() -> Self {
        Self {
            is_granted: false,
            evicted: Vec::new(),
        }
    }
}

impl Budget {
    /// Creates a budget of this many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: 0,
            working: 0,
            exchanges: HashMap::new(),
            connections: HashMap::new(),
            clients: HashMap::new(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn exchanges(&self) -> usize {
        self.exchanges.len()
    }

    /// Adds an exchange that the service works on.
    pub(super) fn insert(&mut self, id: u64, owner: Owner, bytes: usize) -> Allocation {
        if !self.is_within_share(owner, bytes) {
            return Allocation::denied();
        }
        let room = self.make_room(owner, bytes);
        if room.is_granted {
            let held = ExchangeEntry {
                owner,
                bytes: 0,
                is_waiting: false,
            };
            self.exchanges.insert(id, held);
            let connections = self.connections.entry(owner.connection);
            let connection = connections.or_insert_with(|| Connection {
                client: owner.key(),
                exchanges: 0,
                bytes: 0,
                waiting: BTreeSet::new(),
            });
            connection.exchanges += 1;
            self.clients.entry(owner.key()).or_default().exchanges += 1;
            self.add(id, bytes);
        }
        room
    }

    /// Adds bytes of a request's body.
    pub(super) fn receive(&mut self, id: u64, bytes: usize) -> Allocation {
        match self.exchanges.get(&id) {
            Some(held) if held.is_waiting || self.is_within_share(held.owner, bytes) => {
                self.reserve(id, bytes)
            }
            _ => Allocation::denied(),
        }
    }

    /// Adds bytes of a response, whatever the client's share.
    pub(super) fn reserve(&mut self, id: u64, bytes: usize) -> Allocation {
        // Absent if it was evicted.
        let Some(owner) = self.exchanges.get(&id).map(|held| held.owner) else {
            return Allocation::denied();
        };
        let mut room = self.make_room(owner, bytes);
        room.is_granted = room.is_granted && self.add(id, bytes);
        room
    }

    /// Has no effect if the exchange was evicted.
    pub(super) fn release(&mut self, id: u64, bytes: usize) {
        let Some(held) = self.exchanges.get_mut(&id) else {
            return;
        };
        held.bytes -= bytes;
        self.bytes -= bytes;
        let working = if held.is_waiting { 0 } else { bytes };
        self.working -= working;
        if let Some(connection) = self.connections.get_mut(&held.owner.connection) {
            connection.bytes -= bytes;
        }
        if let Some(client) = self.clients.get_mut(&held.owner.key()) {
            client.bytes -= bytes;
            client.working -= working;
        }
    }

    /// An exchange waits for its client from now on, and can be evicted.
    pub(super) fn mark_waiting(&mut self, id: u64) {
        let Some(held) = self.exchanges.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut held.is_waiting, true) {
            return;
        }
        self.working -= held.bytes;
        if let Some(client) = self.clients.get_mut(&held.owner.key()) {
            client.working -= held.bytes;
        }
        if let Some(connection) = self.connections.get_mut(&held.owner.connection) {
            connection.waiting.insert(id);
        }
    }

    /// The service works on an exchange again. Returns `false` if it was evicted, or does not fit
    /// into its client's share.
    pub(super) fn resume(&mut self, id: u64) -> bool {
        let Some(held) = self.exchanges.get(&id) else {
            return false;
        };
        if !held.is_waiting {
            return true;
        }
        if !self.is_within_share(held.owner, held.bytes) {
            return false;
        }
        let Some(held) = self.exchanges.get_mut(&id) else {
            return false;
        };
        held.is_waiting = false;
        self.working += held.bytes;
        if let Some(client) = self.clients.get_mut(&held.owner.key()) {
            client.working += held.bytes;
        }
        if let Some(connection) = self.connections.get_mut(&held.owner.connection) {
            connection.waiting.remove(&id);
        }
        true
    }

    pub(super) fn remove(&mut self, id: u64) {
        let Some(bytes) = self.exchanges.get(&id).map(|held| held.bytes) else {
            return;
        };
        self.release(id, bytes);
        let Some(ExchangeEntry { owner, .. }) = self.exchanges.remove(&id) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(&owner.connection) {
            connection.waiting.remove(&id);
            connection.exchanges -= 1;
            if connection.exchanges == 0 {
                self.connections.remove(&owner.connection);
            }
        }
        if let Some(client) = self.clients.get_mut(&owner.key()) {
            client.exchanges -= 1;
            if client.exchanges == 0 {
                self.clients.remove(&owner.key());
            }
        }
    }

    /// Returns the exchanges that wait for their client.
    pub(super) fn waiting(&self) -> impl Iterator<Item = u64> {
        let connections = self.connections.values();
        connections.flat_map(|connection| connection.waiting.iter().copied())
    }

    fn is_within_share(&self, owner: Owner, bytes: usize) -> bool {
        if owner.client.is_none() {
            return true;
        }
        let client = self.clients.get(&owner.key());
        let working = client.map_or(0, |client| client.working);
        let free = self.limit.saturating_sub(self.working);
        working + bytes <= free / FREE_PER_SHARE
    }

    /// Removes exchanges until more bytes fit, or none can be removed.
    fn make_room(&mut self, owner: Owner, bytes: usize) -> Allocation {
        let mut evicted = Vec::new();
        while self.bytes + bytes > self.limit {
            let Some(victim) = self.victim(owner, bytes) else {
                return Allocation {
                    evicted,
                    is_granted: false,
                };
            };
            self.remove(victim);
            evicted.push(victim);
        }
        Allocation {
            evicted,
            is_granted: true,
        }
    }

    fn victim(&self, owner: Owner, bytes: usize) -> Option<u64> {
        let client_bytes = |key| self.clients.get(&key).map_or(0, |client| client.bytes);
        let own_client = client_bytes(owner.key()) + bytes;
        let own_connection = self.connections.get(&owner.connection);
        let own_connection = own_connection.map_or(0, |connection| connection.bytes) + bytes;
        let candidates = self.connections.values().filter_map(|connection| {
            let oldest = *connection.waiting.first()?;
            let client = client_bytes(connection.client);
            let is_larger = if connection.client == owner.key() {
                connection.bytes > own_connection
            } else {
                client > own_client
            };
            is_larger.then_some((client, connection.bytes, oldest))
        });
        candidates.max().map(|(_, _, oldest)| oldest)
    }

    fn add(&mut self, id: u64, bytes: usize) -> bool {
        let Some(held) = self.exchanges.get_mut(&id) else {
            return false;
        };
        held.bytes += bytes;
        self.bytes += bytes;
        let working = if held.is_waiting { 0 } else { bytes };
        self.working += working;
        if let Some(connection) = self.connections.get_mut(&held.owner.connection) {
            connection.bytes += bytes;
        }
        if let Some(client) = self.clients.get_mut(&held.owner.key()) {
            client.bytes += bytes;
            client.working += working;
        }
        true
    }
}
