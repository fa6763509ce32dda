//! `CachedStore`: what it remembers and for how long, who shares a lookup, and that a change wins.
//!
//! 1. [Changes](invalidation) race lookups, on one node and between nodes.
//! 2. [Time to live](ttl) of an answer, with a manual clock.
//! 3. [Lookups](lookups) are shared, outlive their requests, fail, panic, hang and run out.
//! 4. [Bounds](capacity): junk drives out nothing, and nothing grows.
//! 5. [Secrets](secrets): the memory of this process is searched for a token.

mod capacity;
mod invalidation;
mod ttl;
mod lookups;
mod node;
mod remote_store;
mod secrets;
