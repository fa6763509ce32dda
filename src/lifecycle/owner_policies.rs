use async_trait::async_trait;

use super::{CallbackError, TokenPolicy};

/// The rules for the tokens of each owner, such as those of its plan.
///
/// Pass them to [`with_owner_policies`](super::ServiceTokens::with_owner_policies). Implemented by
/// closures that take the id of the owner as a `String` and return a future. An `async` closure must
/// not borrow what it captures: clone it and return an `async move` block.
///
/// ```
/// use tower_service_token::lifecycle::{CallbackError, NewToken, TokenPolicy};
/// use tower_service_token::{MemoryStore, ServiceTokens};
///
/// # #[derive(Clone)] struct Plans;
/// # impl Plans {
/// #     async fn max_tokens(&self, _: &str) -> Result<u64, std::io::Error> { Ok(1) }
/// # }
/// # futures::executor::block_on(async {
/// # let plans = Plans;
/// let tokens = ServiceTokens::new(MemoryStore::new()).with_owner_policies(move |owner: String| {
///     let plans = plans.clone();
///     async move {
///         let max_tokens = plans.max_tokens(&owner).await.map_err(CallbackError::unavailable)?;
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
    /// Returns an error if the rules are unknown. The change is not made. The response is 503
    /// `change_failed`, and its `detail` says that nothing was changed.
    async fn policy(&self, owner: &str) -> Result<TokenPolicy, CallbackError>;
}

#[async_trait]
impl<F, R> OwnerPolicies for F
where
    F: Fn(String) -> R + Send + Sync + 'static,
    R: Future<Output = Result<TokenPolicy, CallbackError>> + Send,
{
    async fn policy(&self, owner: &str) -> Result<TokenPolicy, CallbackError> {
        self(owner.to_owned()).await
    }
}
