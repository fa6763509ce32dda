use std::sync::Arc;

use http::{Extensions, HeaderMap};

use super::guard::{CallerRef, check_requirement, find_caller};
use crate::observe::{self, RequestInfo};
use crate::principal::{Identity, Principal, Requirement, Roles, Scopes};
use crate::reject::Rejection;

/// The caller of a request: a service token, or an identity that the application authenticated.
///
/// There are identities only behind
/// [`ServiceTokenLayer::with_identity`](crate::ServiceTokenLayer::with_identity). With the feature
/// `axum`, `Caller` and `Option<Caller>` are extractors. Elsewhere use
/// [`from_extensions`](Self::from_extensions).
///
/// ```
/// use tower_service_token::authorize::Caller;
/// use tower_service_token::principal::Requirement;
/// use tower_service_token::reject::Rejection;
///
/// async fn deploy(caller: Caller) -> Result<String, Rejection> {
///     caller.require(Requirement::all_scopes(["deployments:create"]))?;
///     Ok(match caller {
///         Caller::Token(token) => format!("deployed by token {}", token.id()),
///         Caller::Identity(user) => format!("deployed by {}", user.name()),
///     })
/// }
/// ```
///
/// With the feature `testing`, [`testing::authenticated`](crate#features) inserts a caller into the
/// request of a test.
///
/// Exhaustive on purpose: a match must handle both, and a new kind of caller is a breaking change.
#[derive(Clone, Debug)]
pub enum Caller {
    /// The request presented a service token.
    Token(Principal),
    /// The request presented no service token, and the application authenticated its caller.
    Identity(Identity),
}

impl Caller {
    /// Returns the caller of a request with these extensions.
    ///
    /// # Errors
    ///
    /// Returns a rejection, which is already logged and counted: 401 if the request has no caller
    /// (behind an optional layer), and 500 if there is no
    /// [`ServiceTokenLayer`](crate::ServiceTokenLayer) in front.
    pub fn from_extensions(extensions: &Extensions) -> Result<Self, Rejection> {
        find_caller(extensions)
            .map(Self::from)
            .map_err(|rejection| {
                let request = RequestInfo::from_parts(&HeaderMap::new(), extensions);
                observe::guard_rejected(rejection, &request)
            })
    }

    /// Returns the name of the token or of the identity.
    ///
    /// Do not use it as a key: tokens and users can have equal names.
    pub fn name(&self) -> &str {
        match self {
            Self::Token(principal) => principal.name(),
            Self::Identity(identity) => identity.name(),
        }
    }

    /// Returns the roles of the caller.
    pub fn roles(&self) -> &Roles {
        self.as_ref().roles()
    }

    /// Returns the scopes of the caller.
    pub fn scopes(&self) -> &Scopes {
        self.as_ref().scopes()
    }

    /// Returns the principal, if the caller presented a service token.
    pub fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Token(principal) => Some(principal),
            Self::Identity(_) => None,
        }
    }

    /// Returns the identity, if the application authenticated the caller.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Token(_) => None,
            Self::Identity(identity) => Some(identity),
        }
    }

    /// Returns an error unless the caller meets the requirement, as
    /// [`Principal::require`](crate::Principal::require) does.
    ///
    /// # Errors
    ///
    /// Returns a rejection with status 403, which is already logged and counted.
    pub fn require(&self, requirement: impl Into<Arc<Requirement>>) -> Result<(), Rejection> {
        check_requirement(self.as_ref(), &requirement.into())
            .map_err(|rejection| observe::guard_rejected(rejection, &RequestInfo::default()))
    }

    fn as_ref(&self) -> CallerRef<'_> {
        match self {
            Self::Token(principal) => CallerRef::Token(principal),
            Self::Identity(identity) => CallerRef::Identity(identity),
        }
    }
}

impl From<Principal> for Caller {
    fn from(principal: Principal) -> Self {
        Self::Token(principal)
    }
}

impl From<Identity> for Caller {
    fn from(identity: Identity) -> Self {
        Self::Identity(identity)
    }
}

impl From<CallerRef<'_>> for Caller {
    fn from(caller: CallerRef<'_>) -> Self {
        match caller {
            CallerRef::Token(principal) => Self::Token(principal.clone()),
            CallerRef::Identity(identity) => Self::Identity(identity.clone()),
        }
    }
}
