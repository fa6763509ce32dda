//! `CachedStore`: what it remembers and for how long, who shares a lookup, and that a change wins.
//!
//! 1. [Changes](changes) race lookups, on one node and between nodes.
//! 2. [Lives](lives): how long an answer is told, by a clock that is turned by hand.
//! 3. [Lookups](lookups) are shared, outlive their requests, fail, panic, hang and run out.
//! 4. [Bounds](bounds): junk drives out nothing, and nothing grows.
//! 5. [Secrets](secrets): the memory of this process is searched for a token.

mod bounds;
mod changes;
mod lives;
mod lookups;
mod node;
mod remote_store;
mod secrets;
#[path = "../support/stop.rs"]
mod stop;
