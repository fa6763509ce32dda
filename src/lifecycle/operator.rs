use std::fmt;
use std::sync::Arc;

use super::{ActorCheck, LifecycleError};
use crate::registry::AuthorityError;

/// An administrator, who may grant and change everything.
///
/// Operators are bound by the [policies](super::ServiceTokens::with_policy), and by no other rule of
/// authority. If the application authenticates them by a session or a JWT, set a
/// [check](Self::with_check):
///
/// ```
/// use tower_service_token::lifecycle::{CallbackError, NewToken, Operator};
/// use tower_service_token::{MemoryStore, ServiceTokens};
///
/// # #[derive(Clone)] struct Sessions;
/// # impl Sessions {
/// #     async fn admin(&self, _: u64) -> Result<Option<String>, std::io::Error> { Ok(None) }
/// # }
/// # futures::executor::block_on(async {
/// # let (sessions, session_id) = (Sessions, 1);
/// let alice = Operator::new("alice").with_check(move || {
///     let sessions = sessions.clone();
///     async move {
///         let admin = sessions.admin(session_id).await;
///         let admin = admin.map_err(CallbackError::unavailable)?;
///         Ok(admin.map(Operator::new))
///     }
/// });
/// let tokens = ServiceTokens::new(MemoryStore::new()).acting_for(alice);
/// assert!(tokens.create(NewToken::new("ci")).await.is_err(), "the session ended");
/// # });
/// ```
#[derive(Clone)]
#[must_use]
pub struct Operator {
    name: Box<str>,
    check: Option<Arc<dyn ActorCheck<Self>>>,
}

impl Operator {
    /// Creates an operator with this name, which the audit trail shows.
    pub fn new(name: impl Into<Box<str>>) -> Self {
        Self {
            name: name.into(),
            check: None,
        }
    }

    /// Sets a check that runs before each read, and immediately before each change. It returns the
    /// operator of the session; one with another name is rejected. The default is none: a change is
    /// made although the session ended since the request began.
    pub fn with_check(mut self, check: impl ActorCheck<Self>) -> Self {
        self.check = Some(Arc::new(check));
        self
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns an error unless the operator is still accepted.
    pub(super) async fn confirm(&self) -> Result<(), LifecycleError> {
        let Some(check) = &self.check else {
            return Ok(());
        };
        let current = check.check().await.map_err(LifecycleError::ActorCheck)?;
        if current.is_some_and(|current| current.name == self.name) {
            Ok(())
        } else {
            Err(AuthorityError::ActorRejected.into())
        }
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
