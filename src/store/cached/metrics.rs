//! What an operator sees of a cache. The names are told in the documentation of
//! [`CachedStore`](super::CachedStore).

use super::entries::EntryKind;

// Literals all through: only then does the key cost no allocation.
#[cfg(feature = "metrics")]
macro_rules! count {
    ($name:literal, $label:literal => $value:literal) => {
        metrics::counter!($name, $label => $value).increment(1)
    };
}

#[cfg(not(feature = "metrics"))]
macro_rules! count {
    ($name:literal, $label:literal => $value:literal) => {
        let _ = ($name, $label, $value);
    };
}

/// A request was answered from memory.
pub(super) fn hit(kind: EntryKind) {
    match kind {
        EntryKind::Positive => {
            count!("service_token_cache_requests_total", "outcome" => "hit");
        }
        EntryKind::Negative => {
            count!("service_token_cache_requests_total", "outcome" => "negative_hit");
        }
    }
}

/// A request begins a lookup.
pub(super) fn miss() {
    #[cfg(feature = "metrics")]
    metrics::gauge!("service_token_cache_lookups_in_flight").increment(1.0);
    count!("service_token_cache_requests_total", "outcome" => "miss");
}

/// A request waits for a lookup that was running.
pub(super) fn coalesced() {
    count!("service_token_cache_requests_total", "outcome" => "coalesced");
}

/// A request was refused because too many lookups were running.
pub(super) fn overloaded() {
    count!("service_token_cache_requests_total", "outcome" => "overloaded");
}

/// How a lookup ended.
#[derive(Clone, Copy)]
pub(super) enum LookupOutcome {
    Answered,
    Failed,
    TimedOut,
    /// It panicked, or its runtime was shut down.
    Lost,
}

pub(super) fn lookup_ended(outcome: LookupOutcome) {
    #[cfg(feature = "metrics")]
    metrics::gauge!("service_token_cache_lookups_in_flight").decrement(1.0);
    match outcome {
        LookupOutcome::Answered => {
            count!("service_token_cache_lookups_total", "outcome" => "answered");
        }
        LookupOutcome::Failed => {
            count!("service_token_cache_lookups_total", "outcome" => "failed");
        }
        LookupOutcome::TimedOut => {
            count!("service_token_cache_lookups_total", "outcome" => "timed_out");
        }
        LookupOutcome::Lost => {
            count!("service_token_cache_lookups_total", "outcome" => "lost");
        }
    }
}

/// A lookup has to look again, because the token was changed meanwhile.
pub(super) fn lookup_overtaken() {
    count!("service_token_cache_lookups_overtaken_total", "by" => "change");
}

/// One token was forgotten because it was changed.
pub(super) fn token_changed() {
    count!("service_token_cache_changes_total", "scope" => "token");
}

/// Everything was forgotten.
pub(super) fn everything_changed() {
    count!("service_token_cache_changes_total", "scope" => "everything");
}
