use std::sync::Arc;

use tower_layer::Layer;

use super::service::{RequireRoles, RequireScopes};
use crate::principal::Requirement;
use crate::reject::ProblemJson;

macro_rules! require_layer {
    (
        $(#[$doc:meta])*
        $layer:ident => $service:ident, $any:ident, $all:ident, $what:literal
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        #[must_use]
        pub struct $layer<R = ProblemJson> {
            requirement: Arc<Requirement>,
            rejection_response: R,
        }

        impl $layer {
            #[doc = concat!("Requires at least one of these ", $what, ". An empty list rejects every request.")]
            pub fn any_of<N: Into<Box<str>>>(names: impl IntoIterator<Item = N>) -> Self {
                Self::new(Requirement::$any(names))
            }

            #[doc = concat!("Requires all of these ", $what, ". An empty list rejects every request.")]
            pub fn all_of<N: Into<Box<str>>>(names: impl IntoIterator<Item = N>) -> Self {
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
                $service::new(inner, Arc::clone(&self.requirement), self.rejection_response.clone())
            }
        }
    };
}

require_layer! {
    /// Layer that applies the [`RequireRoles`] middleware.
    ///
    /// See the [module](crate::authorize) for an example.
    RequireRolesLayer => RequireRoles, any_role, all_roles, "roles"
}

require_layer! {
    /// Layer that applies the [`RequireScopes`] middleware. Scopes match literally or by wildcard.
    ///
    /// See the [module](crate::authorize) for an example.
    RequireScopesLayer => RequireScopes, any_scope, all_scopes, "scopes"
}
