use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::standing::Standing;
use super::{LifecycleError, Page, ServiceTokens};
use crate::store::{
    ADMIN_SCOPES, AuditAction, AuthorityError, ListRequest, RegistryError, TokenFilter,
    TokenRecord, TokenState, TokenStatus, Write,
};
use crate::token::TokenId;

/// How many tokens are revoked in one transaction.
const BATCH: usize = 500;

/// No further batch begins after this time, so that a call takes at most 20 s: a store may need
/// some seconds for the last one.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// How many ids a preview names.
const SAMPLE: usize = 100;

/// A filter that matches more tokens needs an expected number.
const MAX_UNCONFIRMED: usize = 100;

/// What a bulk revocation did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BulkRevocation {
    /// The tokens that this call revoked.
    pub ids: Vec<TokenId>,
    /// How many of the matching tokens are still to be revoked: the call ended after 20 s, or the
    /// store failed. Repeat it with this number as `expect`.
    pub remaining: usize,
    /// After how long, at the latest, every request on every node sees it.
    pub effective_within: Duration,
}

/// What a bulk revocation would do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BulkPreview {
    /// How many tokens match and are not revoked yet.
    pub count: usize,
    /// Up to 100 of them, the oldest first.
    pub sample: Vec<TokenId>,
    /// How many of them the actor may not revoke. If there are any, a revocation is refused.
    pub forbidden: usize,
    /// Whether a revocation needs `expect`.
    pub needs_expect: bool,
}

/// The tokens that a filter matches.
struct Matches {
    ids: BTreeSet<TokenId>,
    sample: Vec<TokenId>,
    forbidden: usize,
    /// Those that may administer now.
    admins: BTreeSet<TokenId>,
    needs_expect: bool,
}

