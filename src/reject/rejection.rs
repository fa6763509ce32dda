use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode};

use super::FailureLogged;
use super::challenge::{Challenges, Prepared, scope_list};
use super::reason::RejectionReason;
use crate::principal::{Principal, Requirement};
use crate::store::{Denial, StoreError};
use crate::token::{DisplayId, TokenId};

/// A rejected request. The extensions of its response contain it, for outer layers.
#[derive(Clone)]
pub struct Rejection {
    reason: RejectionReason,
    grpc: bool,
    is_logged: bool,
    token_id: Option<TokenId>,
    /// `None` until the layer in front sets its challenges.
    challenges: Option<Challenges>,
    cold: Option<Arc<Cold>>,
}

/// Fields that the most frequent rejections lack, so that those are cheap to move.
#[derive(Clone, Default)]
struct Cold {
    /// `None` if the `token_id` is shown.
    display_id: Option<DisplayId>,
    retry_after: Option<Duration>,
    required: Vec<Arc<Requirement>>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Rejection {
    /// Creates a rejection for `reason`.
    ///
    /// Its challenge is `ApiKey realm="api"`. A [`ServiceTokenLayer`](crate::ServiceTokenLayer) in front
    /// replaces it with its own.
    pub fn new(reason: RejectionReason) -> Self {
        Self {
            reason,
            grpc: false,
            is_logged: false,
            token_id: None,
            challenges: None,
            cold: None,
        }
    }

    /// Creates a rejection (403) because `principal` does not meet `requirement`.
    pub fn insufficient_scope(
        principal: &Principal,
        requirement: impl Into<Arc<Requirement>>,
    ) -> Self {
        Self::unmet_requirements(vec![requirement.into()]).with_principal(principal)
    }

    /// Creates a rejection (403) because an identity does not meet the requirement. It has no
    /// challenge: another token is not what the caller lacks.
    pub(crate) fn insufficient_identity(requirement: Arc<Requirement>) -> Self {
        let mut rejection = Self::new(RejectionReason::IdentityInsufficientScope);
        rejection.cold_mut().required = vec![requirement];
        rejection
    }

    /// Creates a rejection (403) that names the requirements that the caller does not meet.
    pub(crate) fn unmet_requirements(requirements: Vec<Arc<Requirement>>) -> Self {
        let mut rejection = Self::new(RejectionReason::InsufficientScope);
        rejection.cold_mut().required = requirements;
        rejection
    }

    /// Creates a rejection (429) because of too many failures or requests.
    pub fn rate_limited(retry_after: Duration) -> Self {
        Self::new(RejectionReason::RateLimited).with_retry_after(retry_after)
    }

    /// Sets the `Retry-After` of a response with status 429 or 503, in whole seconds, rounded up
    /// and at least 1 s. The default is 1 s.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.cold_mut().retry_after = Some(retry_after);
        self
    }

