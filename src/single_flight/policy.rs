use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};

/// The settings of a [`SingleFlight`].
#[derive(Clone)]
pub(crate) struct Policy<T> {
    pub(crate) clock: Arc<dyn Clock>,
    /// How long a positive result is cached. A lookup that has been running for this long is not joined.
    pub(crate) ttl: Duration,
    pub(crate) negative_ttl: Duration,
    pub(crate) capacity: usize,
    pub(crate) negative_capacity: usize,
    /// The largest total weight of positive entries, in the unit of `weigh`.
    pub(crate) max_weight: Option<usize>,
    pub(crate) weigh: fn(&T) -> usize,
    /// Returns whether an entry may be used by the wall clock.
    pub(crate) is_current: fn(&T, &dyn Clock) -> bool,
    /// At least 1.
    pub(crate) max_in_flight: usize,
    /// How long a caller waits until it may start a lookup.
    pub(crate) permit_timeout: Duration,
    /// How long a lookup may take.
    pub(crate) timeout: Duration,
    pub(crate) on_invalidation: OnInvalidation,
}

/// The longest `negative_ttl` that a user can set.
pub(crate) const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(10);

impl<T> Default for Policy<T> {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            ttl: Duration::from_secs(10),
            negative_ttl: Duration::from_secs(2),
            capacity: 10_000,
            negative_capacity: 10_000,
            max_weight: None,
            weigh: |_| 1,
            is_current: |_, _| true,
            max_in_flight: 64,
            permit_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            on_invalidation: OnInvalidation::Restart,
        }
    }
}

/// What an invalidation does to the running lookup of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnInvalidation {
    /// New callers join the lookup, which [restarts](Lookup::restart).
    Restart,
    /// New callers start another lookup. The detached one finishes without a result.
    Detach,
}
