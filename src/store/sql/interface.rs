/// Implements a public store, a tuple struct of a [`SqlStore`](super::store::SqlStore).
macro_rules! sql_store {
    ($store:ident) => {
        const _: () = {
            use std::fmt;
            use std::sync::Arc;
            use std::time::{Duration, SystemTime};

            use async_trait::async_trait;

            use crate::audit::AuditEvent;
            use crate::digest::TokenDigest;
            use crate::registry::{
                ListRequest, RegistryError, TokenFilter, TokenPage, TokenRegistry, Write,
            };
            use crate::store::sql::StoreState;
            use crate::store::{
                ChangeListener, Credential, FeedStatus, StoreError, TokenRecord, TokenStore,
            };
            use crate::token::TokenId;

            impl $store {
                /// Sets how long an operation may take, including the wait for a connection. The default
                /// is 3 s.
                pub fn with_deadline(mut self, deadline: Duration) -> Self {
                    self.0.set_deadline(deadline);
                    self
                }

                /// Keeps an audit trail. Each event is part of the transaction of its change. Off by
                /// default.
                pub fn with_audit_trail(mut self) -> Self {
                    self.0.keeps_audit_trail = true;
                    self
                }

                /// Deletes events of the audit trail that are older than this, once a minute, in a task
                /// that ends with the store. The default is to keep them forever.
                ///
                /// One transaction deletes up to 1,000 events, with a pause for other changes between two.
                /// Other processes on the same database have settings of their own: the shortest
                /// retention decides.
                ///
                /// # Panics
                ///
                /// Panics outside of a Tokio runtime.
                pub fn with_audit_retention(mut self, retention: Duration) -> Self {
                    self.0.set_audit_retention(retention);
                    self
                }

                /// Sets the value of [`effective_within`](crate::registry::TokenRegistry::effective_within):
                /// for how long caches in other processes may serve an old record. The default is 10 s,
                /// which is the default TTL of [`CachedStore`](crate::store::CachedStore).
                pub fn with_effective_within(mut self, bound: Duration) -> Self {
                    self.0.effective_within = bound;
                    self
                }

                /// Returns the latest events of the audit trail, or those of one token, newest first. At
                /// most 1,000.
                ///
                /// # Errors
                ///
                /// Returns an error if the store is unavailable.
                pub async fn audit_trail(
                    &self,
                    id: Option<TokenId>,
                    limit: usize,
                ) -> Result<Vec<AuditEvent>, StoreError> {
                    self.0.audit_trail(id, limit).await
                }

                /// Deletes the events of the audit trail before a time and returns how many there were.
                ///
                /// One transaction deletes up to 1,000 events, with a pause for other changes between two.
                ///
                /// # Errors
                ///
                /// Returns an error if the store is unavailable. Some of the events may be deleted.
                pub async fn prune_audit_trail(
                    &self,
                    before: SystemTime,
                ) -> Result<u64, StoreError> {
                    self.0.prune_audit_trail(before).await
                }

                /// Returns the database's query plan for a listing, or for a lookup if `request` is
                /// `None`. Shows which index is used.
                ///
                /// # Errors
                ///
                /// Returns an error if the store is unavailable.
                pub async fn explain(
                    &self,
                    request: Option<&ListRequest>,
                ) -> Result<String, StoreError> {
                    self.0.explain(request).await
                }

                /// Returns what the store records about itself: its ID, and when it was initialized.
                /// Returns `None` if the database role may not read the table `service_token_store`.
                ///
                /// # Errors
                ///
                /// Returns an error if the store is unavailable.
                pub async fn state(&self) -> Result<Option<StoreState>, StoreError> {
                    self.0.state().await
                }

                /// Records that the store has had an administrator, unless that is already recorded. An
                /// application that creates the first administrator uses it to distinguish a new store
                /// from one that lost its tokens.
                ///
                /// # Errors
                ///
                /// Returns an error if the store is unavailable.
                pub async fn mark_initialized(&self, at: SystemTime) -> Result<(), StoreError> {
                    self.0.mark_initialized(at).await
                }

                /// Closes the store and all its clones: ends its tasks, waits for operations in progress,
                /// and closes every connection, including those of your own pool. Every later call fails
                /// as unavailable.
                ///
                /// [Stop](crate::registry::FlushTask::stop) the flushing of last uses first, or the latest are
                /// lost.
                ///
                /// # Errors
                ///
                /// Returns an error if the operations in progress take longer than 10 s.
                pub async fn close(&self) -> Result<(), StoreError> {
                    self.0.close().await
                }
            }

            #[async_trait]
            impl TokenStore for $store {
                async fn find(
                    &self,
                    credential: &Credential<'_>,
                ) -> Result<Option<TokenRecord>, StoreError> {
                    self.0.find(credential.digest()).await
                }

                fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
                    self.0.subscribe(listener);
                }

                fn feed_status(&self) -> FeedStatus {
                    self.0.feed_status()
                }
            }

            #[async_trait]
            impl TokenRegistry for $store {
                async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
                    self.0.insert(write).await
                }

                async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
                    self.0.get(id).await
                }

                async fn find_by_digest(
                    &self,
                    digest: &TokenDigest,
                ) -> Result<Option<TokenRecord>, StoreError> {
                    self.0.find(digest).await
                }

                async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
                    self.0.list(request).await
                }

                async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
                    self.0.update(write).await
                }

                async fn update_many(
                    &self,
                    writes: &[Write],
                ) -> Vec<Result<TokenRecord, RegistryError>> {
                    self.0.update_many(writes).await
                }

                async fn count(
                    &self,
                    filter: &TokenFilter,
                    now: SystemTime,
                ) -> Result<u64, StoreError> {
                    self.0.count(filter, now).await
                }

                async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
                    self.0.delete(write).await
                }

                async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
                    self.0.touch(uses).await
                }

                async fn check_writable(&self) -> Result<(), StoreError> {
                    self.0.check_writable().await
                }

                fn effective_within(&self) -> Duration {
                    self.0.effective_within
                }
            }

            impl fmt::Debug for $store {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.debug_struct(stringify!($store)).finish_non_exhaustive()
                }
            }
        };
    };
}
pub(super) use sql_store;
