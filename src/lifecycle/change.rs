use std::time::{Duration, SystemTime};

use super::fields::Fields;
use super::rights::Rights;
use super::{ChangedToken, IssuedToken, LifecycleError, ServiceTokens, TokenUpdate};
use crate::audit::AuditAction;
use crate::digest::TokenDigest;
use crate::registry::{RegistryError, Write, adds_rights, expires_later};
use crate::store::{StoreError, TokenRecord, TokenState, TokenStatus};
use crate::token::{MintedToken, TokenId};

/// The longest grace, a thousand years: the end of a longer one is beyond what clocks and calendars
/// can tell.
const MAX_GRACE: Duration = Duration::from_secs(1_000 * 31_556_952);

/// How often a change is tried again because another one came before it.
const MAX_ATTEMPTS: usize = 100;

/// What a change begins with.
struct Change<'a> {
    before: &'a TokenRecord,
    now: SystemTime,
    rights: &'a Rights,
}

/// Returns whether a token that may administer would do so no more, or for a shorter time.
pub(super) fn reduces_administration(
    before: &TokenRecord,
    after: &TokenRecord,
    now: SystemTime,
) -> bool {
    let is_shorter = expires_later(before.expires_at(), after.expires_at());
    before.may_administer(now) && (is_shorter || !after.may_administer(now))
}

impl ServiceTokens {
    /// Changes what is known about a token. The secret stays.
    ///
    /// If a holder with an expiry adds roles or scopes to a token that would outlive its own, the
    /// token gets the holder's expiry.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it was revoked, it is not at the revision asked
    /// for, a rule or the policy is broken, the actor may not make the change, no other token could
    /// administer tokens afterwards, or the store is unavailable.
    pub async fn update(
        &self,
        id: TokenId,
        update: TokenUpdate,
    ) -> Result<ChangedToken, LifecycleError> {
        let (revision, state) = (update.revision.or(self.revision), update.state);
        self.change(id, AuditAction::Updated, revision, |change| {
            let record = change.before;
            let mut problems = Vec::new();
            let (update, has_expiry) = (update.clone(), update.expiry.is_some());
            let fields =
                Fields::from_update(update, record, &self.policy, change.now, &mut problems);
            fields.check_counts()?;
            let (roles, scopes) = (fields.roles(), fields.scopes());
            let adds_rights = adds_rights(record.roles(), record.scopes(), &roles, &scopes);
            let fields = match change.rights.latest_expiry() {
                Some(latest) if adds_rights && !has_expiry => fields.with_max_expiry(Some(latest)),
                _ => fields,
            };
            self.validate(&fields, problems)?;
            let state = state.unwrap_or(record.state());
            Ok(fields.apply_to(record.clone()).with_state(state))
        })
        .await
    }

    /// Issues a new secret for a token. The current one stays valid for `grace`, and never longer
    /// than the token itself; with [`Duration::ZERO`] it is refused at once.
    ///
    /// At most two secrets work at a time: a rotation within the grace of another ends that grace,
    /// so the secret from before both is refused at once. The expiry stays, unless the policy's
    /// maximum cuts it.
    ///
    /// Of several rotations at the same time, one is made. A holder that lost the response may rotate
    /// its own token with the previous secret, only [at a revision](Self::if_revision): the lost
    /// secret ends at once, and the presented one stays valid for `grace`, and never longer than its
    /// own grace.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it was revoked or has expired, it was rotated at
    /// the same time, the actor may not rotate it, there are no random bytes, or the store is
    /// unavailable. In the last case it is unknown which secret is valid; another rotation settles
    /// it.
    pub async fn rotate(
        &self,
        id: TokenId,
        grace: Duration,
    ) -> Result<IssuedToken, LifecycleError> {
        let secret = self.format.mint_with_id(id)?;
        let rotated = self.change(id, AuditAction::Rotated, self.revision, |change| {
            if change.before.status(change.now) == TokenStatus::Expired {
                return Err(LifecycleError::Expired);
            }
            Ok(self.rotated(change.before, &secret, change.now, grace))
        });
        let changed = rotated.await?;
        Ok(IssuedToken {
            secret,
            record: changed.record,
            effective_within: changed.effective_within,
        })
    }

    /// Disables a token: it is refused until it is [enabled](Self::enable).
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it was revoked, the actor may not change it, no
    /// other token could administer tokens afterwards, or the store is unavailable.
    pub async fn disable(&self, id: TokenId) -> Result<ChangedToken, LifecycleError> {
        self.set_state(id, AuditAction::Disabled, TokenState::Disabled)
            .await
    }

