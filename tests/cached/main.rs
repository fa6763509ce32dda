//! `CachedStore`: TTLs, shared lookups, and changes that race a lookup.
//!
//! 1. [Invalidation](invalidation): changes that race lookups, on one node and between nodes.
//! 2. [Changes without digests](id_changes) evict entries by token id.
//! 3. [Time to live](ttl) of an entry, with a manual clock.
//! 4. [Lookups](lookups): sharing, cancellation, errors, panics, timeouts and limits.
//! 5. [Capacity](capacity): the cache is bounded, and unknown tokens evict no valid ones.
//! 6. [Secrets](secrets): the memory of the process contains no cached token.

mod capacity;
mod id_changes;
mod invalidation;
mod lookups;
mod node;
mod remote_store;
mod secrets;
mod ttl;
