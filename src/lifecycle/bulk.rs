use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::change::reduces_administration;
use super::page::Pages;
use super::{LifecycleError, ServiceTokens};
use crate::audit::AuditAction;
use crate::registry::{AuthorityError, RegistryError, TokenFilter, Write};
use crate::store::{ADMIN_SCOPES, TokenRecord, TokenState, TokenStatus};
use crate::token::TokenId;

/// The number of tokens that are revoked in one transaction.
const BATCH_SIZE: usize = 500;

/// No batch starts after this time, so that a call takes at most 20 s: the last batch may take some
/// seconds.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// The number of ids in a preview.
const SAMPLE_SIZE: usize = 100;

/// A revocation of more tokens needs an expected number.
const MAX_UNCONFIRMED: usize = 100;

/// The result of a bulk revocation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BulkRevocation {
    /// The tokens that this call revoked.
    pub ids: Vec<TokenId>,
    /// The number of matching tokens that are not revoked yet, because the call ended after 20 s or
    /// the store failed. Call again with this number as `expect`.
    pub remaining: usize,
    /// The longest time until every request on every node sees the revocations.
    pub effective_within: Duration,
}

/// The result that a bulk revocation would have.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BulkPreview {
    /// The number of tokens that match and are not revoked yet.
    pub count: usize,
    /// Up to 100 of them, the oldest first.
    pub sample: Vec<TokenId>,
    /// The number of matching tokens that the actor may not revoke. If there are any, a revocation is
    /// rejected. If the actor may not list tokens, the number is at most 1, and none of these tokens
    /// is in the other fields.
    pub forbidden: usize,
    /// Whether the revocation needs `expect`.
    pub needs_expect: bool,
    /// Whether no other valid token could administer tokens afterwards. Such a revocation is
    /// rejected.
    pub ends_administration: bool,
}

/// The tokens that a filter matches.
#[derive(Default)]
struct Matches {
    ids: BTreeSet<TokenId>,
    sample: Vec<TokenId>,
    forbidden: usize,
    /// 1 if there are tokens that the actor may neither list nor revoke.
    hidden: usize,
    /// The tokens that may administer tokens now.
    admins: BTreeSet<TokenId>,
    /// The owner to which the actor is confined.
    owner: Option<Box<str>>,
}

impl Matches {
    fn insert(&mut self, record: &TokenRecord, is_covered: bool, now: SystemTime) {
        // The listing may be by last use: a token that is used meanwhile is listed again.
        if !self.ids.insert(record.id()) {
            return;
        }
        if self.sample.len() < SAMPLE_SIZE {
            self.sample.push(record.id());
        }
        if record.may_administer(now) {
            self.admins.insert(record.id());
        }
        if !is_covered {
            self.forbidden += 1;
        }
    }
}