    /// Enables a token that was disabled.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it was revoked, the actor may not change it, or
    /// the store is unavailable.
    pub async fn enable(&self, id: TokenId) -> Result<ChangedToken, LifecycleError> {
        self.set_state(id, AuditAction::Enabled, TokenState::Active)
            .await
    }

    /// Revokes a token for good. Its record stays until it is [purged](Self::purge), so that its
    /// holder gets to know why it is refused. A token that was revoked before stays so, without an
    /// error.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, the actor may not revoke it, no other token could
    /// administer tokens afterwards, or the store is unavailable.
    pub async fn revoke(&self, id: TokenId) -> Result<ChangedToken, LifecycleError> {
        match self.revoke_once(id).await {
            Err(LifecycleError::Revoked) => Ok(self.changed(self.get(id).await?)),
            revoked => revoked,
        }
    }

    /// As [`revoke`](Self::revoke), but a token that was revoked before is an error.
    pub(super) async fn revoke_once(&self, id: TokenId) -> Result<ChangedToken, LifecycleError> {
        self.set_state(id, AuditAction::Revoked, TokenState::Revoked)
            .await
    }

    async fn set_state(
        &self,
        id: TokenId,
        action: AuditAction,
        state: TokenState,
    ) -> Result<ChangedToken, LifecycleError> {
        let next = |change: Change<'_>| Ok(change.before.clone().with_state(state));
        self.change(id, action, self.revision, next).await
    }

    /// Reads, changes and writes a record, again if it was changed in between. A change of nothing
    /// is not written.
    async fn change(
        &self,
        id: TokenId,
        action: AuditAction,
        revision: Option<u64>,
        next: impl Fn(Change<'_>) -> Result<TokenRecord, LifecycleError>,
    ) -> Result<ChangedToken, LifecycleError> {
        let mut first_digest = None;
        for _ in 0..MAX_ATTEMPTS {
            let is_conditional = revision.is_some() && !self.is_revision_ambiguous;
            let rights = self.rights(is_conditional).await?;
            let before = self.get(id).await?;
            rights.check_change(&before)?;
            if revision.is_some_and(|revision| revision != before.revision()) {
                return Err(LifecycleError::RevisionMismatch);
            }
            if before.state() == TokenState::Revoked {
                return Err(LifecycleError::Revoked);
            }
            let digest = *first_digest.get_or_insert(*before.digest());
            if action == AuditAction::Rotated && digest != *before.digest() {
                return Err(LifecycleError::ConcurrentRotation);
            }
            let write = self.build_write(action, &before, &rights, &next)?;
            if write.event().changes().is_empty() && action != AuditAction::Rotated {
                return Ok(self.changed(before));
            }
            match self.registry.update(&write).await {
                Ok(record) => {
                    self.sink.record(write.event());
                    return Ok(self.changed(record));
                }
                Err(RegistryError::RevisionMismatch) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::unavailable("too many concurrent updates to this token").into())
    }

    fn build_write(
        &self,
        action: AuditAction,
        before: &TokenRecord,
        rights: &Rights,
        next: impl Fn(Change<'_>) -> Result<TokenRecord, LifecycleError>,
    ) -> Result<Write, LifecycleError> {
        let now = self.clock.now();
        let change = Change {
            before,
            now,
            rights,
        };
        let after = next(change)?.with_updated_at(now);
        rights.check(Some(before), &after)?;
        // A rotation ends no token: its holder continues with the new secret.
        let needs_admin_check = action != AuditAction::Rotated
            && !self.allows_last_admin_removal
            && !self.actor.is_possession()
            && reduces_administration(before, &after, now);
        let write = self.write(action, before, after, rights);
        Ok(write.with_last_admin_check(needs_admin_check.then_some(now)))
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
        let earliest = |a: Option<SystemTime>, b: Option<SystemTime>| a.into_iter().chain(b).min();
        let expires_at = earliest(record.expires_at(), self.policy.latest_expiry(now));
        let grace_end = earliest(now.checked_add(grace.min(MAX_GRACE)), record.expires_at());
        // A holder that presents the previous secret lost the current one: that ends, and the
        // presented one keeps the rest of its grace.
        let presented = self.actor.presented_digest();
        let (kept, grace_end) = match record.previous_digest() {
            Some(previous) if presented == Some(*previous) => {
                (*previous, earliest(grace_end, record.grace_ends_at()))
            }
            _ => (*record.digest(), grace_end),
        };
        let previous = grace_end.filter(|end| *end > now).map(|end| (kept, end));
        record
            .clone()
            .with_digest(TokenDigest::of(secret.expose_secret()))
            .with_previous_digest(previous)
            .with_rotated_at(now)
            .with_hint(&*self.format.hint(record.id()))
            .with_expires_at(expires_at)
    }
}
