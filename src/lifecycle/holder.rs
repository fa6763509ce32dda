use std::sync::Arc;

use crate::principal::{Principal, Requirement};
use crate::store::{Credential, TokenRecord};

/// The holder of a token, who may grant and change only what the token covers.
///
/// The token is read again before each call, and in the transaction of each change. If it is in
/// another store than the tokens it manages, declare that store with
/// [`with_actor_store`](super::ServiceTokens::with_actor_store) and add the
/// [credential](Self::with_credential).
///
/// ```
/// use tower_service_token::lifecycle::{ChangedToken, Holder, LifecycleError};
/// use tower_service_token::principal::Requirement;
/// use tower_service_token::token::TokenId;
/// use tower_service_token::{Principal, ServiceTokens};
///
/// async fn revoke(
///     tokens: ServiceTokens,
///     caller: Principal,
///     id: TokenId,
/// ) -> Result<ChangedToken, LifecycleError> {
///     let managers = Requirement::any_scope(["tokens:manage"]);
///     tokens.acting_for(Holder::new(caller).with_requirement(managers)).revoke(id).await
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Holder {
    pub(super) principal: Principal,
    pub(super) credential: Option<Arc<Credential<'static>>>,
    pub(super) requirement: Option<Arc<Requirement>>,
}

impl Holder {
    /// Creates the holder of the token that the layer accepted.
    pub fn new(principal: Principal) -> Self {
        Self {
            principal,
            credential: None,
            requirement: None,
        }
    }

    /// Adds the presented credential, with which a
    /// [declared store](super::ServiceTokens::with_actor_store) is queried again before each call. The
    /// default is none: holders of tokens in such a store are rejected.
    pub fn with_credential(mut self, credential: Credential<'static>) -> Self {
        self.credential = Some(Arc::new(credential));
        self
    }

    /// Requires that the token has these roles or scopes at the moment of each call. The default is
    /// none.
    pub fn with_requirement(mut self, requirement: impl Into<Arc<Requirement>>) -> Self {
        self.requirement = Some(requirement.into());
        self
    }

    /// Returns the principal of the token.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns whether the presented secret belongs to this token.
    pub(super) fn holds(&self, record: &TokenRecord) -> bool {
        let presented = self.principal.presented_digest();
        record.digests().any(|known| *known == presented)
    }
}
