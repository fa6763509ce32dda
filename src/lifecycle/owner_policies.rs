use async_trait::async_trait;

use super::TokenPolicy;
use crate::store::StoreError;

/// The rules for the tokens of each owner, such as those of its plan.
///
/// Pass them to [`with_owner_policies`](super::ServiceTokens::with_owner_policies). Implemented by closures:
///
/// ```
/// use tower_service_token::lifecycle::{NewToken, TokenPolicy};
/// use tower_service_token::store::StoreError;
/// use tower_service_token::{MemoryStore, ServiceTokens};
///
/// # #[derive(Clone)] struct Plans;
/// # impl Plans {
/// #     async fn max_tokens(&self, _: &str) -> Result<u64, std::io::Error> { Ok(1) }
/// # }
/// # futures::executor::block_on(async {
/// # let plans = Plans;
/// let tokens = ServiceTokens::new(MemoryStore::new()).with_owner_policies(move |owner: &str| {
///     let (plans, owner) = (plans.clone(), owner.to_owned());
///     async move {
///         let max_tokens = plans.max_tokens(&owner).await.map_err(StoreError::unavailable)?;
///         Ok(TokenPolicy::new().with_max_tokens_per_owner(max_tokens))
///     }
/// });
/// tokens.create(NewToken::new("first").with_owner("user:42")).await?;
/// assert!(tokens.create(NewToken::new("second").with_owner("user:42")).await.is_err());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).expect("the first token is created");
/// ```
#[async_trait]
pub trait OwnerPolicies: Send + Sync + 'static {
    /// Returns the rules for the tokens of this owner. They apply in addition to those of
    /// [`with_policy`](super::ServiceTokens::with_policy).
    ///
    /// # Errors
    ///
    /// Returns an error if the rules are unknown, such as a
    /// [`StoreError::unavailable`](StoreError::unavailable). The change is not made.
    async fn policy(&self, owner: &str) -> Result<TokenPolicy, StoreError>;
}

#[async_trait]
impl<F, R> OwnerPolicies for F
where
    F: Fn(&str) -> R + Send + Sync + 'static,
    R: Future<Output = Result<TokenPolicy, StoreError>> + Send,
{
    async fn policy(&self, owner: &str) -> Result<TokenPolicy, StoreError> {
        self(owner).await
    }
}
