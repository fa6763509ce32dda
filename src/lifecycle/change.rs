use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;

use super::authorize::{Authorized, Change};
use super::create::check_idempotency_key;
use super::fields::Fields;
use super::rights::Rights;
use super::{
    ChangedToken, IssuedToken, LifecycleError, Patch, ServiceTokens, TokenPolicy, TokenUpdate,
};
use crate::audit::AuditAction;
use crate::clock::earliest;
use crate::digest::TokenDigest;
use crate::registry::{AuthorityError, RegistryError, Write, adds_rights, expires_later};
use crate::store::{Repetition, RotationRequest, StoreError, TokenRecord, TokenState, TokenStatus};
use crate::token::{MintedToken, TokenId};

/// The longest grace period, 1,000 years. The end of a longer one may be out of range for clocks.
const MAX_GRACE: Duration = Duration::from_secs(1_000 * 31_556_952);

/// The number of attempts to write a change while other changes to the token come first.
const MAX_ATTEMPTS: usize = 100;

/// Returns whether the change ends or shortens the time for which a token may administer tokens.
pub(super) fn reduces_administration(
    before: &TokenRecord,
    after: &TokenRecord,
    now: SystemTime,
) -> bool {
    let is_shorter = expires_later(before.expires_at(), after.expires_at());
    before.may_administer(now) && (is_shorter || !after.may_administer(now))
}

/// What a change depends on, besides the record.
struct Context {
    rights: Rights,
    policy: TokenPolicy,
    now: SystemTime,
}

/// Returns the changed record.
type Next<'a> =
    dyn Fn(&TokenRecord, &Context) -> Result<TokenRecord, LifecycleError> + Send + Sync + 'a;

impl ServiceTokens {
    /// Changes the fields of a token. The secret stays valid.
    ///
    /// If a holder whose token expires adds roles or scopes to a token that expires later or never,
    /// that token gets the expiry of the holder's, unless the update sets another one.
    ///
    /// A change of the owner transfers the token:
    ///
    /// 1. The grace period of its last rotation ends.
    /// 2. [`created_by`](TokenRecord::created_by) is removed, because it may name the previous owner.
    /// 3. The current secret stays valid, so that clients continue. The previous owner may still have
    ///    it, and with it manages what the token may manage for the new owner.
    ///    [Rotate](Self::rotate) the token without a grace period to end that.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it was revoked, it is not at the requested
    /// revision, a rule or the policy is broken, the actor may not make the change, no other token could
    /// administer tokens afterwards, or the store is unavailable.
    pub async fn update(
        &self,
        id: TokenId,
        update: TokenUpdate,
    ) -> Result<ChangedToken, LifecycleError> {
        let revision = update.revision.map(|revision| [revision]);
        let revisions = revision.as_ref().map(|revision| &revision[..]);
        let change = Change {
            action: AuditAction::Updated,
            revisions: revisions.or(self.revisions.as_deref()),
            owner: &update.owner,
        };
        self.change(id, change, &|record, context| {
            let Context {
                rights,
                policy,
                now,
            } = context;
            let known = Fields::from_record(record);
            let mut fields = known.updated(update.clone(), record, policy, *now);
            fields.check_counts(Some(&known))?;
            if update.expiry.is_none() && adds_rights(record, &fields.apply_to(record.clone())) {
                fields.limit_expiry(rights.latest_expiry());
            }
            fields.check(Some(&known), policy)?;
            let state = update.state.unwrap_or(record.state());
            let updated = fields.apply_to(record.clone()).with_state(state);
            if updated.owner() == record.owner() {
                return Ok(updated);
            }
            // The previous digest and the creator belong to the former owner.
            Ok(updated.with_previous_digest(None).with_created_by(None))
        })
        .await
    }

    /// Issues a new secret for a token. The current secret stays valid for the grace period, or until
    /// the token expires. With [`Duration::ZERO`] it is rejected immediately.
    ///
    /// 1. At most two secrets are valid at a time: a rotation within the grace period of another ends
    ///    that grace period.
    /// 2. The expiry stays, unless the maximum lifetime of the [policy](super::TokenPolicy) shortens
    ///    it.
    /// 3. Of several concurrent rotations, one succeeds.
    /// 4. A holder that lost the response may rotate its own token with the previous secret, only [at
    ///    a revision](Self::if_revision). The lost secret is rejected immediately. The presented one
    ///    stays valid for `grace`, or until its own grace period ends.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it was revoked or has expired, it was rotated at
    /// the same time, the actor may not rotate it, there are no random bytes, or the store is
    /// unavailable. In the last case it is unknown which secret is valid; rotate again.
    pub async fn rotate(
        &self,
        id: TokenId,
        grace: Duration,
    ) -> Result<IssuedToken, LifecycleError> {
        self.rotate_with(id, grace, None).await
    }