impl ServiceTokens {
    /// Revokes the tokens that the filter matches, in batches, for at most 20 s.
    ///
    /// 1. With `expect`, tokens are revoked only if the filter matches this number of tokens that are
    ///    not revoked yet. [`preview_revocation`](Self::preview_revocation) returns the number.
    /// 2. `expect` is required if more than 100 tokens match, if more than half of all tokens that are
    ///    neither revoked nor expired match, or if the actor's own token matches. For an actor that is
    ///    [confined](super::Actor::confined_to) to an owner, all tokens are those of the owner.
    /// 3. If the actor may not revoke one of the tokens, or if no other token could administer
    ///    tokens afterwards, nothing is revoked.
    /// 4. If [`remaining`](BulkRevocation::remaining) is not zero, call again with that number. Tokens
    ///    that are created during a call are not revoked by it. The next call counts them, and fails
    ///    if the number differs.
    /// 5. Each call first reads all matching tokens, which counts towards the 20 s. It then revokes at
    ///    least one batch, so a call over millions of tokens may take longer.
    ///
    /// # Errors
    ///
    /// Returns an error, without revoking tokens, if rule 1, 2 or 3 is broken, if the actor's token
    /// is no longer accepted, or if the store is unavailable.
    pub async fn revoke_where(
        &self,
        filter: TokenFilter,
        expect: impl Into<Option<usize>>,
    ) -> Result<BulkRevocation, LifecycleError> {
        let started = self.clock.monotonic();
        let expected = expect.into();
        let matches = self.matches(&filter).await?;
        let found = matches.ids.len();
        let forbidden = matches.forbidden + matches.hidden;
        if forbidden > 0 {
            let found = found + matches.hidden;
            return Err(LifecycleError::TokensNotCovered { forbidden, found });
        }
        let is_unexpected = match expected {
            Some(expected) => expected != found,
            None => self.needs_expect(&matches).await?,
        };
        if is_unexpected {
            return Err(LifecycleError::UnexpectedCount { expected, found });
        }
        if self.removes_last_admin(&matches).await? {
            return Err(LifecycleError::LastAdmin);
        }
        let mut tokens = self.clone();
        (tokens.allows_last_admin_removal, tokens.revisions) = (false, None);
        let mut run = RevocationRun {
            tokens,
            filter,
            owner: matches.owner,
            started,
            found,
            pending: matches.ids,
            revoked: Vec::new(),
        };
        if let Err(error) = run.revoke().await
            && run.revoked.is_empty()
        {
            return Err(error);
        }
        Ok(BulkRevocation {
            ids: run.revoked,
            remaining: run.pending.len(),
            effective_within: self.registry.effective_within(),
        })
    }

    /// Returns what [`revoke_where`](Self::revoke_where) would do, without revoking tokens.
    ///
    /// # Errors
    ///
    /// Returns an error if the actor's token is no longer accepted, or if the store is unavailable.
    pub async fn preview_revocation(
        &self,
        filter: TokenFilter,
    ) -> Result<BulkPreview, LifecycleError> {
        let matches = self.matches(&filter).await?;
        Ok(BulkPreview {
            count: matches.ids.len(),
            needs_expect: self.needs_expect(&matches).await?,
            ends_administration: self.removes_last_admin(&matches).await?,
            sample: matches.sample,
            forbidden: matches.forbidden + matches.hidden,
        })
    }

