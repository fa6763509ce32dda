//! The HTTP APIs: the endpoints that check tokens, the management API and the dialects.
//!
//! 1. [Endpoints](endpoints): introspection, revocation and forward authentication.
//! 2. [Management](management): the management API, call by call.
//! 3. [`stackstate`] and [`pipeops`]: what the existing clients send, and
//!    [the lists](dialect_lists) that both answer with. [Rules](dialects) that all APIs share.
//! 4. [Limits](limits): what unknown tokens cost their sender.
//! 5. [The end of time](end_of_time), the same in every API.
//! 6. [Escalation](escalation): no steps give a holder more than was granted.
//! 7. [Owners](owners): holders of owned tokens, in every API.

#[cfg(feature = "testing")]
mod dialect_lists;
#[cfg(feature = "testing")]
mod dialects;
#[cfg(feature = "testing")]
mod endpoints;
mod end_of_time;
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