    /// Does the same as [`rotate`](Self::rotate), but only once with one idempotency key: 1 to 255
    /// visible ASCII characters, such as a random UUID, generated once for each rotation.
    ///
    /// 1. If this actor rotated the token last with the same key, the call fails with
    ///    [`AlreadyRotated`](LifecycleError::AlreadyRotated), which contains the record. The secret
    ///    stays as it is, and is not returned again. Other actors have keys of their own.
    /// 2. The same key with another grace period fails with
    ///    [`IdempotencyKeyReused`](LifecycleError::IdempotencyKeyReused).
    /// 3. Only the key of the last rotation is stored, as a hash with the record. It identifies a
    ///    repetition as long as the secret that the rotation made is the current one.
    /// 4. A repetition is recognized at any [revision](Self::if_revision), and if the actor presents the
    ///    previous secret of its own token.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_service_token::lifecycle::{LifecycleError, NewToken};
    /// use tower_service_token::{MemoryStore, ServiceTokens};
    ///
    /// # futures::executor::block_on(async {
    /// let tokens = ServiceTokens::new(MemoryStore::new());
    /// let id = tokens.create(NewToken::new("ci")).await?.record().id();
    ///
    /// let key = "8e03978e-40d5-43dd-bc93-6894a57f9324";
    /// let rotated = tokens.rotate_once(id, Duration::ZERO, key).await?;
    /// println!("new secret: {}", rotated.expose_secret());
    /// let repeated = tokens.rotate_once(id, Duration::ZERO, key).await;
    /// assert!(matches!(repeated, Err(LifecycleError::AlreadyRotated(_))));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # }).expect("no step fails");
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of `rotate`, and those above.
    pub async fn rotate_once(
        &self,
        id: TokenId,
        grace: Duration,
        idempotency_key: &str,
    ) -> Result<IssuedToken, LifecycleError> {
        check_idempotency_key(idempotency_key)?;
        let request = RotationRequest {
            actor: &self.actor.key(),
            idempotency_key,
            grace,
        };
        match self.rotate_with(id, grace, Some(request)).await {
            // Perhaps because of the rotation that this one repeats.
            Err(
                error @ (LifecycleError::RevisionMismatch
                | LifecycleError::ConcurrentRotation
                | LifecycleError::Unauthorized(AuthorityError::PreviousSecret)),
            ) => {
                self.reject_repetition(&self.get_to_change(id).await?, request)?;
                Err(error)
            }
            rotated => rotated,
        }
    }

    /// Returns an error if the current secret of the record was made by this request.
    fn reject_repetition(
        &self,
        record: &TokenRecord,
        request: RotationRequest<'_>,
    ) -> Result<(), LifecycleError> {
        Err(match request.repetition(record) {
            None => return Ok(()),
            Some(Repetition::Same) => {
                LifecycleError::AlreadyRotated(Box::new(self.changed(record.clone())))
            }
            Some(Repetition::OtherGrace) => LifecycleError::IdempotencyKeyReused,
        })
    }

    async fn rotate_with(
        &self,
        id: TokenId,
        grace: Duration,
        request: Option<RotationRequest<'_>>,
    ) -> Result<IssuedToken, LifecycleError> {
        let secret = self.format.mint_with_id(id)?;
        let change = self.change_of(AuditAction::Rotated);
        let rotated = |record: &TokenRecord, context: &Context| {
            let now = context.now;
            if let Some(request) = request {
                self.reject_repetition(record, request)?;
            }
            if record.status(now) == TokenStatus::Expired {
                return Err(LifecycleError::Expired);
            }
            let latest = context.policy.latest_expiry(now);
            let rotated = self.rotated(record, &secret, now, grace);
            let expires_at = earliest(rotated.expires_at(), latest);
            let rotated = rotated.with_expires_at(expires_at);
            let key = request.map(|request| request.key(rotated.digest()));
            Ok(rotated.with_rotation_key(key))
        };
        let changed = self.change(id, change, &rotated).await?;
        Ok(IssuedToken {
            secret,
            record: changed.record,
            effective_within: changed.effective_within,
        })
    }

    /// Disables a token: it is rejected until it is [enabled](Self::enable).
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it was revoked, the actor may not change it, no
    /// other token could administer tokens afterwards, or the store is unavailable.
    pub async fn disable(&self, id: TokenId) -> Result<ChangedToken, LifecycleError> {
        self.set_state(id, AuditAction::Disabled, TokenState::Disabled)
            .await
    }

    /// Enables a disabled token.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it was revoked, the actor may not change it, or
    /// the store is unavailable.
    pub async fn enable(&self, id: TokenId) -> Result<ChangedToken, LifecycleError> {
        self.set_state(id, AuditAction::Enabled, TokenState::Active)
            .await
    }

