use std::collections::BTreeSet;

use tower_service_token::lifecycle::{FieldProblem, Page, TokenInfo};
use tower_service_token::registry::{Cursor, ListRequest, TokenFilter};
use tower_service_token::store::TokenStatus;

/// Which tokens are to be shown.
pub(crate) struct Listing {
    pub(crate) filter: TokenFilter,
    /// Those that were deleted, too.
    pub(crate) include_revoked: bool,
    pub(crate) limit: Option<usize>,
}

impl Listing {
    fn includes(&self, token: &TokenInfo) -> bool {
        self.include_revoked || token.state != TokenStatus::Revoked
    }
}

/// The tokens of page after page, until there are so many.
pub(super) async fn all_pages<E>(
    listing: &Listing,
    fetch: impl AsyncFn(Page) -> Result<(Vec<TokenInfo>, Option<Cursor>), E>,
) -> Result<Vec<TokenInfo>, E> {
    let limit = listing.limit.unwrap_or(usize::MAX);
    let mut page = Page::with_limit(limit.clamp(1, ListRequest::MAX_LIMIT));
    let mut tokens = Vec::new();
    // A token that is used meanwhile may move to a later page.
    let mut seen = BTreeSet::new();
    loop {
        let (found, next) = fetch(page).await?;
        let found = found.into_iter().filter(|token| listing.includes(token));
        tokens.extend(found.filter(|token| seen.insert(token.id)));
        match next {
            Some(next) if tokens.len() < limit => page = page.after(next),
            _ => break,
        }
    }
    tokens.truncate(limit);
    Ok(tokens)
}

/// The fields that break rules, for people.
pub(super) fn join_problems(problems: &[FieldProblem]) -> String {
    let problems = problems.iter().map(|problem| {
        let field = problem.pointer.trim_start_matches('/');
        format!("{field}: {}", problem.detail)
    });
    problems.collect::<Vec<_>>().join("; ")
}
