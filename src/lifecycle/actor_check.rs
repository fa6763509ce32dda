use async_trait::async_trait;

use super::CallbackError;

/// Queries the application again about an actor `A`, an [`Owner`](super::Owner) or an
/// [`Operator`](super::Operator): before each read, and immediately before each change.
///
/// Implemented by closures that return a future. An `async` closure must not borrow what it captures:
/// clone it and return an `async move` block.
///
/// ```
/// use tower_service_token::lifecycle::{CallbackError, Owner};
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
///         let session = session.map_err(CallbackError::unavailable)?;
///         Ok(session.as_ref().map(owner))
///     }
/// });
/// ```
#[async_trait]
pub trait ActorCheck<A: 'static>: Send + Sync + 'static {
    /// Returns the actor as it is now, or `None` if its session or token is no longer accepted.
    ///
    /// 1. The roles and scopes of an owner bound the change.
    /// 2. An actor with another id, name or [acting user](super::Owner::with_acting_user) is rejected.
    /// 3. Its other settings are not used.
    ///
    /// # Errors
    ///
    /// Returns an error if it is unknown whether the actor is still accepted. Nothing is read or
    /// changed.
    async fn check(&self) -> Result<Option<A>, CallbackError>;
}

#[async_trait]
impl<A, F, R> ActorCheck<A> for F
where
    A: 'static,
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<Option<A>, CallbackError>> + Send,
{
    async fn check(&self) -> Result<Option<A>, CallbackError> {
        self().await
    }
}
