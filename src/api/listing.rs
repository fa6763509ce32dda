use crate::lifecycle::{LifecycleError, Page, ServiceTokens};
use crate::store::{ListRequest, TokenFilter, TokenRecord, TokenState};

/// All tokens that the filter means and that are not revoked, the oldest first, for a client that
/// knows no pages.
pub(super) async fn unrevoked(
    tokens: &ServiceTokens,
    filter: TokenFilter,
) -> Result<Vec<TokenRecord>, LifecycleError> {
    let (mut records, mut cursor) = (Vec::new(), None);
    loop {
        let page = Page::of(ListRequest::MAX_LIMIT).after(cursor);
        let page = tokens.list(filter.clone(), page).await?;
        let kept = page.records.into_iter();
        records.extend(kept.filter(|it| it.state() != TokenState::Revoked));
        cursor = page.next;
        if cursor.is_none() {
            return Ok(records);
        }
    }
}
