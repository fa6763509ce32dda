use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

#[cfg(feature = "tokio")]
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tower::Service;

use super::check::{Checked, Checker};
use super::future::{PendingRequest, ServiceTokenFuture, reject};
use crate::limits::RequestOrigin;
use crate::observe;
use crate::principal::Principal;
use crate::reject::{ProblemJson, Rejection, ResponseForRejection};

/// Middleware that accepts requests with a valid service token.
///
/// Created by [`ServiceTokenLayer`](super::ServiceTokenLayer). See the [module](super).
#[derive(Clone)]
pub struct ServiceToken<S, R = ProblemJson> {
    pub(super) inner: S,
    pub(super) checker: Arc<Checker>,
    pub(super) rejection_response: R,
}

impl<S, R, ReqBody, ResBody> Service<Request<ReqBody>> for ServiceToken<S, R>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    R: ResponseForRejection<ResBody>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = ServiceTokenFuture<S, R, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let checker = &self.checker;
        if !request.extensions().is_empty() {
            request.extensions_mut().remove::<Principal>();
        }
        let mut propagated = None;
        match checker.check(request.headers_mut()) {
            Checked::Accepted(principal) => {
                checker.outcomes.accepted();
                observe::record_caller(&principal);
                propagated = checker.propagated(&principal);
                request.extensions_mut().insert(principal);
            }
            Checked::NoToken => match checker.accept_without_token(request.extensions()) {
                Ok(no_token) => {
                    checker.outcomes.accepted_without_token(&no_token);
                    request.extensions_mut().insert(no_token);
                }
                Err(rejection) => return self.reject(rejection, &request),
            },
            Checked::Rejected(rejection) => return self.reject(rejection, &request),
            Checked::NeedsLookup(credential) => {
                // The service that was polled ready must be the one that is called.
                let unready = self.inner.clone();
                let origin = RequestOrigin::from_extensions(request.extensions());
                return ServiceTokenFuture::waiting(PendingRequest {
                    lookup: Arc::clone(checker).authenticate(credential, origin),
                    inner: std::mem::replace(&mut self.inner, unready),
                    request,
                    checker: Arc::clone(checker),
                    rejection_response: self.rejection_response.clone(),
                });
            }
        }
        // Inline, because a function of its own would copy the request.
        let additions = checker.prepare_request(request.headers_mut(), propagated);
        ServiceTokenFuture::admitted(self.inner.call(request), additions)
    }
}

impl<S, R> ServiceToken<S, R> {
    /// Rejects a request that needs no lookup.
    fn reject<ReqBody, ResBody>(
        &mut self,
        rejection: Rejection,
        request: &Request<ReqBody>,
    ) -> ServiceTokenFuture<S, R, ReqBody>
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>>,
        R: ResponseForRejection<ResBody>,
    {
        let origin = RequestOrigin::from_extensions(request.extensions());
        let rejection = self.checker.reject_without_lookup(rejection, origin);
        let builder = &mut self.rejection_response;
        ServiceTokenFuture::rejected(reject(rejection, request, builder, &self.checker))
    }
}

#[cfg(feature = "tokio")]
impl<S, R> ServiceToken<S, R> {
    pub(crate) fn checker(&self) -> &Arc<Checker> {
        &self.checker
    }

    /// Calls the inner service with the principal that `lookup` returns.
    pub(crate) fn call_after<ReqBody, ResBody>(
        &mut self,
        mut request: Request<ReqBody>,
        lookup: BoxFuture<'static, Result<Principal, Rejection>>,
    ) -> ServiceTokenFuture<S, R, ReqBody>
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
        R: ResponseForRejection<ResBody>,
    {
        request.extensions_mut().remove::<Principal>();
        // The service that was polled ready must be the one that is called.
        let unready = self.inner.clone();
        ServiceTokenFuture::waiting(PendingRequest {
            lookup,
            inner: std::mem::replace(&mut self.inner, unready),
            request,
            checker: Arc::clone(&self.checker),
            rejection_response: self.rejection_response.clone(),
        })
    }

    /// Rejects a request without calling the inner service.
    pub(crate) fn reject_with<ReqBody, ResBody>(
        &mut self,
        rejection: Rejection,
        request: &Request<ReqBody>,
    ) -> ServiceTokenFuture<S, R, ReqBody>
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>>,
        R: ResponseForRejection<ResBody>,
    {
        let builder = &mut self.rejection_response;
        let response = reject(rejection, request, builder, &self.checker);
        ServiceTokenFuture::rejected(response)
    }
}

impl<S: fmt::Debug, R> fmt::Debug for ServiceToken<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceToken")
            .field("inner", &self.inner)
            .field("sources", &self.checker.sources)
            .finish_non_exhaustive()
    }
}
