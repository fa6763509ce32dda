use std::collections::BTreeMap;
use std::time::Duration;

use super::{LifecycleError, Page, ServiceTokens};
use crate::store::{
    AuditAction, ListRequest, RegistryError, TokenFilter, TokenRecord, TokenState, TokenStatus,
};
use crate::token::TokenId;

/// The tokens that a bulk revocation reached.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BulkRevocation {
    /// The tokens that are revoked now and were not before.
    pub ids: Vec<TokenId>,
    /// After how long, at the latest, every request on every node sees it.
    pub effective_within: Duration,
}

impl ServiceTokens {
    /// Revokes every token that the filter means.
    ///
    /// With `expect`, nothing is revoked unless exactly so many tokens are meant:
    /// [`revocable`](Self::revocable) tells how many. A filter that means all tokens needs it.
    /// Tokens created meanwhile are not reached.
    ///
    /// # Errors
    ///
    /// As many tokens as expected are not meant, or the store could not be asked; then some tokens
    /// may be revoked, and asking again revokes the rest.
    pub async fn revoke_where(
        &self,
        filter: TokenFilter,
        expect: impl Into<Option<usize>>,
    ) -> Result<BulkRevocation, LifecycleError> {
        let expect = expect.into();
        let means_all = filter.is_empty();
        let ids = self.revocable(filter).await?;
        let found = ids.len();
        let expected = expect.unwrap_or(if means_all { 0 } else { found });
        if expected != found {
            return Err(LifecycleError::UnexpectedCount { expected, found });
        }
        let mut revoked = Vec::with_capacity(found);
        for id in ids {
            match self.revoke(id).await {
                Ok(_) => revoked.push(id),
                // Purged meanwhile: it does not work either.
                Err(LifecycleError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(BulkRevocation {
            ids: revoked,
            effective_within: self.registry.effective_within(),
        })
    }

    /// The tokens that [`revoke_where`](Self::revoke_where) would revoke.
    ///
    /// # Errors
    ///
    /// The store could not be asked.
    pub async fn revocable(&self, filter: TokenFilter) -> Result<Vec<TokenId>, LifecycleError> {
        let mut records = self.all(filter).await?;
        records.retain(|record| record.state() != TokenState::Revoked);
        Ok(records.iter().map(TokenRecord::id).collect())
    }

    /// Deletes the records of tokens that were revoked, or expired, at least this long ago. Who
    /// still presents such a token is no longer told why it is refused.
    ///
    /// # Errors
    ///
    /// The store could not be asked; some records may be deleted.
    pub async fn purge(&self, older_than: Duration) -> Result<Vec<TokenId>, LifecycleError> {
        let Some(before) = self.clock.now().checked_sub(older_than) else {
            return Ok(Vec::new());
        };
        let revoked = TokenFilter::new().with_status(TokenStatus::Revoked);
        let mut records = self.all(revoked).await?;
        // Nothing changes a revoked record, so it was revoked when it was last changed.
        records.retain(|record| record.updated_at().is_none_or(|time| time <= before));
        let expired = TokenFilter::new().with_expires_before(before + Duration::from_millis(1));
        records.extend(self.all(expired).await?);

        let mut purged = Vec::new();
        for record in records {
            let write = self.write(AuditAction::Purged, &record, record.clone());
            match self.registry.delete(&write).await {
                Ok(()) => {
                    self.sink.record(write.event());
                    purged.push(record.id());
                }
                // Changed since: it may work again.
                Err(RegistryError::Changed | RegistryError::UnknownId) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(purged)
    }

    /// Each token once: one that is used meanwhile may move to a later page.
    async fn all(&self, filter: TokenFilter) -> Result<Vec<TokenRecord>, LifecycleError> {
        let mut records = BTreeMap::new();
        let mut page = Page::of(ListRequest::MAX_LIMIT);
        loop {
            let found = self.list(filter.clone(), page).await?;
            records.extend(found.records.into_iter().map(|it| (it.id(), it)));
            match found.next {
                Some(next) => page = page.after(next),
                None => return Ok(records.into_values().collect()),
            }
        }
    }
}
