use tower_layer::Layer;

use super::guard::Guard;
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
            guard: Guard,
            rejection_response: R,
        }

        impl $layer {
            #[doc = concat!("Demands at least one of these ", $what, "; of an empty list, nobody passes.")]
            pub fn any_of<N: Into<Box<str>>>(names: impl IntoIterator<Item = N>) -> Self {
                Self::new(Requirement::$any(names))
            }

            #[doc = concat!("Demands each of these ", $what, "; of an empty list, nobody passes.")]
            pub fn all_of<N: Into<Box<str>>>(names: impl IntoIterator<Item = N>) -> Self {
                Self::new(Requirement::$all(names))
            }

            fn new(requirement: Requirement) -> Self {
                Self {
                    guard: Guard::new(requirement),
                    rejection_response: ProblemJson,
                }
            }
        }

        impl<R> $layer<R> {
            /// Replaces the builder of refusals. The default is [`ProblemJson`].
            pub fn with_rejection_response<T: Clone>(self, rejection_response: T) -> $layer<T> {
                $layer {
                    guard: self.guard,
                    rejection_response,
                }
            }
        }

        impl<S, R: Clone> Layer<S> for $layer<R> {
            type Service = $service<S, R>;

            fn layer(&self, inner: S) -> Self::Service {
                $service::new(inner, self.guard.clone(), self.rejection_response.clone())
            }
        }
    };
}

require_layer! {
    /// Layer that applies [`RequireRoles`]: callers must hold roles.
    ///
    /// See the [module](crate::authorize) for an example.
    RequireRolesLayer => RequireRoles, any_role, all_roles, "roles"
}

require_layer! {
    /// Layer that applies [`RequireScopes`]: callers must hold scopes, by name or by wildcard.
    ///
    /// See the [module](crate::authorize) for an example.
    RequireScopesLayer => RequireScopes, any_scope, all_scopes, "scopes"
}
