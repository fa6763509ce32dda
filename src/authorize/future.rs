use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;

use crate::reject::{Rejection, ResponseForRejection};

pin_project! {
    /// Response future for [`RequireRoles`](super::RequireRoles) and
    /// [`RequireScopes`](super::RequireScopes).
    pub struct GuardFuture<F, B> {
        #[pin]
        accepted: Option<F>,
        rejected: Option<Response<B>>,
    }
}

impl<F, B> GuardFuture<F, B> {
    pub(super) fn accepted(future: F) -> Self {
        Self {
            accepted: Some(future),
            rejected: None,
        }
    }

    pub(super) fn rejected(
        rejection: Rejection,
        rejection_response: &mut impl ResponseForRejection<B>,
    ) -> Self {
        let mut response = rejection_response.response_for_rejection(&rejection);
        rejection.attach(response.extensions_mut());
        Self {
            accepted: None,
            rejected: Some(response),
        }
    }
}

impl<F, B, E> Future for GuardFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.accepted.as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Ready(Ok(this.rejected.take().expect("polled after completion"))),
        }
    }
}
