use super::{FieldProblem, LifecycleError, ServiceTokens};
use crate::registry::{Cursor, ListRequest, TokenFilter, TokenPage};
use crate::store::TokenRecord;
use crate::token::TokenId;

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
    /// Returns an error if the limit is out of range, the cursor is from another listing, or the
    /// store is unavailable.
    pub async fn list(&self, filter: TokenFilter, page: Page) -> Result<TokenPage, LifecycleError> {
        if !(1..=ListRequest::MAX_LIMIT).contains(&page.limit) {
            let detail = format!("from 1 to {}", ListRequest::MAX_LIMIT);
            return Err(FieldProblem::new("/limit", detail).into());
        }
        let confined = self.confine(filter.clone());
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
        let mut page = self.registry.list(&request).await?;
        // A registry may not know the filter.
        page.records.retain(|record| self.is_visible(record));
        Ok(page)
    }

    /// Returns how many tokens match the filter. An actor that is
    /// [confined](super::Actor::confined_to) to an owner counts only tokens of that owner.
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable.
    pub async fn count(&self, filter: TokenFilter) -> Result<u64, LifecycleError> {
        match self.confine(filter) {
            Some(filter) => Ok(self.registry.count(&filter, self.clock.now()).await?),
            None => Ok(0),
        }
    }

    /// Returns the filter for the tokens that the actor sees, or `None` if none of them matches.
    fn confine(&self, filter: TokenFilter) -> Option<TokenFilter> {
        match (self.actor.confined_to(), filter.owner.as_deref()) {
            (Some(owner), Some(wanted)) if owner != wanted => None,
            (Some(owner), _) => Some(filter.with_owner(owner)),
            (None, _) => Some(filter),
        }
    }

    /// Returns whether the actor sees this token.
    pub(super) fn is_visible(&self, record: &TokenRecord) -> bool {
        let owner = self.actor.confined_to();
        owner.is_none_or(|owner| record.owner() == Some(owner))
    }

    /// Returns the record of a token, if the actor sees it.
    pub(super) async fn find(&self, id: TokenId) -> Result<Option<TokenRecord>, LifecycleError> {
        let found = self.registry.get(id).await?;
        Ok(found.filter(|record| self.is_visible(record)))
    }

    /// Returns the record of a token.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it belongs to another owner than the one that the
    /// actor is [confined](super::Actor::confined_to) to, or the store is unavailable.
    pub async fn get(&self, id: TokenId) -> Result<TokenRecord, LifecycleError> {
        self.find(id).await?.ok_or(LifecycleError::NotFound)
    }

    /// Returns the record of the token whose id has this [number](TokenId::number). Revoked tokens
    /// count only if no other has it.
    ///
    /// Also accepts [ids as integers](TokenId::as_i64) of more than 13 digits.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, if several tokens of an earlier release have the
    /// number, or if the store is unavailable.
    pub async fn get_by_number(&self, number: i64) -> Result<TokenRecord, LifecycleError> {
        if number >= TokenId::NUMBER_END {
            let id = TokenId::from_i64(number).ok_or(LifecycleError::NotFound)?;
            return self.get(id).await;
        }
        let filter = TokenFilter::new().with_number(number);
        for filter in [filter.clone().without_revoked(), filter] {
            let mut records = self.list(filter, Page::with_limit(2)).await?.records;
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

/// The pages of a listing, each of the maximum size.
pub(super) struct Pages {
    filter: TokenFilter,
    next: Option<Page>,
}

impl Pages {
    pub(super) fn new(filter: TokenFilter) -> Self {
        let next = Some(Page::with_limit(ListRequest::MAX_LIMIT));
        Self { filter, next }
    }

    pub(super) async fn next(
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
