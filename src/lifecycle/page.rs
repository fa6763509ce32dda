use futures_util::future::BoxFuture;

use super::{FieldProblem, LifecycleError, ServiceTokens};
use crate::registry::{Cursor, ListRequest, TokenFilter, TokenPage};
use crate::store::{StoreError, TokenRecord};
use crate::token::TokenId;

/// An owner that no token has, because owners have no control characters. A registry that finds
/// tokens of this owner does not apply the filter, so that its counts and cursors would depend on the
/// tokens of others.
const NO_OWNER: &str = "\u{1f}";

fn ignored_owner() -> LifecycleError {
    StoreError::corrupt("the registry does not apply the filter by owner").into()
}

/// A page of a listing.
///
/// ```
/// use tower_service_token::lifecycle::Page;
///
/// let first = Page::default(); // 50 tokens
/// let smaller = Page::with_limit(10);
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Page {
    pub(crate) limit: usize,
    pub(crate) after: Option<Cursor>,
}

impl Default for Page {
    fn default() -> Self {
        Self::with_limit(50)
    }
}

impl Page {
    /// Creates the first page, of at most this many tokens: 1 to [`ListRequest::MAX_LIMIT`].
    pub fn with_limit(limit: usize) -> Self {
        Self { limit, after: None }
    }

    /// Starts after the page that ended with this cursor.
    pub fn after(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
        self.after = cursor.into();
        self
    }
}

impl ServiceTokens {
    /// Lists one page of the tokens that match the filter, in the
    /// [order](ListRequest::order) of the filter: by default the oldest first. An actor that is
    /// [confined](super::Actor::confined_to) to an owner lists only tokens of that owner.
    ///
    /// # Errors
    ///
    /// Returns an error if the limit is out of range, the cursor is from another listing, the actor is
    /// no longer accepted, or the store is unavailable.
    pub async fn list(&self, filter: TokenFilter, page: Page) -> Result<TokenPage, LifecycleError> {
        let owner = self.check_reader().await?;
        self.list_page(filter, page, owner.as_deref()).await
    }

