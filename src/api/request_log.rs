use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::{FromRequestParts, Request};
use axum::response::Response;
use http::request::Parts;
use http::{Extensions, HeaderMap, Method};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::lifecycle::LifecycleError;
use crate::observe::{self, RequestInfo};
use crate::principal::Principal;
use crate::registry::AuthorityError;
use crate::reject::Rejection;
use crate::token::DisplayId;

/// The displayed id of the caller's token, in the extensions of a response. Only the handler knows it if no
/// layer inserts a [`Principal`].
#[derive(Clone)]
pub(super) struct CallerId(pub(super) DisplayId);

/// Why a change was rejected with `escalation_denied`, in the extensions of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct EscalationDenial {
    reason: &'static str,
    /// The number of roles and scopes that the caller lacks, if that is the reason.
    missing: Option<usize>,
}

impl EscalationDenial {
    /// Returns the reason if the error is `escalation_denied`.
    pub(super) fn from_error(error: &LifecycleError) -> Option<Self> {
        let (reason, missing) = match error {
            LifecycleError::Unauthorized(AuthorityError::EscalationDenied { missing }) => {
                ("missing_roles_or_scopes", Some(missing.len()))
            }
            LifecycleError::TokensNotCovered { .. } => ("tokens_not_covered", None),
            LifecycleError::Unauthorized(AuthorityError::OutlivesActor { .. }) => {
                ("outlives_caller", None)
            }
            _ => return None,
        };
        Some(Self { reason, missing })
    }
}

/// Logs each rejection and failure of an API once, with its request.
///
/// Put it inside the layer that inserts the [`Principal`]. The handlers do not log; the
/// [`Rejection`] in the extensions of their response holds the cause.
#[derive(Clone, Copy)]
pub(super) struct LogFailuresLayer;

impl<S> Layer<S> for LogFailuresLayer {
    type Service = LogFailures<S>;

    fn layer(&self, inner: S) -> LogFailures<S> {
        LogFailures { inner }
    }
}

/// Service of a [`LogFailuresLayer`].
#[derive(Clone)]
pub(super) struct LogFailures<S> {
    inner: S,
}

impl<S> Service<Request> for LogFailures<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = LogFailuresFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let info = request_info(request.method(), request.headers(), request.extensions());
        LogFailuresFuture {
            inner: self.inner.call(request),
            info: Some(info),
        }
    }
}

pin_project! {
    /// Response future of [`LogFailures`].
    pub(super) struct LogFailuresFuture<F> {
        #[pin]
        inner: F,
        info: Option<RequestInfo>,
    }
}

impl<F, E> Future for LogFailuresFuture<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut result = ready!(this.inner.poll(cx));
        if let (Ok(response), Some(info)) = (&mut result, this.info.take()) {
            log(response, info);
        }
        Poll::Ready(result)
    }
}

fn log(response: &mut Response, info: RequestInfo) {
    let extensions = response.extensions_mut();
    let caller = extensions.remove::<CallerId>();
    let info = info.with_caller(caller.map(|CallerId(id)| id));
    if let Some(mut rejection) = extensions.remove::<Rejection>() {
        observe::log(&mut rejection, || info.clone());
        rejection.attach(extensions);
    }
    if let Some(EscalationDenial { reason, missing }) = extensions.remove::<EscalationDenial>() {
        observe::escalation_denied(reason, missing, &info);
    }
}

/// For handlers that may fail after the response began.
impl<S: Sync> FromRequestParts<S> for RequestInfo {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::from(&*parts))
    }
}

impl From<&Parts> for RequestInfo {
    fn from(parts: &Parts) -> Self {
        request_info(&parts.method, &parts.headers, &parts.extensions)
    }
}

fn request_info(method: &Method, headers: &HeaderMap, extensions: &Extensions) -> RequestInfo {
    let caller = extensions.get::<Principal>().map(Principal::display_id);
    RequestInfo::from_parts(headers, extensions)
        .with_caller(caller)
        .with_endpoint(method, extensions.get())
}
