use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use super::check::{Checker, Finish};
use crate::observe::{self, RequestInfo, Stopwatch};
use crate::principal::Principal;
use crate::reject::{Rejection, ResponseForRejection};

const COMPLETED: &str = "polled after completion";

pin_project! {
    /// Response future for [`ServiceToken`](super::ServiceToken).
    pub struct ResponseFuture<S, R, ReqBody>
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
        // Boxed: only a request that waits for its store pays for the place.
        Waiting {
            waiting: Option<Box<Waiting<S, R, ReqBody>>>,
        },
        Admitted {
            #[pin]
            future: S::Future,
            finish: Option<Finish>,
        },
        Refused {
            response: Option<S::Response>,
        },
    }
}

/// A request whose token is being looked up.
pub(super) struct Waiting<S, R, ReqBody> {
    pub(super) lookup: BoxFuture<'static, Result<Principal, Rejection>>,
    pub(super) inner: S,
    pub(super) request: Request<ReqBody>,
    pub(super) checker: Arc<Checker>,
    pub(super) rejection_response: R,
    pub(super) stopwatch: Stopwatch,
}

impl<S, R, ReqBody, ResBody> ResponseFuture<S, R, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    R: ResponseForRejection<ResBody>,
{
    pub(super) fn waiting(waiting: Waiting<S, R, ReqBody>) -> Self {
        let waiting = Some(Box::new(waiting));
        Self {
            state: State::Waiting { waiting },
        }
    }

    #[inline]
    pub(super) fn admitted(future: S::Future, finish: Option<Finish>) -> Self {
        Self {
            state: State::Admitted { future, finish },
        }
    }

    pub(super) fn refused(
        rejection: Rejection,
        request: &Request<ReqBody>,
        rejection_response: &mut R,
        stopwatch: Stopwatch,
    ) -> Self {
        let response = Some(refuse(rejection, request, rejection_response, stopwatch));
        Self {
            state: State::Refused { response },
        }
    }
}

impl<S, R, ReqBody, ResBody> Future for ResponseFuture<S, R, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    R: ResponseForRejection<ResBody>,
{
    type Output = Result<Response<ResBody>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Waiting { waiting } => {
                    let lookup = waiting.as_mut().map(|waiting| waiting.lookup.as_mut());
                    let found = ready!(lookup.expect(COMPLETED).poll(cx));
                    let waiting = waiting.take().expect(COMPLETED);
                    match found {
                        Ok(principal) => this.state.set(waiting.admit(principal)),
                        Err(rejection) => return Poll::Ready(Ok(waiting.refuse(rejection))),
                    }
                }
                StateProj::Admitted {
                    future,
                    finish: None,
                } => return future.poll(cx),
                StateProj::Admitted {
                    future,
                    finish: Some(finish),
                } => {
                    let mut response = ready!(future.poll(cx))?;
                    finish.apply(&mut response);
                    return Poll::Ready(Ok(response));
                }
                StateProj::Refused { response } => {
                    return Poll::Ready(Ok(response.take().expect(COMPLETED)));
                }
            }
        }
    }
}

impl<S, R, ReqBody, ResBody> Waiting<S, R, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    R: ResponseForRejection<ResBody>,
{
    fn admit(mut self, principal: Principal) -> State<S, R, ReqBody> {
        self.stopwatch.accepted();
        self.request.extensions_mut().insert(principal);
        let finish = self.checker.admit(self.request.headers_mut());
        let future = self.inner.call(self.request);
        State::Admitted { future, finish }
    }

    fn refuse(mut self, rejection: Rejection) -> Response<ResBody> {
        let builder = &mut self.rejection_response;
        refuse(rejection, &self.request, builder, self.stopwatch)
    }
}

fn refuse<R, ReqBody, ResBody>(
    rejection: Rejection,
    request: &Request<ReqBody>,
    rejection_response: &mut R,
    stopwatch: Stopwatch,
) -> Response<ResBody>
where
    R: ResponseForRejection<ResBody>,
{
    let mut rejection = rejection.for_request(request.headers());
    stopwatch.refused(&rejection);
    let info = RequestInfo::of(request.headers(), request.extensions());
    observe::log(&mut rejection, &info);
    let mut response = rejection_response.response_for_rejection(&rejection);
    rejection.attach(response.extensions_mut());
    response
}