    /// Lists a page for an actor that was checked, and is confined to this owner.
    pub(super) fn list_page<'a>(
        &'a self,
        filter: TokenFilter,
        page: Page,
        owner: Option<&'a str>,
    ) -> BoxFuture<'a, Result<TokenPage, LifecycleError>> {
        Box::pin(async move {
            if !(1..=ListRequest::MAX_LIMIT).contains(&page.limit) {
                let detail = format!("from 1 to {}", ListRequest::MAX_LIMIT);
                return Err(FieldProblem::new("/limit", detail).into());
            }
            let confined = confine(filter.clone(), owner);
            let is_foreign = confined.is_none();
            let filter = confined.unwrap_or(filter);
            let mut request = ListRequest::new(filter, self.clock.now()).with_limit(page.limit);
            if let Some(cursor) = page.after {
                request = request
                    .with_cursor(cursor)
                    .map_err(|error| FieldProblem::new("/cursor", error.to_string()))?;
            }
            if is_foreign {
                return Ok(request.page(Vec::new()));
            }
            let page = self.registry.list(&request).await?;
            let mut records = page.records.iter();
            if !records.all(|record| is_visible(record, owner)) {
                return Err(ignored_owner());
            }
            if let (Some(_), Some(next)) = (owner, page.next) {
                // A cursor after the tokens of the owner would show that others have more.
                let probe = request.filter().clone().with_owner(NO_OWNER);
                let probe = ListRequest::new(probe, request.now()).with_limit(1);
                let probe = probe.with_cursor(next).map_err(StoreError::corrupt)?;
                if !self.registry.list(&probe).await?.records.is_empty() {
                    return Err(ignored_owner());
                }
            }
            Ok(page)
        })
    }

    /// Returns how many tokens match the filter. An actor that is
    /// [confined](super::Actor::confined_to) to an owner counts only tokens of that owner.
    ///
    /// # Errors
    ///
    /// Returns an error if the actor is no longer accepted, or the store is unavailable.
    pub async fn count(&self, filter: TokenFilter) -> Result<u64, LifecycleError> {
        let owner = self.check_reader().await?;
        self.count_matches(filter, owner.as_deref()).await
    }

    /// Counts tokens for an actor that was checked, and is confined to this owner.
    pub(super) async fn count_matches(
        &self,
        filter: TokenFilter,
        owner: Option<&str>,
    ) -> Result<u64, LifecycleError> {
        let Some(filter) = confine(filter, owner) else {
            return Ok(0);
        };
        let now = self.clock.now();
        let count = self.registry.count(&filter, now).await?;
        if count > 0 && owner.is_some() {
            let probe = filter.with_owner(NO_OWNER);
            if self.registry.count(&probe, now).await? > 0 {
                return Err(ignored_owner());
            }
        }
        Ok(count)
    }

    /// Returns the record of a token, if an actor that is confined to this owner sees it.
    pub(super) async fn find(
        &self,
        id: TokenId,
        owner: Option<&str>,
    ) -> Result<Option<TokenRecord>, LifecycleError> {
        let found = self.registry.get(id).await?;
        Ok(found.filter(|record| is_visible(record, owner)))
    }

    /// Returns the record of a token.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it belongs to another owner than the one that the
    /// actor is [confined](super::Actor::confined_to) to, the actor is no longer accepted, or the store
    /// is unavailable.
    pub async fn get(&self, id: TokenId) -> Result<TokenRecord, LifecycleError> {
        let owner = self.check_reader().await?;
        let record = self.find(id, owner.as_deref()).await?;
        record.ok_or(LifecycleError::NotFound)
    }

    /// Returns the record of the token whose id has this [number](TokenId::number). Revoked tokens
    /// count only if no other has it.
    ///
    /// Also accepts [ids as integers](TokenId::as_i64) of more than 13 digits.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, if several tokens of an earlier release have the
    /// number, if the actor is no longer accepted, or if the store is unavailable.
    pub async fn get_by_number(&self, number: i64) -> Result<TokenRecord, LifecycleError> {
        if number >= TokenId::NUMBER_END {
            let id = TokenId::from_i64(number).ok_or(LifecycleError::NotFound)?;
            return self.get(id).await;
        }
        let owner = self.check_reader().await?;
        let filter = TokenFilter::new().with_number(number);
        for filter in [filter.clone().without_revoked(), filter] {
            let page = self.list_page(filter, Page::with_limit(2), owner.as_deref());
            let mut records = page.await?.records;
            // A registry may not know the filter.
            records.retain(|record| record.id().number() == number);
            match (records.pop(), records.is_empty()) {
                (Some(record), true) => return Ok(record),
                (Some(_), false) => return Err(LifecycleError::AmbiguousNumber),
                (None, _) => {}
            }
        }
        Err(LifecycleError::NotFound)
    }
}

/// Returns the filter for the tokens that an actor sees that is confined to this owner, or `None` if
/// none of them matches.
fn confine(filter: TokenFilter, owner: Option<&str>) -> Option<TokenFilter> {
    match (owner, filter.owner.as_deref()) {
        (Some(owner), Some(wanted)) if owner != wanted => None,
        (Some(owner), _) => Some(filter.with_owner(owner)),
        (None, _) => Some(filter),
    }
}

/// Returns whether an actor that is confined to this owner sees the token.
pub(super) fn is_visible(record: &TokenRecord, owner: Option<&str>) -> bool {
    owner.is_none_or(|owner| record.owner() == Some(owner))
}

/// The pages of a listing, each of the maximum size, for an actor that was checked.
pub(super) struct Pages<'a> {
    filter: TokenFilter,
    /// The owner to which the actor is confined.
    owner: Option<&'a str>,
    next: Option<Page>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(filter: TokenFilter, owner: Option<&'a str>) -> Self {
        let next = Some(Page::with_limit(ListRequest::MAX_LIMIT));
        Self {
            filter,
            owner,
            next,
        }
    }

    pub(super) async fn next(
        &mut self,
        tokens: &ServiceTokens,
    ) -> Result<Option<Vec<TokenRecord>>, LifecycleError> {
        let Some(page) = self.next.take() else {
            return Ok(None);
        };
        let found = tokens.list_page(self.filter.clone(), page, self.owner);
        let found = found.await?;
        self.next = found.next.map(|next| page.after(next));
        Ok(Some(found.records))
    }
}
