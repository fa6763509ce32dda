/// Makes a store and a registry of a type that has `tables`, can `listen` and `stop_listening`, and
/// knows its `current_feed_status`.
macro_rules! impl_store {
    ($store:ident) => {
        impl $store {
            /// Deletes events of the audit trail that are older than this, once a minute, in a task
            /// that ends with the store. The default is to keep them for ever.
            ///
            /// One transaction deletes up to 1,000 events, and changes get their turn between two.
            /// Other processes on the same database have settings of their own: the shortest
            /// retention decides.
            ///
            /// # Panics
            ///
            /// Panics outside of a Tokio runtime.
            pub fn with_audit_retention(mut self, retention: Duration) -> Self {
                let task = BackgroundTask::new();
                // The task must not keep itself alive.
                self.tables.retention = None;
                let tables = self.tables.clone();
                task.start(|| retention::prune_at_interval(tables, retention));
                self.tables.retention = Some(Arc::new(task));
                self
            }

            /// Deletes the events of the audit trail before a time, and returns how many there were.
            ///
            /// One transaction deletes up to 1,000 events, and changes get their turn between two.
            ///
            /// # Errors
            ///
            /// Returns an error if the store is unavailable. Some of the events may be deleted.
            pub async fn prune_audit_trail(&self, before: SystemTime) -> Result<u64, StoreError> {
                self.tables.prune_audit_trail(before).await
            }

            /// Returns what the store records about itself: its ID, and when it was initialized.
            /// Returns `None` if the database role may not read the table `service_token_store`.
            ///
            /// # Errors
            ///
            /// Returns an error if the store is unavailable.
            pub async fn state(&self) -> Result<Option<StoreState>, StoreError> {
                self.tables.state().await
            }

            /// Records that the store has had an administrator, unless that is recorded already: an
            /// application that creates a first administrator can tell a new store from one that lost
            /// its tokens.
            ///
            /// # Errors
            ///
            /// Returns an error if the store is unavailable.
            pub async fn mark_initialized(&self, at: SystemTime) -> Result<(), StoreError> {
                self.tables.mark_initialized(at).await
            }

            /// Closes the store and all its clones: ends its tasks, waits for operations that have
            /// begun, and closes every connection, those of your own pool too. Every later call fails
            /// as unavailable.
            ///
            /// [Stop](crate::registry::FlushTask::stop) the flushing of last uses first, or the latest are
            /// lost.
            ///
            /// # Errors
            ///
            /// Returns an error if the operations that have begun take longer than 10 s.
            pub async fn close(&self) -> Result<(), StoreError> {
                self.stop_listening().await;
                self.tables.close().await
            }
        }

        #[async_trait]
        impl TokenStore for $store {
            async fn find(
                &self,
                credential: &Credential<'_>,
            ) -> Result<Option<TokenRecord>, StoreError> {
                self.tables.find(credential.digest()).await
            }

            fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
                self.listen(listener);
            }

            fn feed_status(&self) -> FeedStatus {
                self.current_feed_status()
            }
        }

        #[async_trait]
        impl TokenRegistry for $store {
            async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
                self.tables.insert(write).await
            }

            async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
                self.tables.get(id).await
            }

            async fn find_by_digest(
                &self,
                digest: &TokenDigest,
            ) -> Result<Option<TokenRecord>, StoreError> {
                self.tables.find(digest).await
            }

            async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
                self.tables.list(request).await
            }

            async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
                self.tables.update(write).await
            }

            async fn update_many(
                &self,
                writes: &[Write],
            ) -> Vec<Result<TokenRecord, RegistryError>> {
                self.tables.update_many(writes).await
            }

            async fn count(
                &self,
                filter: &TokenFilter,
                now: SystemTime,
            ) -> Result<u64, StoreError> {
                self.tables.count(filter, now).await
            }

            async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
                self.tables.delete(write).await
            }

            async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
                self.tables.touch(uses).await
            }

            async fn check_writable(&self) -> Result<(), StoreError> {
                self.tables.check_writable().await
            }

            fn effective_within(&self) -> Duration {
                self.tables.settings.effective_within
            }
        }
    };
}
pub(super) use impl_store;
