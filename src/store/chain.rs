use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Cached, ChangeListener, Credential, FeedStatus, StoreError, StoreErrorKind, TokenRecord,
    TokenStore,
};

/// Several stores, queried in order, such as a file of break-glass tokens before a database.
///
/// 1. The first store that knows the token decides: a token that is revoked, disabled or expired
///    there is rejected, whatever the later stores contain.
/// 2. If no store knows the token, the response is 401.
/// 3. If a store fails, the response is 503, 429 or 500, by the [kind](super::StoreErrorKind) of
///    the *first* error, unless a later store knows the token.
/// 4. Answers from memory keep the order: once a store must be queried, no later one answers from
///    memory.
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
/// - Rule 3 prefers to serve. While an earlier store is unavailable, a later one decides alone: a
///   token that is **revoked in the first and active in the second passes** until the first is
///   back, and a [cache](super) in front keeps that answer for its time to live. Revoke a token
///   wherever it is kept, or keep each token in one store only.
/// - All stores are equally trusted: anyone who can write to one of them can add valid tokens.
/// - Stores are queried one after the other, and their times add up. A store that can hang should
///   have a timeout, or the later ones are never queried.
///
/// A failure after which a later store knows the token reaches no client. With the feature `tracing` every
/// failure is an event at level `WARN`, target `tower_service_token`, with the fields `index` (0
/// is the first store), `error` and `kind`; with `metrics` it counts in
/// `service_token_chain_failures_total`, by `kind` (`unavailable`, `rate_limited`, `corrupt`).
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
