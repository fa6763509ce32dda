use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Cached, ChangeListener, Credential, FeedStatus, StoreError, StoreErrorKind, TokenRecord,
    TokenStore,
};
use crate::digest::TokenDigest;
use crate::token::TokenId;

/// Several stores, queried in order, such as a file of break-glass tokens before a database.
///
/// 1. The first store that knows the token decides: a token that is revoked, disabled or expired
///    there is rejected, whatever the later stores contain.
/// 2. If no store knows the token, the response is 401.
/// 3. If a store fails, the response is 503, 429 or 500, by the [kind](super::StoreErrorKind) of
///    the *first* error, unless a later store knows the token.
/// 4. [`find_cached`](TokenStore::find_cached) keeps the order: once a store misses, no later store
///    is used.
///
/// ```
/// use tower_service_token::store::{ChainStore, TokenRecord};
/// use tower_service_token::token::TokenFormat;
/// use tower_service_token::{MemoryStore, ServiceTokenLayer};
///
/// let (emergency, everyday) = (MemoryStore::new(), MemoryStore::new());
/// let token = TokenFormat::default().mint()?;
/// emergency.insert(TokenRecord::from(&token).with_name("break glass"))?;
///
/// let layer = ServiceTokenLayer::new(ChainStore::new(emergency).then(everyday));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// If callers with a token of the file are to manage the tokens of the database, declare the file as
/// a [store of actors](crate::ServiceTokens::with_actor_store).
///
/// # What the order means
///
/// - Rule 3 prefers availability. While an earlier store is unavailable, a later store decides alone:
///   a token that is **revoked in the first and active in the second is accepted** until the first
///   is available again, and a [cache](super) in front keeps the record for its time to live. Revoke
///   a token in every store that has it, or store each token only once.
/// - All stores are equally trusted: anyone who can write to one of them can add valid tokens.
/// - Stores are queried in sequence, so their latencies add up. Give a store that can hang a timeout;
///   otherwise the later stores are never queried.
///
/// A client does not see a failure if a later store knows the token. With the feature `tracing`,
/// every failure is logged at level `WARN` with the target `tower_service_token` and the fields
/// `index` (0 is the first store), `error` and `kind`. With `metrics`,
/// `service_token_chain_failures_total` counts failures by `kind` (`unavailable`, `rate_limited`,
/// `corrupt`).
#[derive(Clone)]
pub struct ChainStore(Vec<Arc<dyn TokenStore>>);

impl ChainStore {
    /// Creates a chain of one store, which is queried first.
    pub fn new(first: impl TokenStore) -> Self {
        Self(vec![Arc::new(first)])
    }

    /// Adds a store, which is queried after those before it.
    pub fn then(mut self, next: impl TokenStore) -> Self {
        self.0.push(Arc::new(next));
        self
    }
}

impl ChainStore {
    /// Returns the first record that `find` returns for a store, or else the first error.
    async fn find_in_order<'s, F>(
        &'s self,
        find: impl Fn(&'s dyn TokenStore) -> F,
    ) -> Result<Option<TokenRecord>, StoreError>
    where
        F: Future<Output = Result<Option<TokenRecord>, StoreError>>,
    {
        let mut first_error = None;
        for (index, store) in self.0.iter().enumerate() {
            match find(&**store).await {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) => {}
                Err(error) => {
                    log_failure(index, &error);
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(None), Err)
    }
}

#[async_trait]
impl TokenStore for ChainStore {
    fn find_cached(&self, credential: &Credential<'_>) -> Cached {
        let found = self.0.iter().map(|store| store.find_cached(credential));
        let mut definite = found.filter(|found| !matches!(found, Cached::NotFound));
        definite.next().unwrap_or(Cached::NotFound)
    }

    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.find_in_order(|store| async move {
            match store.find_cached(credential) {
                Cached::Found(record) => Ok(Some(record)),
                Cached::NotFound => Ok(None),
                Cached::Miss => store.find(credential).await,
            }
        })
        .await
    }

    async fn find_uncached(
        &self,
        credential: &Credential<'_>,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.find_in_order(|store| store.find_uncached(credential))
            .await
    }

    async fn find_again(
        &self,
        id: TokenId,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.find_in_order(|store| store.find_again(id, digest))
            .await
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        for store in &self.0 {
            store.subscribe(listener);
        }
    }

    /// Returns the worst status of the stores.
    fn feed_status(&self) -> FeedStatus {
        let worst_first = [FeedStatus::Lost, FeedStatus::Connected];
        let has = |status: &FeedStatus| self.0.iter().any(|it| it.feed_status() == *status);
        worst_first
            .into_iter()
            .find(has)
            .unwrap_or(FeedStatus::NotUsed)
    }

    /// Returns whether all stores report their changes.
    fn reports_changes(&self) -> bool {
        self.0.iter().all(TokenStore::reports_changes)
    }
}

impl fmt::Debug for ChainStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainStore")
            .field("stores", &self.0.len())
            .finish()
    }
}

/// Logs and counts the failure of the store with this index.
fn log_failure(index: usize, error: &StoreError) {
    let kind = match error.kind() {
        StoreErrorKind::Unavailable => "unavailable",
        StoreErrorKind::RateLimited => "rate_limited",
        StoreErrorKind::Corrupt => "corrupt",
    };
    #[cfg(feature = "metrics")]
    metrics::counter!("service_token_chain_failures_total", "kind" => kind).increment(1);
    #[cfg(feature = "tracing")]
    {
        let error: &dyn std::error::Error = std::error::Error::source(error).unwrap_or(error);
        let error = tracing::field::display(error);
        tracing::warn!(target: "tower_service_token", index, kind, error, "a store of the chain failed");
    }
    let _ = (index, kind);
}
