//! The metrics and log events of introspection, as the documentation of
//! [`IntrospectionStore`](super::IntrospectionStore) lists them.

use super::error::{IntrospectionError, IntrospectionErrorKind};
use crate::counter::count;

pub(super) const REQUESTS: &str = "service_token_introspection_requests_total";

/// Counts a request that was not served from the cache.
pub(super) fn request(outcome: &'static str) {
    count!("service_token_introspection_requests_total", "outcome" => outcome);
}

/// A request was served from an expired entry because of this error.
pub(super) fn stale(error: &IntrospectionError) {
    request("stale");
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "tower_service_token::introspection", %error, "stale response used");
    let _ = error;
}

/// An active token violates a rule.
pub(super) fn claim_violation(rule: &'static str) {
    count!("service_token_introspection_claim_violations_total", "rule" => rule);
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "tower_service_token::introspection", rule, "active token rejected");
}

/// Counts a call, from its creation until it is dropped.
pub(super) struct CallMetrics {
    pub(super) outcome: &'static str,
}

impl CallMetrics {
    pub(super) fn start() -> Self {
        #[cfg(feature = "metrics")]
        metrics::gauge!("service_token_introspection_calls_in_flight").increment(1.0);
        request("miss");
        Self { outcome: "lost" }
    }
}

impl Drop for CallMetrics {
    fn drop(&mut self) {
        #[cfg(feature = "metrics")]
        metrics::gauge!("service_token_introspection_calls_in_flight").decrement(1.0);
        count!("service_token_introspection_calls_total", "outcome" => self.outcome);
    }
}

/// Logs a failed call and returns its outcome. Rejected credentials are an error: no call succeeds
/// until an operator fixes them.
pub(super) fn call_failed(error: &IntrospectionError) -> &'static str {
    #[cfg(feature = "tracing")]
    let cause = std::error::Error::source(error).map(tracing::field::display);
    if error.kind() == IntrospectionErrorKind::Credentials {
        #[cfg(feature = "tracing")]
        tracing::error!(
            target: "tower_service_token::introspection",
            %error,
            cause,
            "the authorization server rejects this service's own credentials"
        );
        return "credentials";
    }
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: "tower_service_token::introspection",
        %error,
        cause,
        "introspection failed"
    );
    match error.kind() {
        IntrospectionErrorKind::Protocol => "protocol",
        _ => "transient",
    }
}

/// The circuit breaker opened or closed.
pub(super) fn breaker_changed(is_open: bool) {
    #[cfg(feature = "metrics")]
    metrics::gauge!("service_token_introspection_breaker_open").set(f64::from(u8::from(is_open)));
    #[cfg(feature = "tracing")]
    if is_open {
        tracing::warn!(
            target: "tower_service_token::introspection",
            "circuit breaker opened: calls to the authorization server are paused"
        );
    } else {
        tracing::info!(
            target: "tower_service_token::introspection",
            "circuit breaker closed: calls to the authorization server are resumed"
        );
    }
    let _ = is_open;
}

/// A claim has an unexpected type and counts as empty.
pub(super) fn malformed_claim(claim: &'static str) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "tower_service_token::introspection", claim, "malformed claim ignored");
    let _ = claim;
}
