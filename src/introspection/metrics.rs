//! What an operator sees of introspection. The names are told in the documentation of
//! [`IntrospectionStore`](super::IntrospectionStore).

use super::error::IntrospectionError;
use super::rules::ClaimViolation;

// Literals all through: only then does the key cost no allocation.
#[cfg(feature = "metrics")]
macro_rules! count {
    ($name:literal, $label:literal => $value:expr) => {
        metrics::counter!($name, $label => $value).increment(1)
    };
}

#[cfg(not(feature = "metrics"))]
macro_rules! count {
    ($name:literal, $label:literal => $value:expr) => {
        let _ = ($name, $label, $value);
    };
}

pub(super) fn hit() {
    count!("service_token_introspection_requests_total", "outcome" => "hit");
}

pub(super) fn negative_hit() {
    count!("service_token_introspection_requests_total", "outcome" => "negative_hit");
}

/// The token is not one to ask about.
pub(super) fn refused_locally() {
    count!("service_token_introspection_requests_total", "outcome" => "refused_locally");
}

/// A request waits for a call that was running.
pub(super) fn coalesced() {
    count!("service_token_introspection_requests_total", "outcome" => "coalesced");
}

/// A request was refused because too many calls were running.
pub(super) fn overloaded() {
    count!("service_token_introspection_requests_total", "outcome" => "overloaded");
}

/// A request was refused because the breaker is open.
pub(super) fn breaker_open() {
    count!("service_token_introspection_requests_total", "outcome" => "breaker_open");
}

/// A request was answered from an answer past its time, because of this error.
pub(super) fn stale(error: &IntrospectionError) {
    count!("service_token_introspection_requests_total", "outcome" => "stale");
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "tower_service_token::introspection", %error, "stale answer used");
    let _ = error;
}

/// An active token does not meet a rule.
pub(super) fn claim_violation(rule: ClaimViolation) {
    count!("service_token_introspection_refusals_total", "rule" => rule.as_str());
    #[cfg(feature = "tracing")]
    tracing::debug!(
        target: "tower_service_token::introspection",
        rule = rule.as_str(),
        "active token refused"
    );
}

/// A request begins a call.
pub(super) fn call_started() {
    #[cfg(feature = "metrics")]
    metrics::gauge!("service_token_introspection_calls_in_flight").increment(1.0);
    count!("service_token_introspection_requests_total", "outcome" => "miss");
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallOutcome {
    Active,
    Inactive,
    UnsupportedToken,
    Credentials,
    Protocol,
    Transient,
    TimedOut,
    /// It panicked, or its runtime was shut down.
    Lost,
}

impl CallOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::UnsupportedToken => "unsupported_token",
            Self::Credentials => "credentials",
            Self::Protocol => "protocol",
            Self::Transient => "transient",
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
        }
    }
}

pub(super) fn call_ended(call_outcome: CallOutcome) {
    #[cfg(feature = "metrics")]
    metrics::gauge!("service_token_introspection_calls_in_flight").decrement(1.0);
    count!("service_token_introspection_calls_total", "outcome" => call_outcome.as_str());
}

/// A call failed. Rejected credentials are this service's own fault, and nothing works until
/// somebody mends them.
pub(super) fn call_failed(error: &IntrospectionError) {
    #[cfg(feature = "tracing")]
    {
        use std::error::Error;

        let cause = error.source().map(tracing::field::display);
        if error.kind() == super::error::IntrospectionErrorKind::Credentials {
            tracing::error!(target: "tower_service_token::introspection", %error, cause, "the authorization server rejects this service's own credentials");
        } else {
            tracing::warn!(target: "tower_service_token::introspection", %error, cause, "introspection failed");
        }
    }
    let _ = error;
}

pub(super) fn breaker_opened() {
    #[cfg(feature = "metrics")]
    metrics::gauge!("service_token_introspection_breaker_open").set(1.0);
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "tower_service_token::introspection", "the authorization server is not asked for a while");
}

pub(super) fn breaker_closed() {
    #[cfg(feature = "metrics")]
    metrics::gauge!("service_token_introspection_breaker_open").set(0.0);
    #[cfg(feature = "tracing")]
    tracing::info!(target: "tower_service_token::introspection", "the authorization server is asked again");
}

/// A claim is of no type it can be; it counts as empty.
pub(super) fn malformed_claim(claim: &'static str) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "tower_service_token::introspection", claim, "claim of a wrong type left out");
    let _ = claim;
}
