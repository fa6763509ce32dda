use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;

use super::{LifecycleError, TokenPolicy};
use crate::principal::{Roles, Scopes};
use crate::registry::{AuthorityError, OwnerRights};
use crate::store::StoreError;

/// A user, team or tenant of the application, which manages its own tokens.
///
/// Pass one to [`ServiceTokens::acting_for`](super::ServiceTokens::acting_for) after the application
/// authenticated it, by a session or a JWT. Every call is then confined to the tokens with this
/// [owner](crate::store::TokenRecord::owner):
///
/// 1. Another token is not found, and no listing, count or bulk call includes it.
/// 2. New tokens get this owner. The owner of a token cannot be changed.
/// 3. The owner grants only its roles and scopes, and cannot change or rotate a token that exceeds
///    them. It may always disable and revoke its own tokens.
/// 4. [Unique names](TokenPolicy::require_unique_names) and
///    [`max_tokens_per_owner`](TokenPolicy::with_max_tokens_per_owner) apply to its tokens only.
/// 5. Idempotency keys, and the [name](super::Actor::name) in the audit trail, are those of the owner,
///    not of one session.
///
/// ```
/// use tower_service_token::lifecycle::{NewToken, Owner, Page};
/// use tower_service_token::registry::TokenFilter;
/// use tower_service_token::{MemoryStore, ServiceTokens};
///
/// # futures::executor::block_on(async {
/// let tokens = ServiceTokens::new(MemoryStore::new());
/// let alice = Owner::new("user:42").with_scopes(["projects:*"]);
/// let alice = tokens.clone().acting_for(alice);
/// let issued = alice.create(NewToken::new("ci").with_scopes(["projects:read"])).await?;
/// assert_eq!(issued.record().owner(), Some("user:42"));
///
/// let bob = tokens.acting_for(Owner::new("user:43"));
/// assert!(bob.get(issued.record().id()).await.is_err());
/// assert!(bob.list(TokenFilter::new(), Page::default()).await?.records.is_empty());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).expect("no step fails");
/// ```
#[derive(Clone)]
#[must_use]
pub struct Owner {
    id: Box<str>,
    roles: Roles,
    scopes: Scopes,
    policy: Option<TokenPolicy>,
    check: Option<Arc<dyn OwnerCheck>>,
}

impl Owner {
    /// Creates an owner that may grant nothing. The id is any text that is a valid
    /// [subject](super::NewToken) and names the owner for good, such as a database key: `user:42`. With
    /// an invalid id, such as an empty one, no token can be created.
    pub fn new(id: impl Into<Box<str>>) -> Self {
        Self {
            id: id.into(),
            roles: Roles::default(),
            scopes: Scopes::default(),
            policy: None,
            check: None,
        }
    }

    /// Sets the roles that the owner may grant. The default is none.
    pub fn with_roles<S: AsRef<str>>(mut self, roles: impl IntoIterator<Item = S>) -> Self {
        self.roles = roles.into_iter().collect();
        self
    }

    /// Sets the scopes that the owner may grant. The default is none.
    pub fn with_scopes<S: AsRef<str>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().collect();
        self
    }

    /// Sets the rules for tokens of this owner, such as those of its plan. They replace the
    /// [policy](super::ServiceTokens::with_policy) of [`ServiceTokens`](super::ServiceTokens), which is
    /// the default.
    pub fn with_policy(mut self, policy: TokenPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Sets a check that runs immediately before each change. The default is none: a change is made
    /// although the session ended since the request began.
    pub fn with_check(mut self, check: impl OwnerCheck) -> Self {
        self.check = Some(Arc::new(check));
        self
    }

    /// Returns the id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the roles that the owner may grant.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// Returns the scopes that the owner may grant.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    pub(super) fn policy(&self) -> Option<&TokenPolicy> {
        self.policy.as_ref()
    }

    /// Returns what the owner may grant now.
    pub(super) async fn rights(&self) -> Result<OwnerRights, LifecycleError> {
        let Some(check) = &self.check else {
            return Ok(self.clone().into());
        };
        let checked = check.check().await.map_err(|error| match error {
            OwnerCheckError::Rejected => AuthorityError::OwnerRejected.into(),
            OwnerCheckError::Unavailable(error) => StoreError::unavailable(error).into(),
        });
        match checked {
            Ok(checked) if checked.id == self.id => Ok(checked.into()),
            // The session belongs to another user now.
            Ok(_) => Err(AuthorityError::OwnerRejected.into()),
            Err(error) => Err(error),
        }
    }
}

impl From<Owner> for OwnerRights {
    fn from(owner: Owner) -> Self {
        let Owner {
            id, roles, scopes, ..
        } = owner;
        Self { id, roles, scopes }
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner")
            .field("id", &self.id)
            .field("roles", &self.roles)
            .field("scopes", &self.scopes)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Asks the application again about an [`Owner`], immediately before each change that is made for it.
///
/// Implemented by closures:
///
/// ```
/// use tower_service_token::lifecycle::{Owner, OwnerCheckError};
///
/// # struct Session { user: u64 }
/// # #[derive(Clone)] struct Sessions;
/// # impl Sessions {
/// #     async fn find(&self, _: u64) -> Result<Option<Session>, std::io::Error> { Ok(None) }
/// # }
/// fn owner(session: &Session) -> Owner {
///     Owner::new(format!("user:{}", session.user)).with_scopes(["projects:*"])
/// }
///
/// # let (sessions, session_id, session) = (Sessions, 1, Session { user: 42 });
/// let alice = owner(&session).with_check(move || {
///     let sessions = sessions.clone();
///     async move {
///         let session = sessions.find(session_id).await;
///         let session = session.map_err(OwnerCheckError::unavailable)?;
///         session.as_ref().map(owner).ok_or(OwnerCheckError::Rejected)
///     }
/// });
/// ```
#[async_trait]
pub trait OwnerCheck: Send + Sync + 'static {
    /// Returns the owner with its current roles and scopes, which bound the change. One with another
    /// [id](Owner::id) is rejected. Its policy and its check are not used.
    ///
    /// # Errors
    ///
    /// Returns an error if the session or the token behind the owner is no longer accepted, or if that
    /// is unknown.
    async fn check(&self) -> Result<Owner, OwnerCheckError>;
}

#[async_trait]
impl<F, R> OwnerCheck for F
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<Owner, OwnerCheckError>> + Send,
{
    async fn check(&self) -> Result<Owner, OwnerCheckError> {
        self().await
    }
}

/// The error of an [`OwnerCheck`]. The change is not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OwnerCheckError {
    /// The session or the token behind the owner is no longer accepted.
    #[error("the owner is no longer accepted")]
    Rejected,
    /// It is unknown whether the owner is still accepted, because its source does not respond.
    #[error("the owner cannot be checked")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

impl OwnerCheckError {
    /// Creates the error of a source that does not respond.
    pub fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(error.into())
    }
}
