/// Makes a store and a registry of a type that has `tables`, can `listen` and `probe`, and knows its
/// `current_feed_state`.
macro_rules! over_tables {
    ($store:ident) => {
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

            fn feed_state(&self) -> FeedState {
                self.current_feed_state()
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
                self.probe().await
            }

            fn effective_within(&self) -> Duration {
                self.tables.settings.effective_within
            }
        }
    };
}
pub(super) use over_tables;
