use super::{LifecycleError, Page, ServiceTokens};
use crate::store::{ListRequest, TokenFilter, TokenRecord};

/// The pages of a listing, each of as many tokens as a store returns at once.
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
