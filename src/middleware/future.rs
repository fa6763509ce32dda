use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use super::additions::ResponseAdditions;
use super::check::Checker;
use crate::observe::{self, RequestInfo};
use crate::principal::Principal;
use crate::reject::{Rejection, ResponseForRejection};

const COMPLETED: &str = "polled after completion";

pin_project! {
    /// Response future for [`ServiceToken`](super::ServiceToken).
    pub struct ServiceTokenFuture<S, R, ReqBody>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        state: State<S, R, ReqBody>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, R, ReqBody>
    where
        S: Service<Request<ReqBody>>,
    {
        // Boxed, so that only a request that waits for its store uses the memory.
        Waiting {
            waiting: Option<Box<PendingRequest<S, R, ReqBody>>>,
        },
        Admitted {
            #[pin]
            future: S::Future,
            additions: Option<ResponseAdditions>,
        },
        Rejected {
            response: Option<S::Response>,
        },
    }
}

/// A request whose token is being looked up.
pub(super) struct PendingRequest<S, R, ReqBody> {
    pub(super) lookup: BoxFuture<'static, Result<Principal, Rejection>>,
    pub(super) inner: S,
    pub(super) request: Request<ReqBody>,
    pub(super) checker: Arc<Checker>,
    pub(super) rejection_response: R,
}

impl<S, R, ReqBody, ResBody> ServiceTokenFuture<S, R, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    R: ResponseForRejection<ResBody>,
{
    pub(super) fn waiting(waiting: PendingRequest<S, R, ReqBody>) -> Self {
        let waiting = Some(Box::new(waiting));
        Self {
            state: State::Waiting { waiting },
        }
    }

    #[inline]
    pub(super) fn admitted(future: S::Future, additions: Option<ResponseAdditions>) -> Self {
        Self {
            state: State::Admitted { future, additions },
        }
    }

    pub(super) fn rejected(response: Response<ResBody>) -> Self {
        let response = Some(response);
        Self {
            state: State::Rejected { response },
        }
    }
}

impl<S, R, ReqBody, ResBody> Future for ServiceTokenFuture<S, R, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    R: ResponseForRejection<ResBody>,
{
    type Output = Result<Response<ResBody>, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Waiting { .. } => ready!(this.state.as_mut().poll_lookup(cx)),
                StateProj::Admitted {
                    future,
                    additions: None,
                } => return future.poll(cx),
                StateProj::Admitted {
                    future,
                    additions: Some(additions),
                } => {
                    let mut response = ready!(future.poll(cx))?;
                    additions.apply(&mut response);
                    return Poll::Ready(Ok(response));
                }
                StateProj::Rejected { response } => {
                    return Poll::Ready(Ok(response.take().expect(COMPLETED)));
                }
            }
        }
    }
}

impl<S, R, ReqBody, ResBody> State<S, R, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    R: ResponseForRejection<ResBody>,
{
    /// Evaluates the lookup of a waiting request and sets the next state. Not inlined, so that `poll` is
    /// small enough to be; otherwise the response is copied once more.
    #[inline(never)]
    fn poll_lookup(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let StateProj::Waiting { waiting } = self.as_mut().project() else {
            return Poll::Ready(());
        };
        let lookup = waiting.as_mut().map(|waiting| waiting.lookup.as_mut());
        let found = ready!(lookup.expect(COMPLETED).poll(cx));
        let waiting = waiting.take().expect(COMPLETED);
        self.set(match found {
            Ok(principal) => waiting.admit(principal),
            Err(rejection) => Self::Rejected {
                response: Some(waiting.reject(rejection)),
            },
        });
        Poll::Ready(())
    }
}

impl<S, R, ReqBody, ResBody> PendingRequest<S, R, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    R: ResponseForRejection<ResBody>,
{
    fn admit(mut self, principal: Principal) -> State<S, R, ReqBody> {
        self.checker.outcomes.accepted();
        observe::record_caller(&principal);
        let propagated = self.checker.propagated(&principal);
        self.request.extensions_mut().insert(principal);
        let headers = self.request.headers_mut();
        let additions = self.checker.prepare_request(headers, propagated);
        let future = self.inner.call(self.request);
        State::Admitted { future, additions }
    }

    fn reject(mut self, rejection: Rejection) -> Response<ResBody> {
        let builder = &mut self.rejection_response;
        reject(rejection, &self.request, builder, &self.checker)
    }
}

/// Records a rejection and builds its response.
pub(super) fn reject<R, ReqBody, ResBody>(
    rejection: Rejection,
    request: &Request<ReqBody>,
    rejection_response: &mut R,
    checker: &Checker,
) -> Response<ResBody>
where
    R: ResponseForRejection<ResBody>,
{
    let mut rejection = rejection.for_request(request.headers());
    checker.outcomes.rejected(&rejection);
    observe::record_rejected(&rejection);
    observe::log(&mut rejection, || {
        RequestInfo::from_parts(request.headers(), request.extensions())
    });
    let mut response = rejection_response.response_for_rejection(&rejection);
    rejection.attach(response.extensions_mut());
    response
}
