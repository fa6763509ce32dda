use std::error::Error;

use async_trait::async_trait;

use super::LifecycleError;
use crate::registry::AuthorityError;
use crate::store::StoreError;

/// Queries the application again about an actor `A`, an [`Owner`](super::Owner) or an
/// [`Operator`](super::Operator): before each read, and immediately before each change.
///
/// Implemented by closures:
///
/// ```
/// use tower_service_token::lifecycle::{ActorCheckError, Owner};
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
///         let session = session.map_err(ActorCheckError::unavailable)?;
///         session.as_ref().map(owner).ok_or(ActorCheckError::Rejected)
///     }
/// });
/// ```
#[async_trait]
pub trait ActorCheck<A: 'static>: Send + Sync + 'static {
    /// Returns the actor as it is now.
    ///
    /// 1. The roles and scopes of an owner bound the change.
    /// 2. An actor with another id, name or [acting user](super::Owner::with_acting_user) is rejected.
    /// 3. Its other settings are not used.
    ///
    /// # Errors
    ///
    /// Returns an error if the session or the token behind the actor is no longer accepted, or if that
    /// is unknown.
    async fn check(&self) -> Result<A, ActorCheckError>;
}

#[async_trait]
impl<A, F, R> ActorCheck<A> for F
where
    A: 'static,
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<A, ActorCheckError>> + Send,
{
    async fn check(&self) -> Result<A, ActorCheckError> {
        self().await
    }
}

/// The error of an [`ActorCheck`]. Nothing is read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActorCheckError {
    /// The session or the token behind the actor is no longer accepted.
    #[error("the actor is no longer accepted")]
    Rejected,
    /// It is unknown whether the actor is still accepted, because its source does not respond.
    #[error("the actor cannot be checked")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

impl ActorCheckError {
    /// Creates the error of a source that does not respond.
    pub fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<ActorCheckError> for LifecycleError {
    fn from(error: ActorCheckError) -> Self {
        match error {
            ActorCheckError::Rejected => AuthorityError::ActorRejected.into(),
            ActorCheckError::Unavailable(error) => StoreError::unavailable(error).into(),
        }
    }
}
