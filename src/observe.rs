//! Metrics and log events of every decision. The crate's documentation lists their names.

#[cfg(feature = "tracing")]
use std::cell::LazyCell;

mod outcomes;
mod request;
#[cfg(any(feature = "api", feature = "tracing"))]
mod request_id;
#[cfg(feature = "tracing")]
mod span;

pub(crate) use self::outcomes::{LookupTimer, Outcomes};
pub(crate) use self::request::RequestInfo;
#[cfg(feature = "api")]
pub(crate) use self::request_id::REQUEST_ID;
#[cfg(feature = "api")]
pub use self::request_id::request_id;
use crate::principal::Principal;
use crate::reject::Rejection;
#[cfg(feature = "tracing")]
use crate::text::ErrorChain;

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
    if let Some(id) = rejection.display_id() {
        span::record_rejected(&id);
    }
    let _ = rejection;
}

/// Records an accepted request with a previous secret.
pub(crate) fn previous_secret_used(principal: &Principal) {
    #[cfg(feature = "metrics")]
    metrics::counter!("service_token_previous_secret_uses_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::info!(target: "tower_service_token::rotation", token_id = %principal.display_id(), "previous secret used");
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
    log(&mut rejection, || request.clone());
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

/// Logs a rejection, unless it was logged already. Reads the request only if a subscriber or, with
/// `tracing/log`, a logger is interested.
pub(crate) fn log(rejection: &mut Rejection, request: impl FnOnce() -> RequestInfo) {
    #[cfg(feature = "tracing")]
    if !rejection.is_logged() {
        log_rejection(rejection, &LazyCell::new(request));
        rejection.set_logged();
    }
    #[cfg(not(feature = "tracing"))]
    let _ = (rejection, request);
}

/// `event!` alone decides whether the event is enabled: unlike `enabled!`, it also writes to the crate
/// `log`. It evaluates the fields only then.
#[cfg(feature = "tracing")]
fn log_rejection<F>(rejection: &Rejection, request: &LazyCell<RequestInfo, F>)
where
    F: FnOnce() -> RequestInfo,
{
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                target: "tower_service_token",
                reason = rejection.reason().as_str(),
                code = rejection.code(),
                status = rejection.status().as_u16(),
                token_id = token_id(rejection, request),
                client = request.client().map(tracing::field::display),
                error = source(rejection),
                request_id = request.request_id(),
                endpoint = request.endpoint(),
                "request rejected"
            )
        };
    }
    if rejection.status().is_server_error() {
        event!(error);
    } else {
        event!(info);
    }
}

#[cfg(feature = "tracing")]
fn token_id(rejection: &Rejection, request: &RequestInfo) -> Option<impl tracing::Value + use<>> {
    let id = rejection.display_id().or_else(|| request.caller().cloned());
    id.map(tracing::field::display)
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