    async fn matches(&self, filter: &TokenFilter) -> Result<Matches, LifecycleError> {
        let rights = self.rights(false).await?;
        rights.check_accepted()?;
        let now = self.clock.now();
        let may_list = rights.may_list();
        let mut matches = Matches::default();
        let mut pages = Pages::new(filter.clone().without_revoked(), rights.owner());
        while let Some(records) = pages.next(self).await? {
            for record in records {
                match rights.check_change(&record) {
                    Ok(()) => matches.insert(&record, true, now),
                    Err(RegistryError::Unauthorized(AuthorityError::EscalationDenied {
                        ..
                    })) => {
                        if may_list {
                            matches.insert(&record, false, now);
                        } else {
                            matches.hidden = 1;
                        }
                    }
                    // The owner of the token, or of the actor's token, changed meanwhile.
                    Err(RegistryError::UnknownId) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        matches.owner = rights.owner().map(Box::from);
        Ok(matches)
    }

    async fn needs_expect(&self, matches: &Matches) -> Result<bool, LifecycleError> {
        let (ids, owner) = (&matches.ids, matches.owner.as_deref());
        let is_own = self.actor.token_id().is_some_and(|id| ids.contains(&id));
        if is_own || ids.len() > MAX_UNCONFIRMED {
            return Ok(true);
        }
        let now = self.clock.now();
        let unrevoked = TokenFilter::new().without_revoked();
        // Disabled tokens expire as well.
        let expired = unrevoked
            .clone()
            .with_expires_before(now + Duration::from_millis(1));
        let unrevoked = self.count_matches(unrevoked, owner).await?;
        let expired = self.count_matches(expired, owner).await?;
        let live = unrevoked.saturating_sub(expired);
        Ok(ids.len() as u64 * 2 > live)
    }

    /// Returns whether these are all tokens that may administer tokens, and there is at least one.
    async fn removes_last_admin(&self, matches: &Matches) -> Result<bool, LifecycleError> {
        let (admins, owner) = (&matches.admins, matches.owner.as_deref());
        if admins.is_empty() {
            return Ok(false);
        }
        let now = self.clock.now();
        for scope in ADMIN_SCOPES {
            let active = TokenFilter::new().with_status(TokenStatus::Active);
            let mut pages = Pages::new(active.with_scope(scope), owner);
            while let Some(records) = pages.next(self).await? {
                let mut others = records.iter().filter(|it| it.may_administer(now));
                if others.any(|it| !admins.contains(&it.id())) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// A bulk revocation in progress.
struct RevocationRun {
    /// Has no revision, and may not revoke the last administrator.
    tokens: ServiceTokens,
    filter: TokenFilter,
    owner: Option<Box<str>>,
    started: Duration,
    found: usize,
    pending: BTreeSet<TokenId>,
    revoked: Vec<TokenId>,
}

impl RevocationRun {
    async fn revoke(&mut self) -> Result<(), LifecycleError> {
        let own = self.tokens.actor.token_id();
        let owner = self.owner.clone();
        let mut pages = Pages::new(self.filter.clone().without_revoked(), owner.as_deref());
        while let Some(records) = pages.next(&self.tokens).await? {
            let records = records.into_iter();
            let is_selected = |id| self.pending.contains(&id) && own != Some(id);
            let selected: Vec<_> = records.filter(|record| is_selected(record.id())).collect();
            for batch in selected.chunks(BATCH_SIZE) {
                self.revoke_batch(batch).await?;
                if self.is_over_time_limit() {
                    return Ok(());
                }
            }
        }
        // The remaining tokens were changed meanwhile. The actor's own token is last, because the
        // actor cannot revoke others with it afterwards.
        let mut rest: Vec<_> = self.pending.iter().copied().collect();
        rest.sort_by_key(|id| own == Some(*id));
        for id in rest {
            if self.is_over_time_limit() {
                break;
            }
            self.revoke_one(id).await?;
        }
        Ok(())
    }

    async fn revoke_batch(&mut self, records: &[TokenRecord]) -> Result<(), LifecycleError> {
        let rights = self.tokens.rights(false).await?;
        let now = self.tokens.clock.now();
        let revocation = |record: &TokenRecord| {
            let after = record.clone().with_state(TokenState::Revoked);
            let after = after.with_updated_at(now);
            let needs_admin_check = reduces_administration(record, &after, now);
            let write = self
                .tokens
                .write(AuditAction::Revoked, record, after, &rights);
            write.with_last_admin_check(needs_admin_check.then_some(now))
        };
        let writes: Vec<Write> = records.iter().map(revocation).collect();
        let outcomes = self.tokens.registry.update_many(&writes).await;
        let mut failure = None;
        for (write, outcome) in writes.iter().zip(outcomes) {
            match outcome {
                Ok(_) => {
                    self.tokens.sink.record(write.event());
                    self.mark_revoked(write.record().id());
                }
                // `revoke_one` handles it afterwards.
                Err(RegistryError::RevisionMismatch | RegistryError::UnknownId) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Revokes a token that was changed after it was matched, if it still matches.
    async fn revoke_one(&mut self, id: TokenId) -> Result<(), LifecycleError> {
        let rights = self.tokens.rights(false).await?;
        let record = self.tokens.find(id, rights.owner()).await?;
        let now = self.tokens.clock.now();
        if !record.is_some_and(|record| self.filter.matches(&record, now)) {
            self.pending.remove(&id);
            return Ok(());
        }
        match self.tokens.revoke_once(id).await {
            Ok(_) => self.mark_revoked(id),
            // Revoked by another call, or purged.
            Err(LifecycleError::Revoked | LifecycleError::NotFound) => {
                self.pending.remove(&id);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn mark_revoked(&mut self, id: TokenId) {
        self.pending.remove(&id);
        self.revoked.push(id);
    }

    /// Returns whether the call should end. Each call revokes at least one token, so that repeated
    /// calls finish.
    fn is_over_time_limit(&self) -> bool {
        let elapsed = self.tokens.clock.monotonic().saturating_sub(self.started);
        self.pending.len() < self.found && elapsed >= TIME_LIMIT
    }
}
