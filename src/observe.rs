//! What an operator sees of every decision; the names are told in the crate's documentation.

use crate::limits::ClientAddress;
use crate::principal::Principal;
use crate::reject::Rejection;

/// Times one check; costs nothing without the feature `metrics`.
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

    /// The request was let through with a principal.
    #[cfg_attr(
        not(feature = "metrics"),
        expect(clippy::unused_self, reason = "nothing to time")
    )]
    pub(crate) fn accepted(self) {
        // Literals all through: only then does the key cost no allocation.
        #[cfg(feature = "metrics")]
        {
            metrics::counter!("service_token_requests_total", "outcome" => "accepted").increment(1);
            metrics::histogram!("service_token_check_seconds", "outcome" => "accepted")
                .record(self.started.elapsed());
        }
    }

    /// The request was let through without a credential.
    pub(crate) fn anonymous(self) {
        self.stop("anonymous");
    }

    /// The layer refused the request.
    pub(crate) fn refused(self, rejection: &Rejection, client: Option<ClientAddress>) {
        self.stop(rejection.reason().as_str());
        log(rejection, client);
    }

    #[cfg_attr(
        not(feature = "metrics"),
        expect(clippy::unused_self, reason = "nothing to time")
    )]
    fn stop(self, outcome: &'static str) {
        #[cfg(feature = "metrics")]
        {
            metrics::counter!("service_token_requests_total", "outcome" => outcome).increment(1);
            metrics::histogram!("service_token_check_seconds", "outcome" => outcome)
                .record(self.started.elapsed());
        }
        #[cfg(not(feature = "metrics"))]
        let _ = outcome;
    }
}

/// A request was let through that bears the secret from before a rotation.
pub(crate) fn previous_secret_used(principal: &Principal) {
    #[cfg(feature = "metrics")]
    metrics::counter!("service_token_previous_secret_uses_total").increment(1);
    #[cfg(feature = "tracing")]
    tracing::info!(target: "tower_service_token::rotation", token_id = %principal.id(), "previous secret used");
    let _ = principal;
}

/// A guard or an extractor refused a request.
pub(crate) fn guard_refused(rejection: &Rejection) {
    #[cfg(feature = "metrics")]
    metrics::counter!(
        "service_token_guard_refusals_total",
        "reason" => rejection.reason().as_str()
    )
    .increment(1);
    log(rejection, None);
}

/// A token was introspected, or could not be.
#[cfg(feature = "api")]
pub(crate) fn introspected(
    outcome: Result<&'static str, &Rejection>,
    client: Option<ClientAddress>,
) {
    answered("introspect", outcome, client);
}

/// A token's holder asked to have it revoked.
#[cfg(feature = "api")]
pub(crate) fn revoked(outcome: Result<&'static str, &Rejection>, client: Option<ClientAddress>) {
    answered("revoke", outcome, client);
}

/// A proxy asked for something that nobody can hold: a fault in its setup.
#[cfg(feature = "api")]
pub(crate) fn unknown_demand() {
    #[cfg(feature = "metrics")]
    metrics::counter!("service_token_answers_total", "endpoint" => "verify", "outcome" => "unknown_demand")
        .increment(1);
    #[cfg(feature = "tracing")]
    tracing::warn!(target: "tower_service_token", "a proxy's query has something besides role and scope with a value");
}

#[cfg(feature = "api")]
fn answered(
    endpoint: &'static str,
    outcome: Result<&'static str, &Rejection>,
    client: Option<ClientAddress>,
) {
    let name = outcome.unwrap_or_else(|rejection| rejection.reason().as_str());
    #[cfg(feature = "metrics")]
    metrics::counter!("service_token_answers_total", "endpoint" => endpoint, "outcome" => name)
        .increment(1);
    let _ = (endpoint, name);
    if let Err(rejection) = outcome {
        log(rejection, client);
    }
}

#[cfg(not(feature = "tracing"))]
fn log(_: &Rejection, _: Option<ClientAddress>) {}

#[cfg(feature = "tracing")]
fn log(rejection: &Rejection, client: Option<ClientAddress>) {
    use std::error::Error;

    let reason = rejection.reason().as_str();
    let code = rejection.code();
    let status = rejection.status().as_u16();
    let token_id = rejection.token_id().map(tracing::field::display);
    let client = client.map(tracing::field::display);
    let error = rejection
        .source()
        .map(|source| tracing::field::display(Chain(source)));
    if rejection.status().is_server_error() {
        tracing::error!(target: "tower_service_token", reason, code, status, token_id, client, error, "request refused");
    } else {
        tracing::info!(target: "tower_service_token", reason, code, status, token_id, client, error, "request refused");
    }
}

/// An error with everything behind it.
#[cfg(feature = "tracing")]
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

#[cfg(feature = "tracing")]
impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}