    /// Revokes a token for good. Its record stays until it is [purged](Self::purge), so that
    /// rejections of the token give the reason. Does nothing if the token is revoked already.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, the actor may not revoke it, no other token could
    /// administer tokens afterwards, or the store is unavailable.
    pub async fn revoke(&self, id: TokenId) -> Result<ChangedToken, LifecycleError> {
        match self.revoke_once(id).await {
            Err(LifecycleError::Revoked) => {
                let record = self.get_to_change(id).await?;
                Ok(self.changed(record))
            }
            revoked => revoked,
        }
    }

    /// Revokes a token, or returns an error if it is revoked already.
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
        self.change(id, self.change_of(action), &|record, _| {
            Ok(record.clone().with_state(state))
        })
        .await
    }

    /// Returns a change that keeps the owner.
    fn change_of(&self, action: AuditAction) -> Change<'_> {
        Change {
            action,
            revisions: self.revisions.as_deref(),
            owner: &Patch::Keep,
        }
    }

    /// Reads, changes and writes a record, and retries if another change came in between. A change
    /// without an effect is not written.
    fn change<'a>(
        &'a self,
        id: TokenId,
        change: Change<'a>,
        next: &'a Next<'a>,
    ) -> BoxFuture<'a, Result<ChangedToken, LifecycleError>> {
        Box::pin(async move {
            let mut first_digest = None;
            let (action, revisions) = (change.action, change.revisions);
            for _ in 0..MAX_ATTEMPTS {
                // The rights are read last, so that they are current when the record is written.
                let found = self.registry.get(id).await;
                let (rights, policy) = self.authorize_change(&change, &found).await?;
                let before = found?.ok_or(LifecycleError::NotFound)?;
                rights.check_change(&before)?;
                if revisions.is_some_and(|revisions| !revisions.contains(&before.revision())) {
                    return Err(LifecycleError::RevisionMismatch);
                }
                if before.state() == TokenState::Revoked {
                    return Err(LifecycleError::Revoked);
                }
                let digest = *first_digest.get_or_insert(*before.digest());
                if action == AuditAction::Rotated && digest != *before.digest() {
                    return Err(LifecycleError::ConcurrentRotation);
                }
                let context = Context {
                    rights,
                    policy: policy?,
                    now: self.clock.now(),
                };
                let after = next(&before, &context)?.with_updated_at(context.now);
                context.rights.check(Some(&before), &after)?;
                let write = self.change_write(action, &before, after, &context);
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
        })
    }

    async fn authorize_change(
        &self,
        change: &Change<'_>,
        found: &Result<Option<TokenRecord>, StoreError>,
    ) -> Result<Authorized, LifecycleError> {
        let is_conditional = change.revisions.is_some_and(|it| it.len() == 1);
        match found {
            Ok(Some(before)) if change.has_rules() => {
                let next_owner = |rights: &Rights| change.next_owner(rights, before);
                self.authorize(is_conditional, next_owner).await
            }
            _ => {
                let rights = self.rights(is_conditional).await?;
                rights.check_accepted()?;
                Ok((rights, Ok(TokenPolicy::new())))
            }
        }
    }

    fn change_write(
        &self,
        action: AuditAction,
        before: &TokenRecord,
        after: TokenRecord,
        context: &Context,
    ) -> Write {
        let Context {
            rights,
            policy,
            now,
        } = context;
        // A rotation does not end a token: its holder continues with the new secret.
        let needs_admin_check = action != AuditAction::Rotated
            && !self.allows_last_admin_removal
            && !self.actor.is_possession()
            && reduces_administration(before, &after, *now);
        self.write(action, before, after, rights)
            .reserve_name(policy.unique_names)
            .with_last_admin_check(needs_admin_check.then_some(*now))
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
        let grace_end = earliest(now.checked_add(grace.min(MAX_GRACE)), record.expires_at());
        // A holder that presents the previous secret has lost the current one. The current secret
        // ends, and the presented one keeps the rest of its grace period.
        let presented = self.actor.presented_digest();
        let (previous, grace_end) = match record.previous_digest() {
            Some(previous) if presented == Some(*previous) => {
                (*previous, earliest(grace_end, record.grace_ends_at()))
            }
            _ => (*record.digest(), grace_end),
        };
        let previous = grace_end
            .filter(|end| *end > now)
            .map(|end| (previous, end));
        record
            .clone()
            .with_digest(TokenDigest::of(secret.expose_secret()))
            .with_previous_digest(previous)
            .with_rotated_at(now)
            .with_hint(&*self.format.hint(record.id()))
    }
}
