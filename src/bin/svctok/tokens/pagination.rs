use std::collections::BTreeSet;

use tower_service_token::lifecycle::{FieldProblem, Page};
use tower_service_token::registry::{ListRequest, TokenFilter};
use tower_service_token::store::TokenStatus;
use tower_service_token::wire::TokenInfo;

use super::admin::TokenAdmin;
use crate::failure::Failure;

/// The tokens to list.
pub(crate) struct Listing {
    pub(crate) filter: TokenFilter,
    /// Includes revoked tokens.
    pub(crate) include_revoked: bool,
    pub(crate) limit: Option<usize>,
}

impl Listing {
    fn includes(&self, token: &TokenInfo) -> bool {
        self.include_revoked || token.state != TokenStatus::Revoked
    }
}

/// Returns the tokens of all pages, up to the limit.
pub(super) async fn all_pages(
    tokens: &dyn TokenAdmin,
    listing: &Listing,
) -> Result<Vec<TokenInfo>, Failure> {
    let limit = listing.limit.unwrap_or(usize::MAX);
    let mut page = Page::with_limit(limit.clamp(1, ListRequest::MAX_LIMIT));
    let mut all = Vec::new();
    // A token that is used meanwhile may move to a later page.
    let mut seen = BTreeSet::new();
    loop {
        let (found, next) = tokens.page(listing.filter.clone(), page).await?;
        let found = found.into_iter().filter(|token| listing.includes(token));
        all.extend(found.filter(|token| seen.insert(token.id)));
        match next {
            Some(next) if all.len() < limit => page = page.after(next),
            _ => break,
        }
    }
    all.truncate(limit);
    Ok(all)
}

/// Formats field problems for people.
pub(super) fn join_problems(problems: &[FieldProblem]) -> String {
    let problems = problems.iter().map(|problem| {
        let field = problem.pointer.trim_start_matches('/');
        format!("{field}: {}", problem.detail)
    });
    problems.collect::<Vec<_>>().join("; ")
}