impl ServiceTokens {
    /// Revokes the tokens that the filter matches, in batches, for at most 20 s.
    ///
    /// 1. With `expect`, nothing is revoked unless the filter matches exactly so many tokens that are
    ///    not revoked yet; [`revocable`](Self::revocable) returns the number.
    /// 2. `expect` is needed if more than 100 tokens match, more than half of all tokens that are
    ///    neither revoked nor expired, or the actor's own.
    /// 3. If the actor may not revoke one of the tokens, or if no other token could administer
    ///    tokens afterwards, nothing is revoked.
    /// 4. If [`remaining`](BulkRevocation::remaining) is not zero, call again with that number.
    ///    Tokens created meanwhile are not revoked.
    ///
    /// # Errors
    ///
    /// Returns an error, and has revoked nothing, if rule 1, 2 or 3 is broken, if the actor's token
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
        if matches.forbidden > 0 {
            let forbidden = matches.forbidden;
            return Err(LifecycleError::TokensNotCovered { forbidden, found });
        }
        if expected.map_or(matches.needs_expect, |expected| expected != found) {
            return Err(LifecycleError::UnexpectedCount { expected, found });
        }
        if self.ends_all_admins(&matches.admins).await? {
            return Err(LifecycleError::LastAdmin);
        }
        let mut bulk = Bulk {
            tokens: self,
            started,
            todo: matches.ids,
            revoked: Vec::new(),
        };
        if let Err(error) = bulk.revoke(filter, &matches.admins).await
            && bulk.revoked.is_empty()
        {
            return Err(error);
        }
        Ok(BulkRevocation {
            ids: bulk.revoked,
            remaining: bulk.todo.len(),
            effective_within: self.registry.effective_within(),
        })
    }

    /// Returns what [`revoke_where`](Self::revoke_where) would do.
    ///
    /// # Errors
    ///
    /// Returns an error if the actor's token is no longer accepted, or if the store is unavailable.
    pub async fn revocable(&self, filter: TokenFilter) -> Result<BulkPreview, LifecycleError> {
        let matches = self.matches(&filter).await?;
        Ok(BulkPreview {
            count: matches.ids.len(),
            sample: matches.sample,
            forbidden: matches.forbidden,
            needs_expect: matches.needs_expect,
        })
    }

    async fn matches(&self, filter: &TokenFilter) -> Result<Matches, LifecycleError> {
        let standing = self.standing(false).await?;
        standing.check_accepted()?;
        let now = self.clock.now();
        let mut matches = Matches {
            ids: BTreeSet::new(),
            sample: Vec::new(),
            forbidden: 0,
            admins: BTreeSet::new(),
            needs_expect: false,
        };
        let mut pages = Pages::of(filter.clone().without_revoked());
        while let Some(records) = pages.next(self).await? {
            for record in records {
                matches.add(&record, &standing, now)?;
            }
        }
        matches.needs_expect = self.needs_expect(&matches.ids, now).await?;
        Ok(matches)
    }

    async fn needs_expect(
        &self,
        ids: &BTreeSet<TokenId>,
        now: SystemTime,
    ) -> Result<bool, LifecycleError> {
        let is_own = self.actor.token_id().is_some_and(|id| ids.contains(&id));
        if is_own || ids.len() > MAX_UNCONFIRMED {
            return Ok(true);
        }
        let unrevoked = TokenFilter::new().without_revoked();
        let unrevoked = self.registry.count(&unrevoked, now).await?;
        let expired = TokenFilter::new().with_status(TokenStatus::Expired);
        let expired = self.registry.count(&expired, now).await?;
        let live = unrevoked.saturating_sub(expired);
        Ok(ids.len() as u64 * 2 > live)
    }

    /// Whether these are all tokens that may administer, and there are any.
    async fn ends_all_admins(&self, admins: &BTreeSet<TokenId>) -> Result<bool, LifecycleError> {
        if admins.is_empty() {
            return Ok(false);
        }
        let now = self.clock.now();
        for scope in ADMIN_SCOPES {
            let active = TokenFilter::new().with_status(TokenStatus::Active);
            let mut pages = Pages::of(active.with_scope(scope));
            while let Some(records) = pages.next(self).await? {
                let mut others = records.iter().filter(|it| it.may_administer(now));
                if others.any(|it| !admins.contains(&it.id())) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Deletes the records of tokens that were revoked, or expired, at least this long ago. The
    /// holder of such a token no longer gets to know why it is refused.
    ///
    /// # Errors
    ///
    /// Returns an error if the actor may not change one of the tokens, or if the store is
    /// unavailable; some records may be deleted.
    pub async fn purge(&self, older_than: Duration) -> Result<Vec<TokenId>, LifecycleError> {
        let Some(before) = self.clock.now().checked_sub(older_than) else {
            return Ok(Vec::new());
        };
        let standing = self.standing(false).await?;
        standing.check_accepted()?;
        let revoked = TokenFilter::new().with_status(TokenStatus::Revoked);
        // Nothing changes a revoked record, so it was revoked when it was last changed.
        let is_old = |record: &TokenRecord| record.updated_at().is_none_or(|time| time <= before);
        let expired = TokenFilter::new().with_expires_before(before + Duration::from_millis(1));

        let mut purged = Vec::new();
        for (filter, needs_age) in [(revoked, true), (expired, false)] {
            let mut pages = Pages::of(filter);
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

    /// Whether the record was deleted. One that was changed since may be valid again and stays.
    async fn purge_one(&self, record: &TokenRecord) -> Result<bool, LifecycleError> {
        let standing = self.standing(false).await?;
        standing.check_change(record)?;
        let write = self.write(AuditAction::Purged, record, record.clone(), &standing);
        match self.registry.delete(&write).await {
            Ok(()) => {
                self.sink.record(write.event());
                Ok(true)
            }
            Err(RegistryError::Changed | RegistryError::UnknownId) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Matches {
    fn add(
        &mut self,
        record: &TokenRecord,
        standing: &Standing,
        now: SystemTime,
    ) -> Result<(), LifecycleError> {
        // A token that is used meanwhile may be on a later page again.
        if !self.ids.insert(record.id()) {
            return Ok(());
        }
        if self.sample.len() < SAMPLE {
            self.sample.push(record.id());
        }
        if record.may_administer(now) {
            self.admins.insert(record.id());
        }
        match standing.check_change(record) {
            Ok(()) => {}
            Err(AuthorityError::Lacks { .. }) => self.forbidden += 1,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// A bulk revocation in progress.
struct Bulk<'a> {
    tokens: &'a ServiceTokens,
    started: Duration,
    todo: BTreeSet<TokenId>,
    revoked: Vec<TokenId>,
}

impl Bulk<'_> {
    async fn revoke(
        &mut self,
        filter: TokenFilter,
        admins: &BTreeSet<TokenId>,
    ) -> Result<(), LifecycleError> {
        let own = self.tokens.actor.token_id();
        // One may administer by now that did not when it was matched.
        let now = self.tokens.clock.now();
        let is_plain = |record: &TokenRecord| {
            let id = record.id();
            !admins.contains(&id) && !record.may_administer(now) && own != Some(id)
        };
        let mut pages = Pages::of(filter.without_revoked());
        while let Some(records) = pages.next(self.tokens).await? {
            let records = records.into_iter();
            let meant = records.filter(|it| self.todo.contains(&it.id()) && is_plain(it));
            for batch in meant.collect::<Vec<_>>().chunks(BATCH) {
                self.revoke_batch(batch).await?;
                if self.is_late() {
                    return Ok(());
                }
            }
        }
        // One after the other: those that were changed meanwhile, those that may administer, and
        // the actor's own last, since nothing can be revoked with it afterwards.
        let mut rest: Vec<_> = self.todo.iter().copied().collect();
        rest.sort_by_key(|id| (own == Some(*id), admins.contains(id)));
        for id in rest {
            if self.is_late() {
                break;
            }
            self.revoke_one(id).await?;
        }
        Ok(())
    }

    async fn revoke_batch(&mut self, records: &[TokenRecord]) -> Result<(), LifecycleError> {
        let standing = self.tokens.standing(false).await?;
        let now = self.tokens.clock.now();
        let revocation = |record: &TokenRecord| {
            let after = record.clone().with_state(TokenState::Revoked);
            let after = after.with_updated_at(now);
            self.tokens
                .write(AuditAction::Revoked, record, after, &standing)
        };
        let writes: Vec<Write> = records.iter().map(revocation).collect();
        let outcomes = self.tokens.registry.update_many(&writes).await;
        let mut failure = None;
        for (write, outcome) in writes.iter().zip(outcomes) {
            let id = write.record().id();
            match outcome {
                Ok(_) => {
                    self.tokens.sink.record(write.event());
                    self.todo.remove(&id);
                    self.revoked.push(id);
                }
                // Left for later, one by one.
                Err(RegistryError::Changed | RegistryError::UnknownId) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn revoke_one(&mut self, id: TokenId) -> Result<(), LifecycleError> {
        let mut tokens = self.tokens.clone();
        tokens.may_end_last_admin = false;
        match tokens.revoke_once(id).await {
            Ok(_) => self.revoked.push(id),
            // Revoked by another call, or purged.
            Err(LifecycleError::Revoked | LifecycleError::NotFound) => {}
            Err(error) => return Err(error),
        }
        self.todo.remove(&id);
        Ok(())
    }

    /// Whether the call should end. It revokes at least one token, so that repeating it always gets
    /// further.
    fn is_late(&self) -> bool {
        if self.revoked.is_empty() {
            return false;
        }
        let elapsed = self.tokens.clock.monotonic().saturating_sub(self.started);
        elapsed >= TIME_LIMIT
    }
}

/// The pages of a listing, each of as many tokens as a store returns at once.
struct Pages {
    filter: TokenFilter,
    next: Option<Page>,
}

impl Pages {
    fn of(filter: TokenFilter) -> Self {
        let next = Some(Page::of(ListRequest::MAX_LIMIT));
        Self { filter, next }
    }

    async fn next(
        &mut self,
        tokens: &ServiceTokens,
    ) -> Result<Option<Vec<TokenRecord>>, LifecycleError> {
        let Some(page) = self.next.take() else {
            return Ok(None);
        };
        let found = tokens.list(self.filter.clone(), page).await?;
        self.next = found.next.map(|next| page.after(next));
        Ok(Some(found.records))
    }
}
