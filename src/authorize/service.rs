use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::Service;

use super::future::GuardFuture;
use super::guard::authorize;
use crate::principal::Requirement;
use crate::reject::{ProblemJson, ResponseForRejection};

macro_rules! require_service {
    ($(#[$doc:meta])* $service:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $service<S, R = ProblemJson> {
            inner: S,
            requirement: Arc<Requirement>,
            rejection_response: R,
        }

        impl<S, R> $service<S, R> {
            pub(super) fn new(
                inner: S,
                requirement: Arc<Requirement>,
                rejection_response: R,
            ) -> Self {
                Self {
                    inner,
                    requirement,
                    rejection_response,
                }
            }
        }

        impl<S, R, ReqBody, ResBody> Service<Request<ReqBody>> for $service<S, R>
        where
            S: Service<Request<ReqBody>, Response = Response<ResBody>>,
            R: ResponseForRejection<ResBody>,
        {
            type Response = Response<ResBody>;
            type Error = S::Error;
            type Future = GuardFuture<S::Future, ResBody>;

            fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
                self.inner.poll_ready(cx)
            }

            fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
                let requirement = Some(&self.requirement);
                match authorize(requirement, request.headers(), request.extensions()) {
                    Ok(_) => GuardFuture::accepted(self.inner.call(request)),
                    Err(rejection) => {
                        GuardFuture::rejected(rejection, &mut self.rejection_response)
                    }
                }
            }
        }
    };
}

require_service! {
    /// Middleware that requires roles. Created by [`RequireRolesLayer`](super::RequireRolesLayer).
    RequireRoles
}

require_service! {
    /// Middleware that requires scopes. Created by
    /// [`RequireScopesLayer`](super::RequireScopesLayer).
    RequireScopes
}
