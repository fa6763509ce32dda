use std::time::{Duration, SystemTime};

use super::fields::Fields;
use super::{ChangedToken, IssuedToken, LifecycleError, ServiceTokens, TokenUpdate};
use crate::digest::TokenDigest;
use crate::store::{AuditAction, RegistryError, StoreError, TokenRecord, TokenState, TokenStatus};
use crate::token::{MintedToken, TokenId};

/// The longest grace, a thousand years: the end of a longer one is beyond what clocks and calendars
/// can tell.
const MAX_GRACE: Duration = Duration::from_secs(1_000 * 31_556_952);

/// How often a change begins anew because another one came before it.
const ATTEMPTS: usize = 100;

impl ServiceTokens {
    /// Changes what is known about a token. The secret stays.
    ///
    /// # Errors
    ///
    /// There is no such token, it was revoked, it is no longer at the revision asked for, a rule or
    /// the policy is broken, the actor does not hold what the token would have, or the store could
    /// not be asked.
    pub async fn update(
        &self,
        id: TokenId,
        update: TokenUpdate,
    ) -> Result<ChangedToken, LifecycleError> {
        let revision = update.revision;
        self.change(id, AuditAction::Updated, |record, now| {
            if revision.is_some_and(|revision| revision != record.revision()) {
                return Err(LifecycleError::RevisionMismatch);
            }
            let mut problems = Vec::new();
            let update = update.clone();
            let fields = Fields::of_update(update, record, &self.policy, now, &mut problems);
            self.admit(&fields, problems)?;
            Ok(fields.write_to(record.clone()))
        })
        .await
    }

    /// Gives a token another secret. The one it has goes on working for `grace`, and never longer
    /// than the token itself; with [`Duration::ZERO`] it stops at once.
    ///
    /// At most two secrets work at a time: a rotation within the grace of another ends that grace,
    /// so the secret from before both is refused at once. The expiry stays, unless the policy's
    /// maximum cuts it.
    ///
    /// # Errors
    ///
    /// There is no such token, it was revoked or has expired, the actor does not hold what the
    /// token has, there are no random bytes, or the store could not be asked: then it is not known
    /// which secret works, and another rotation settles it.
    pub async fn rotate(
        &self,
        id: TokenId,
        grace: Duration,
    ) -> Result<IssuedToken, LifecycleError> {
        let secret = self.format.mint_with_id(id)?;
        let changed = self
            .change(id, AuditAction::Rotated, |record, now| {
                self.actor.check_grant(record.roles(), record.scopes())?;
                if record.status(now) == TokenStatus::Expired {
                    return Err(LifecycleError::Expired);
                }
                Ok(self.rotated(record, &secret, now, grace))
            })
            .await?;
        Ok(IssuedToken {
            secret,
            record: changed.record,
            effective_within: changed.effective_within,
        })
    }

    /// Switches a token off: it is refused until it is [enabled](Self::enable).
    ///
    /// # Errors
    ///
    /// There is no such token, it was revoked, or the store could not be asked.
    pub async fn disable(&self, id: TokenId) -> Result<ChangedToken, LifecycleError> {
        self.change(id, AuditAction::Disabled, |record, _| {
            Ok(record.clone().with_state(TokenState::Disabled))
        })
        .await
    }

    /// Switches a token on again.
    ///
    /// # Errors
    ///
    /// As [`disable`](Self::disable), or the actor does not hold what the token has.
    pub async fn enable(&self, id: TokenId) -> Result<ChangedToken, LifecycleError> {
        self.change(id, AuditAction::Enabled, |record, _| {
            self.actor.check_grant(record.roles(), record.scopes())?;
            Ok(record.clone().with_state(TokenState::Active))
        })
        .await
    }

    /// Refuses a token for good. Its record stays until it is [purged](Self::purge), so that its
    /// holder is told why. A token that was revoked before stays so, without an error.
    ///
    /// # Errors
    ///
    /// There is no such token, or the store could not be asked.
    pub async fn revoke(&self, id: TokenId) -> Result<ChangedToken, LifecycleError> {
        let revoked = self.change(id, AuditAction::Revoked, |record, _| {
            Ok(record.clone().with_state(TokenState::Revoked))
        });
        match revoked.await {
            Err(LifecycleError::Revoked) => Ok(self.changed(self.get(id).await?)),
            revoked => revoked,
        }
    }

    /// Reads, changes and writes a record, again if it was changed in between. A change of nothing
    /// is not written.
    async fn change(
        &self,
        id: TokenId,
        action: AuditAction,
        next: impl Fn(&TokenRecord, SystemTime) -> Result<TokenRecord, LifecycleError>,
    ) -> Result<ChangedToken, LifecycleError> {
        for _ in 0..ATTEMPTS {
            let before = self.get(id).await?;
            if before.state() == TokenState::Revoked {
                return Err(LifecycleError::Revoked);
            }
            let now = self.clock.now();
            let write = self.write(action, &before, next(&before, now)?.with_updated_at(now));
            if write.event().changes().is_empty() && action != AuditAction::Rotated {
                return Ok(self.changed(before));
            }
            match self.registry.update(&write).await {
                Ok(record) => {
                    self.sink.record(write.event());
                    return Ok(self.changed(record));
                }
                Err(RegistryError::Changed) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::unavailable("the token is changed all the time").into())
    }

    fn changed(&self, record: TokenRecord) -> ChangedToken {
        ChangedToken {
            record,
            effective_within: self.registry.effective_within(),
        }
    }

    fn rotated(
        &self,
        record: &TokenRecord,
        secret: &MintedToken,
        now: SystemTime,
        grace: Duration,
    ) -> TokenRecord {
        let earliest = |a: Option<SystemTime>, b: Option<SystemTime>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let expires_at = earliest(record.expires_at(), self.policy.latest_expiry(now));
        let grace_end = earliest(now.checked_add(grace.min(MAX_GRACE)), record.expires_at());
        let previous = grace_end
            .filter(|end| *end > now)
            .map(|end| (*record.digest(), end));
        record
            .clone()
            .with_digest(TokenDigest::of(secret.expose_secret()))
            .with_previous_digest(previous)
            .with_rotated_at(now)
            .with_hint(&*self.format.hint(record.id()))
            .with_expires_at(expires_at)
    }
}
