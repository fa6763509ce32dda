//! Tickets that open a stream, and streams that end with their token.
//!
//! 1. [Tickets](tickets): where they are read, single use, and the responses.
//! 2. [The token behind a ticket](redemption) is looked up again.
//! 3. [Watching](watching): a principal ends with its token. [Failures](failures) of its store, and
//!    [fairness](fairness) between tenants.
//!
//! `tests/browser` does both in a browser, and `tests/sql` keeps tickets in databases.

mod failures;
mod fairness;
mod fixture;
mod redemption;
mod tickets;
mod watching;