    /// Sets the cause of the rejection, for logs. The response does not contain it. By default there is
    /// none.
    #[must_use]
    pub fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.cold_mut().source = Some(Arc::new(source));
        self
    }

    pub(crate) fn with_token_id(mut self, token_id: Option<TokenId>) -> Self {
        self.token_id = token_id;
        self
    }

    /// Sets the ids of the denied token, if its secret was presented.
    pub(crate) fn with_denial(self, denial: &Denial) -> Self {
        self.with_token_id(denial.token_id())
            .with_display_id(denial.own_display_id())
    }

    /// Sets the ids of the caller's token.
    pub(crate) fn with_principal(self, principal: &Principal) -> Self {
        self.with_token_id(Some(principal.id()))
            .with_display_id(principal.own_display_id())
    }

    /// Sets the id that is shown instead of the `TokenId`.
    pub(crate) fn with_display_id(mut self, id: Option<&DisplayId>) -> Self {
        if id.is_some() {
            self.cold_mut().display_id = id.cloned();
        }
        self
    }

    pub(crate) fn with_challenges(mut self, challenges: &Challenges) -> Self {
        self.challenges = Some(challenges.clone());
        self
    }

    /// Sets the challenges of a guard's response to those of the layer in front.
    pub(crate) fn fill_in_challenges<B>(response: &mut Response<B>, challenges: &Challenges) {
        let lacks_challenges = |rejection: &&Self| rejection.challenges.is_none();
        let Some(rejection) = response
            .extensions()
            .get::<Self>()
            .filter(lacks_challenges)
            .cloned()
        else {
            return;
        };
        let rejection = rejection.with_challenges(challenges);
        if response.headers_mut().remove(WWW_AUTHENTICATE).is_some() {
            rejection.append_challenges(response.headers_mut());
        }
        response.extensions_mut().insert(rejection);
    }

    /// Records whether the content type of the request is gRPC, for [`GrpcStatus`](super::GrpcStatus).
    ///
    /// The layer and the guards of this crate do so. A guard of your own does it before it passes its
    /// rejection to a response builder:
    ///
    /// ```
    /// use http::{Request, Response};
    /// use tower_service_token::reject::{
    ///     GrpcStatus, Rejection, RejectionReason, ResponseForRejection,
    /// };
    ///
    /// let request = Request::post("/jobs.v1.Jobs/Start").header("content-type", "application/grpc");
    /// let request = request.body(())?;
    /// let rejection = Rejection::new(RejectionReason::RateLimited).for_request(request.headers());
    /// let response: Response<String> = GrpcStatus.response_for_rejection(&rejection);
    /// assert_eq!(response.headers()["grpc-status"], "8"); // RESOURCE_EXHAUSTED
    /// # Ok::<_, http::Error>(())
    /// ```
    #[must_use]
    pub fn for_request(mut self, headers: &HeaderMap) -> Self {
        // Most rejected requests have none, and scanning the names costs less than a hash.
        let is_typed = headers.keys().any(|name| *name == CONTENT_TYPE);
        self.grpc = is_typed
            && headers
                .get(CONTENT_TYPE)
                .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        self
    }

    /// Returns the rejection of a change. If the store is unavailable, the change failed, or its
    /// outcome is unknown.
    #[cfg(any(feature = "api", feature = "axum"))]
    pub(crate) fn of_change(mut self) -> Self {
        self.reason = self.reason.of_change();
        self
    }

    /// Returns the detailed reason, for logs and metrics.
    pub fn reason(&self) -> RejectionReason {
        self.reason
    }

    /// Returns the `code` in the response.
    pub fn code(&self) -> &'static str {
        self.reason.code()
    }

    /// Returns the `detail` of the response, a description for people.
    pub fn detail(&self) -> &'static str {
        self.reason.detail()
    }

    /// Returns the status of the response. The gRPC response of [`GrpcStatus`](super::GrpcStatus) has
    /// status 200 instead.
    pub fn status(&self) -> StatusCode {
        self.reason.status()
    }

    /// Returns the id of the token, only if its secret was presented.
    pub fn token_id(&self) -> Option<TokenId> {
        self.token_id
    }

    /// Returns the id of the token as the response shows it, only if its secret was presented: the one
    /// that the store [set](crate::store::TokenRecord::with_display_id), or else the `TokenId`.
    pub fn display_id(&self) -> Option<DisplayId> {
        let own = self.cold().and_then(|cold| cold.display_id.clone());
        own.or_else(|| self.token_id.map(DisplayId::from))
    }

    /// Returns the first unmet [requirement](Self::requirements), if that was the reason.
    pub fn required(&self) -> Option<&Requirement> {
        self.requirements().next()
    }

    /// Returns the requirements that the caller does not meet, if that was the reason. `/verify` rejects
    /// a request because of several.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        let cold = self.cold().into_iter();
        cold.flat_map(|cold| cold.required.iter().map(Arc::as_ref))
    }

    /// Returns the time for `Retry-After`, if it was set.
    pub fn retry_after(&self) -> Option<Duration> {
        self.cold()?.retry_after
    }

    /// Returns whether the content type of the request is gRPC. Clients choose it, so only a gRPC service
    /// should respond differently.
    pub fn is_grpc(&self) -> bool {
        self.grpc
    }

    /// Returns a response with the status and the headers of this rejection, without a content type.
    pub fn to_response<B>(&self, body: B) -> Response<B> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        self.append_challenges(headers);
        response
    }

    /// Returns the rejection as a gRPC response, whatever the request: trailers-only, with the HTTP
    /// status 200 and the gRPC status in the headers.
    ///
    /// For a handler or guard of a gRPC service. tonic makes a `Status` of the headers:
    /// `Status::from_header_map(rejection.to_grpc_response(()).headers())`. See the
    /// [recipe](crate::guide::grpc). The layer does not know that such a response is a rejection, so the
    /// challenge keeps the realm `api`.
    ///
    /// ```
    /// use tower_service_token::reject::{Rejection, RejectionReason};
    ///
    /// let rejection = Rejection::new(RejectionReason::MissingToken);
    /// let response = rejection.to_grpc_response(());
    /// assert_eq!(response.status(), 200);
    /// assert_eq!(response.headers()["grpc-status"], "16"); // UNAUTHENTICATED
    /// assert_eq!(response.headers()["grpc-message"], "no service token provided");
    /// ```
    pub fn to_grpc_response<B>(&self, body: B) -> Response<B> {
        let mut response = self.to_response(body);
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", self.grpc_status().into());
        // No `detail` needs the percent-encoding of gRPC.
        headers.insert("grpc-message", HeaderValue::from_static(self.detail()));
        response
    }

    /// Returns the gRPC status code, such as 16 for `UNAUTHENTICATED`.
    pub fn grpc_status(&self) -> i32 {
        self.reason.grpc_status()
    }

    /// Returns whether the token is invalid. If not, the lookup failed.
    #[cfg(feature = "api")]
    pub(crate) fn is_invalid_token(&self) -> bool {
        self.status() == StatusCode::UNAUTHORIZED
    }

    /// Returns whether an event was logged for it.
    #[cfg(feature = "tracing")]
    pub(crate) fn is_logged(&self) -> bool {
        self.is_logged
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn set_logged(&mut self) {
        self.is_logged = true;
    }

    /// Inserts the rejection into the extensions of its response, with [`FailureLogged`] if it is a
    /// failure that was logged.
    pub(crate) fn attach(self, extensions: &mut Extensions) {
        if self.is_logged && self.status().is_server_error() {
            extensions.insert(FailureLogged);
        }
        extensions.insert(self);
    }

    fn cold(&self) -> Option<&Cold> {
        self.cold.as_deref()
    }

    fn cold_mut(&mut self) -> &mut Cold {
        Arc::make_mut(self.cold.get_or_insert_default())
    }

    fn append_challenges(&self, headers: &mut HeaderMap) {
        /// By reason, without and with the id of the token.
        static PREPARED: [[Prepared; 2]; RejectionReason::COUNT] =
            [const { [const { Prepared::new() }; 2] }; RejectionReason::COUNT];

        if self.reason != RejectionReason::MissingToken && self.reason.challenge_error().is_none() {
            return;
        }
        let challenges = self.challenges.as_ref().unwrap_or(&Challenges::DEFAULT);
        if self.required().is_none() {
            let has_id = usize::from(self.token_id.is_some());
            let prepared = &PREPARED[self.reason as usize][has_id];
            let params = || self.challenge_params();
            if let Some(values) = challenges.prepared_values(prepared, params) {
                for challenge in values {
                    headers.append(WWW_AUTHENTICATE, challenge);
                }
                return;
            }
        }
        for challenge in challenges.values(&self.challenge_params()) {
            headers.append(WWW_AUTHENTICATE, challenge);
        }
    }

    fn retry_after_seconds(&self) -> Option<u64> {
        let waits = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        waits.contains(&self.status()).then(|| {
            let wait = self.retry_after().unwrap_or_default();
            let part = u64::from(wait.subsec_nanos() > 0);
            wait.as_secs().saturating_add(part).max(1)
        })
    }

    fn challenge_params(&self) -> String {
        let Some(error) = self.reason.challenge_error() else {
            return String::new();
        };
        let mut params = vec![String::new(), format!("error=\"{error}\"")];
        if self.token_id.is_some() && self.status() == StatusCode::UNAUTHORIZED {
            params.push(format!("error_description=\"{}\"", self.detail()));
        }
        let scopes = self.requirements().filter(|it| it.requires_scopes());
        let scopes = scope_list(scopes.flat_map(Requirement::names));
        if !scopes.is_empty() {
            params.push(format!("scope=\"{scopes}\""));
        }
        params.join(", ")
    }
}

/// Converts the error of a failed lookup: 503, 429 or 500 by its
/// [kind](crate::store::StoreErrorKind), with its time to retry.
///
/// The error is the [source](Error::source) of the rejection, for logs. The response does not contain
/// it.
///
/// ```
/// use tower_service_token::reject::{Rejection, RejectionReason};
/// use tower_service_token::store::StoreError;
///
/// let rejection = Rejection::from(StoreError::unavailable("connection refused"));
/// assert_eq!(rejection.reason(), RejectionReason::StoreUnavailable);
/// assert_eq!(rejection.status(), 503);
/// ```
impl From<StoreError> for Rejection {
    fn from(error: StoreError) -> Self {
        let rejection = Self::new(error.kind().into());
        let retry_after = error.retry_after().unwrap_or_default();
        rejection.with_retry_after(retry_after).with_source(error)
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("reason", &self.reason)
            .field("token_id", &self.display_id())
            .field("required", &self.requirements().collect::<Vec<_>>())
            .field("retry_after", &self.retry_after())
            .field("source", &self.source())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail())
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source: &(dyn Error + 'static) = self.cold()?.source.as_deref()?;
        Some(source)
    }
}

#[cfg(test)]
mod tests;
