//! The metrics of a cache, as the documentation of [`CachedStore`](super::CachedStore) lists them.

use crate::counter::count;

pub(super) const REQUESTS: &str = "service_token_cache_requests_total";

/// Counts a request that was not served from the cache.
pub(super) fn request(outcome: &'static str) {
    count!("service_token_cache_requests_total", "outcome" => outcome);
}

/// Counts a lookup, from its creation until it is dropped.
pub(super) struct LookupMetrics {
    pub(super) outcome: &'static str,
}

impl LookupMetrics {
    pub(super) fn start() -> Self {
        #[cfg(feature = "metrics")]
        metrics::gauge!("service_token_cache_lookups_in_flight").increment(1.0);
        request("miss");
        Self { outcome: "lost" }
    }
}

impl Drop for LookupMetrics {
    fn drop(&mut self) {
        #[cfg(feature = "metrics")]
        metrics::gauge!("service_token_cache_lookups_in_flight").decrement(1.0);
        count!("service_token_cache_lookups_total", "outcome" => self.outcome);
    }
}

/// A lookup restarts because the token was changed meanwhile.
pub(super) fn lookup_restarted() {
    count!("service_token_cache_lookups_restarted_total", "reason" => "change");
}

/// A change evicted one token or all.
pub(super) fn changed(scope: &'static str) {
    count!("service_token_cache_changes_total", "scope" => scope);
}
