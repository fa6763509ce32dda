//! `CachedStore`: what it caches for how long, shared lookups, and changes that race a lookup.
//!
//! 1. [Changes](invalidation) race lookups, on one node and between nodes.
//! 2. [Time to live](ttl) of an entry, with a manual clock.
//! 3. [Lookups](lookups) are shared, outlive their requests, fail, panic, hang and are limited.
//! 4. [Capacity](capacity): junk evicts nothing, and the cache is bounded.
//! 5. [Secrets](secrets): the memory of this process is searched for a token.

mod capacity;
mod id_changes;
mod invalidation;
mod lookups;
mod node;
mod remote_store;
mod secrets;
mod ttl;
