use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// A client address may hold a third of the free bytes in exchanges that the service works on. A
/// single client thus gets a quarter of the budget. Among others it gets less, so that one more
/// client always finds room.
const FREE_PER_SHARE: usize = 3;

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) connection: u64,
    /// `None` for a declared proxy, which forwards for many clients and has no share.
    pub(super) client: Option<IpAddr>,
}

/// The unit that competes for bytes. Each connection of a proxy counts as a client.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Contender {
    Client(IpAddr),
    ProxyConnection(u64),
}

impl Owner {
    fn contender(self) -> Contender {
        match self.client {
            Some(client) => Contender::Client(client),
            None => Contender::ProxyConnection(self.connection),
        }
    }
}

/// Decides which exchanges fit into a number of bytes. Each has a handle of type `H`.
///
/// 1. Exchanges that wait for their client can be evicted. Those that the service works on cannot,
///    and a client address may hold only its share of them.
/// 2. Beyond the limit, the client with the most bytes gives way: the oldest waiting exchange of its
///    largest connection is evicted. If that client is the sender itself, its request is denied,
///    unless another of its connections is larger.
///
/// Sums are computed when they are needed: there are at most about a thousand exchanges.
pub(super) struct Budget<H> {
    limit: usize,
    bytes: usize,
    next_id: u64,
    /// By id, so that the oldest comes first.
    exchanges: BTreeMap<u64, ExchangeEntry<H>>,
    /// The handles of removed exchanges, which are to be ended.
    evicted: Vec<H>,
}

struct ExchangeEntry<H> {
    handle: H,
    owner: Owner,
    bytes: usize,
    is_waiting: bool,
}

impl<H> Budget<H> {
    /// Creates a budget of this many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: 0,
            next_id: 0,
            exchanges: BTreeMap::new(),
            evicted: Vec::new(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn exchanges(&self) -> usize {
        self.exchanges.len()
    }

    /// Returns the handles of exchanges that were evicted since the last call, which are to be ended.
    pub(super) fn take_evicted(&mut self) -> Vec<H> {
        std::mem::take(&mut self.evicted)
    }

    /// Adds an exchange that the service works on. Calls `handle` with its id if there is room, and
    /// returns whether there is.
    pub(super) fn insert(
        &mut self,
        owner: Owner,
        bytes: usize,
        handle: impl FnOnce(u64) -> H,
    ) -> bool {
        if !self.is_within_share(owner, bytes) || !self.make_room(owner, bytes) {
            return false;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.bytes += bytes;
        let entry = ExchangeEntry {
            handle: handle(id),
            owner,
            bytes,
            is_waiting: false,
        };
        self.exchanges.insert(id, entry);
        true
    }

    /// Adds bytes of a request's body, and returns whether there is room.
    pub(super) fn receive(&mut self, id: u64, bytes: usize) -> bool {
        let is_allowed = self
            .exchanges
            .get(&id)
            .is_some_and(|entry| entry.is_waiting || self.is_within_share(entry.owner, bytes));
        is_allowed && self.reserve(id, bytes)
    }

    /// Adds bytes of a response, regardless of the client's share, and returns whether there is room.
    pub(super) fn reserve(&mut self, id: u64, bytes: usize) -> bool {
        let owner = self.exchanges.get(&id).map(|entry| entry.owner);
        if !owner.is_some_and(|owner| self.make_room(owner, bytes)) {
            return false;
        }
        // The exchange itself may have been evicted.
        let Some(entry) = self.exchanges.get_mut(&id) else {
            return false;
        };
        entry.bytes += bytes;
        self.bytes += bytes;
        true
    }

    /// Releases bytes. Has no effect if the exchange was evicted.
    pub(super) fn release(&mut self, id: u64, bytes: usize) {
        if let Some(entry) = self.exchanges.get_mut(&id) {
            entry.bytes -= bytes;
            self.bytes -= bytes;
        }
    }

    /// Marks an exchange that waits for its client, so that it can be evicted.
    pub(super) fn mark_waiting(&mut self, id: u64) {
        if let Some(entry) = self.exchanges.get_mut(&id) {
            entry.is_waiting = true;
        }
    }

    /// Marks an exchange that the service works on again. Returns `false` if it was evicted or does
    /// not fit into its client's share.
    pub(super) fn resume(&mut self, id: u64) -> bool {
        let fits = self.exchanges.get(&id).is_some_and(|entry| {
            !entry.is_waiting || self.is_within_share(entry.owner, entry.bytes)
        });
        if fits && let Some(entry) = self.exchanges.get_mut(&id) {
            entry.is_waiting = false;
        }
        fits
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<H> {
        let entry = self.exchanges.remove(&id)?;
        self.bytes -= entry.bytes;
        Some(entry.handle)
    }

    /// Returns the handles of exchanges that wait for their client.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &H> {
        let entries = self.exchanges.values();
        entries.filter(|it| it.is_waiting).map(|it| &it.handle)
    }

    fn is_within_share(&self, owner: Owner, bytes: usize) -> bool {
        let Some(client) = owner.client else {
            return true;
        };
        let (mut all, mut own) = (0, bytes);
        for entry in self.exchanges.values().filter(|it| !it.is_waiting) {
            all += entry.bytes;
            if entry.owner.client == Some(client) {
                own += entry.bytes;
            }
        }
        own <= self.limit.saturating_sub(all) / FREE_PER_SHARE
    }

    /// Evicts exchanges until the bytes fit. Returns `false` if they do not, and none can be evicted.
    fn make_room(&mut self, owner: Owner, bytes: usize) -> bool {
        while self.bytes + bytes > self.limit {
            let victim = self.victim(owner, bytes);
            let Some(handle) = victim.and_then(|id| self.remove(id)) else {
                return false;
            };
            self.evicted.push(handle);
        }
        true
    }

    fn victim(&self, owner: Owner, bytes: usize) -> Option<u64> {
        let mut clients = HashMap::from([(owner.contender(), bytes)]);
        let mut connections = HashMap::from([(owner.connection, (owner.contender(), bytes, None))]);
        for (id, entry) in &self.exchanges {
            let contender = entry.owner.contender();
            *clients.entry(contender).or_default() += entry.bytes;
            let connection = connections.entry(entry.owner.connection);
            let (_, sum, oldest) = connection.or_insert((contender, 0, None));
            *sum += entry.bytes;
            if entry.is_waiting {
                oldest.get_or_insert(*id);
            }
        }
        let own_client = clients[&owner.contender()];
        let (_, own_connection, _) = connections[&owner.connection];
        let candidates = connections
            .into_values()
            .filter_map(|(contender, sum, oldest)| {
                let client = clients[&contender];
                let is_larger = if contender == owner.contender() {
                    sum > own_connection
                } else {
                    client > own_client
                };
                is_larger.then_some((client, sum, oldest?))
            });
        candidates.max().map(|(_, _, oldest)| oldest)
    }
}
