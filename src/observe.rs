//! Metrics and log events of every decision. The crate's documentation lists their names.

mod request;
#[cfg(any(feature = "api", feature = "tracing"))]
mod request_id;
#[cfg(feature = "tracing")]
mod span;

pub(crate) use self::request::RequestInfo;
#[cfg(feature = "api")]
pub(crate) use self::request_id::REQUEST_ID;
#[cfg(feature = "api")]
pub use self::request_id::request_id;
use crate::principal::Principal;
use crate::reject::{NoToken, Rejection};
#[cfg(feature = "tracing")]
use crate::text::ErrorChain;

/// Measures one check. It is empty without the feature `metrics`.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch {
    #[cfg(feature = "metrics")]
    started: std::time::Instant,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            #[cfg(feature = "metrics")]
            started: std::time::Instant::now(),
        }
    }

    /// Counts a request that was accepted with a principal.
    pub(crate) fn accepted(self) {
        // The label is a literal, so that the key needs no allocation.
        #[cfg(feature = "metrics")]
        {
            metrics::counter!("service_token_requests_total", "outcome" => "accepted").increment(1);
            metrics::histogram!("service_token_check_seconds", "outcome" => "accepted")
                .record(self.started.elapsed());
        }
        let _ = self;
    }

    /// Counts a request that was accepted without a credential.
    pub(crate) fn accepted_without_token(self, no_token: &NoToken) {
        let has_identity = no_token.identity().is_some();
        self.stop(if has_identity {
            "identity"
        } else {
            "anonymous"
        });
    }

    /// Counts a request that the layer rejected. It is [logged](log) where the response is built.
    pub(crate) fn rejected(self, rejection: &Rejection) {
        self.stop(rejection.reason().as_str());
    }

    fn stop(self, outcome: &'static str) {
        #[cfg(feature = "metrics")]
        {
            metrics::counter!("service_token_requests_total", "outcome" => outcome).increment(1);
            metrics::histogram!("service_token_check_seconds", "outcome" => outcome)
                .record(self.started.elapsed());
        }
        let _ = (self, outcome);
    }
}

/// Records the caller of an accepted request in the current span.
#[inline]
pub(crate) fn record_caller(principal: &Principal) {
    #[cfg(feature = "tracing")]
    span::record_caller(principal);
    let _ = principal;
}

/// Records the token of a rejected request in the current span, if its secret was presented.
pub(crate) fn record_rejected(rejection: &Rejection) {
    #[cfg(feature = "tracing")]
    if let Some(id) = rejection.token_id() {
        span::record_rejected(id);
    }
    let _ = rejection;
}

/// Records an accepted request with a previous secret.
pub(crate) fn previous_secret_used(principal: &Principal) {
    #[cfg(feature = "metrics")]
    metrics::counter!("service_token_previous_secret_uses_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::info!(target: "tower_service_token::rotation", token_id = %principal.id(), "previous secret used");
    let _ = principal;
}

/// Logs and counts the rejection of a guard or an extractor.
pub(crate) fn guard_rejected(mut rejection: Rejection, request: &RequestInfo) -> Rejection {
    #[cfg(feature = "metrics")]
    metrics::counter!(
        "service_token_guard_rejections_total",
        "reason" => rejection.reason().as_str()
    )
    .increment(1);
    log(&mut rejection, request);
    rejection
}

/// Records a forward authentication request with an invalid query, which is a configuration error of
/// the proxy.
#[cfg(feature = "api")]
pub(crate) fn invalid_forward_auth_query() {
    #[cfg(feature = "metrics")]
    metrics::counter!("service_token_endpoint_responses_total", "endpoint" => "verify", "outcome" => "invalid_query")
        .increment(1);
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "tower_service_token", "forward-auth query is invalid: it accepts role and scope, each with a value, at most 100 in all");
}

/// Counts a response of an endpoint by its outcome.
#[cfg(feature = "api")]
pub(crate) fn count_response(endpoint: &'static str, outcome: Result<&'static str, &Rejection>) {
    let name = outcome.unwrap_or_else(|rejection| rejection.reason().as_str());
    #[cfg(feature = "metrics")]
    metrics::counter!("service_token_endpoint_responses_total", "endpoint" => endpoint, "outcome" => name)
        .increment(1);
    let _ = (endpoint, name);
}

/// Logs a rejection, unless it was logged already.
pub(crate) fn log(rejection: &mut Rejection, request: &RequestInfo) {
    #[cfg(feature = "tracing")]
    if !rejection.is_logged() {
        log_rejection(rejection, request);
        rejection.set_logged();
    }
    let _ = (rejection, request);
}

#[cfg(feature = "tracing")]
fn log_rejection(rejection: &Rejection, request: &RequestInfo) {
    let reason = rejection.reason().as_str();
    let code = rejection.code();
    let status = rejection.status().as_u16();
    let token_id = rejection.token_id().or(request.caller());
    let token_id = token_id.map(tracing::field::display);
    let client = request.client().map(tracing::field::display);
    let error = source(rejection);
    let (request_id, endpoint) = (request.request_id(), request.endpoint());
    let endpoint = endpoint.as_deref();
    if rejection.status().is_server_error() {
        tracing::error!(target: "tower_service_token", reason, code, status, token_id, client, error, request_id, endpoint, "request rejected");
    } else {
        tracing::info!(target: "tower_service_token", reason, code, status, token_id, client, error, request_id, endpoint, "request rejected");
    }
}

#[cfg(feature = "tracing")]
fn source(rejection: &Rejection) -> Option<impl tracing::Value> {
    let source = std::error::Error::source(rejection)?;
    Some(tracing::field::display(ErrorChain(source)))
}

/// Logs a response that was aborted after its status was sent.
#[cfg(feature = "api")]
pub(crate) fn response_aborted(rejection: &Rejection, request: &RequestInfo) {
    #[cfg(feature = "tracing")]
    {
        let code = rejection.code();
        let status = rejection.status().as_u16();
        let token_id = request.caller().map(tracing::field::display);
        let error = source(rejection);
        let (request_id, endpoint) = (request.request_id(), request.endpoint());
        let endpoint = endpoint.as_deref();
        tracing::error!(target: "tower_service_token", code, status, token_id, error, request_id, endpoint, "response aborted");
    }
    let _ = (rejection, request);
}

/// Logs a change that exceeds the caller's rights. Only the number of roles and scopes is logged,
/// because a caller may have sent a secret as one by mistake.
#[cfg(feature = "api")]
pub(crate) fn escalation_denied(
    reason: &'static str,
    missing: Option<usize>,
    request: &RequestInfo,
) {
    #[cfg(feature = "tracing")]
    {
        let (code, status) = ("escalation_denied", 403);
        let token_id = request.caller().map(tracing::field::display);
        let (request_id, endpoint) = (request.request_id(), request.endpoint());
        let endpoint = endpoint.as_deref();
        tracing::info!(target: "tower_service_token", reason, code, status, token_id, missing, request_id, endpoint, "change rejected");
    }
    let _ = (reason, missing, request);
}
