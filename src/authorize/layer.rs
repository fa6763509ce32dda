use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::Service;
use tower_layer::Layer;

use super::future::GuardFuture;
use super::guard::authorize;
use crate::principal::Requirement;
use crate::reject::{ProblemJson, ResponseForRejection};

macro_rules! require_layer {
    ($layer:ident => $service:ident, $any:ident, $all:ident, $what:literal, $note:literal) => {
        #[doc = concat!("Layer that applies the [`", stringify!($service), "`] middleware.", $note)]
        ///
        /// See the [module](crate::authorize) for an example.
        #[derive(Clone, Debug)]
        #[must_use]
        pub struct $layer<R = ProblemJson> {
            requirement: Arc<Requirement>,
            rejection_response: R,
        }

        impl $layer {
            #[doc = concat!("Requires at least one of these ", $what, ". An empty list rejects every request.")]
            pub fn any_of<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
                Self::new(Requirement::$any(names))
            }

            #[doc = concat!("Requires all of these ", $what, ". An empty list rejects every request.")]
            pub fn all_of<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
                Self::new(Requirement::$all(names))
            }

            fn new(requirement: Requirement) -> Self {
                Self {
                    requirement: requirement.into(),
                    rejection_response: ProblemJson,
                }
            }
        }

        impl<R> $layer<R> {
            /// Sets the builder of the responses to rejected requests. The default is [`ProblemJson`].
            pub fn with_rejection_response<T: Clone>(self, rejection_response: T) -> $layer<T> {
                $layer {
                    requirement: self.requirement,
                    rejection_response,
                }
            }
        }

        impl<S, R: Clone> Layer<S> for $layer<R> {
            type Service = $service<S, R>;

            fn layer(&self, inner: S) -> Self::Service {
                $service {
                    inner,
                    requirement: Arc::clone(&self.requirement),
                    rejection_response: self.rejection_response.clone(),
                }
            }
        }

        #[doc = concat!("Middleware that requires ", $what, ".")]
        ///
        #[doc = concat!("Created by [`", stringify!($layer), "`].")]
        #[derive(Clone, Debug)]
        pub struct $service<S, R = ProblemJson> {
            inner: S,
            requirement: Arc<Requirement>,
            rejection_response: R,
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

require_layer!(RequireRolesLayer => RequireRoles, any_role, all_roles, "roles", "");
require_layer!(
    RequireScopesLayer => RequireScopes,
    any_scope,
    all_scopes,
    "scopes",
    " Scopes match literally or by wildcard."
);
