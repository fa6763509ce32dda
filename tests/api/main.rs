//! The HTTP APIs: the endpoints that check tokens, the management API and the dialects.
//!
//! 1. [Endpoints](endpoints): introspection, revocation and forward authentication.
//! 2. [Management](management): the management API, call by call.
//! 3. [`stackstate`] and [`pipeops`]: requests and responses of the existing clients, and
//!    [their lists](dialect_lists). [Rules](dialects) that all APIs share.
//! 4. [Limits](limits) on failures and lookups per client.
//! 5. [Latest expiry](latest_expiry): expiries at the end of the year 9999.
//! 6. [Escalation](escalation): a holder cannot obtain more permissions than were granted.
//! 7. [Owners](owners): a holder of an owned token sees and changes only tokens of its owner.

mod dialect_conditions;
#[cfg(feature = "testing")]
mod dialect_lists;
#[cfg(feature = "testing")]
mod dialects;
#[cfg(feature = "testing")]
mod endpoints;
mod latest_expiry;
mod escalation;
#[cfg(feature = "testing")]
mod limits;
#[cfg(feature = "testing")]
mod management;
#[cfg(feature = "testing")]
mod owners;
#[cfg(feature = "testing")]
mod pipeops;
#[cfg(feature = "testing")]
mod stackstate;
