use std::time::Duration;

use super::page::Pages;
use super::{LifecycleError, ServiceTokens};
use crate::audit::AuditAction;
use crate::registry::{RegistryError, TokenFilter};
use crate::store::{TokenRecord, TokenStatus};
use crate::token::TokenId;

impl ServiceTokens {
    /// Deletes the records of tokens that were revoked, or expired, at least this long ago.
    /// Rejections of such a token no longer give the reason.
    ///
    /// # Errors
    ///
    /// Returns an error if the actor may not change one of the tokens, or if the store or the check of
    /// the actor is unavailable. Some records may be deleted, also if the response to the error says that
    /// nothing was changed.
    pub async fn purge(&self, older_than: Duration) -> Result<Vec<TokenId>, LifecycleError> {
        let Some(before) = self.clock.now().checked_sub(older_than) else {
            return Ok(Vec::new());
        };
        let rights = self.rights(false).await?;
        rights.check_accepted()?;
        let revoked = TokenFilter::new().with_status(TokenStatus::Revoked);
        // A revoked record never changes, so its last change was the revocation.
        let is_old = |record: &TokenRecord| record.updated_at().is_none_or(|time| time <= before);
        let expired = TokenFilter::new().with_expires_before(before + Duration::from_millis(1));

        let mut purged = Vec::new();
        for (filter, needs_age) in [(revoked, true), (expired, false)] {
            let mut pages = Pages::new(filter, rights.owner());
            while let Some(records) = pages.next(self).await? {
                for record in records {
                    if (!needs_age || is_old(&record)) && self.purge_one(&record).await? {
                        purged.push(record.id());
                    }
                }
            }
        }
        Ok(purged)
    }

    /// Deletes the record unless it was changed since it was listed, because the token may be valid
    /// again. Returns whether it was deleted.
    async fn purge_one(&self, record: &TokenRecord) -> Result<bool, LifecycleError> {
        let rights = self.rights(false).await?;
        match rights.check_change(record) {
            // The owner of the token, or of the actor's token, changed meanwhile.
            Err(RegistryError::UnknownId) => return Ok(false),
            checked => checked?,
        }
        let write = self.write(AuditAction::Purged, record, record.clone(), &rights);
        match self.registry.delete(&write).await {
            Ok(()) => {
                self.sink.record(write.event());
                Ok(true)
            }
            Err(RegistryError::RevisionMismatch | RegistryError::UnknownId) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
