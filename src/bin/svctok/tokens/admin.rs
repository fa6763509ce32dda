use std::time::Duration;

use async_trait::async_trait;
use tower_service_token::lifecycle::{
    BulkPreview, BulkRevocation, LifecycleError, NewToken, Page, TokenUpdate,
};
use tower_service_token::registry::{Cursor, TokenFilter};
use tower_service_token::token::TokenId;
use tower_service_token::wire::TokenInfo;

use crate::failure::Failure;
use crate::secret::SecretText;

pub(super) const REVISION_HINT: &str = "`svctok get` shows the current revision";
pub(super) const RECOUNT_HINT: &str = "count the matching tokens again with --dry-run";
pub(super) const LAST_ADMIN_HINT: &str =
    "create another token with the scope service-tokens:admin first, or confirm with --last-admin";
pub(super) const CHECK_FIRST: &str =
    "the change may have been made: check with `svctok get` or `svctok list` before retrying";

/// The token that a command acts on.
#[derive(Clone, Copy)]
pub(crate) enum TokenRef {
    Id(TokenId),
    /// The token that the client authenticates with.
    Own,
}

/// A revoked token.
pub(crate) struct Revoked {
    pub(crate) id: TokenId,
    /// The time after which every node sees the change, at the latest.
    pub(crate) effective_within: Duration,
}

/// A token with a new secret.
pub(crate) struct Issued {
    pub(crate) secret: SecretText,
    pub(crate) token: TokenInfo,
    /// The time after which every node sees the change, at the latest.
    pub(crate) effective_within: Duration,
}

/// A token after a change.
pub(crate) struct Changed {
    pub(crate) token: TokenInfo,
    /// The time after which every node sees the change, at the latest.
    pub(crate) effective_within: Duration,
}

/// Manages the tokens of a server or of a store.
#[async_trait]
pub(crate) trait TokenAdmin: Send + Sync {
    /// Changes tokens only at this revision.
    fn if_revision(&mut self, revision: u64);

    /// Allows changes after which no token may administer tokens.
    fn allow_last_admin_removal(&mut self);

    async fn create(&self, new: NewToken) -> Result<Issued, Failure>;

    /// Returns a page of the tokens, and the cursor of the next page.
    async fn page(
        &self,
        filter: TokenFilter,
        page: Page,
    ) -> Result<(Vec<TokenInfo>, Option<Cursor>), Failure>;

    async fn get(&self, token: TokenRef) -> Result<TokenInfo, Failure>;

    async fn update(&self, id: TokenId, update: TokenUpdate) -> Result<Changed, Failure>;

    async fn rotate(&self, token: TokenRef, grace: Duration) -> Result<Issued, Failure>;

    async fn disable(&self, id: TokenId) -> Result<Changed, Failure>;

    async fn enable(&self, id: TokenId) -> Result<Changed, Failure>;

    async fn revoke(&self, token: TokenRef) -> Result<Revoked, Failure>;

    /// Returns the tokens that [`revoke_where`](Self::revoke_where) would revoke.
    async fn preview_revocation(&self, filter: TokenFilter) -> Result<BulkPreview, Failure>;

    /// Revokes the tokens that match the filter, if their number is the expected one.
    async fn revoke_where(
        &self,
        filter: TokenFilter,
        expect: usize,
    ) -> Result<BulkRevocation, Failure>;

    /// Releases the connection to the tokens.
    async fn close(&self);
}

/// Returns the failure of a call for a token that does not exist.
pub(super) fn not_found() -> Failure {
    Failure::refused(LifecycleError::NotFound.to_string())
        .with_hint("`svctok list` shows all tokens")
}

/// Returns the failure of a bulk deletion after which no token could administer tokens.
pub(super) fn bulk_last_admin_failure() -> Failure {
    Failure::refused("the filter matches the last token that may administer tokens")
        .with_hint("narrow the filter, and delete that token by its ID with --last-admin")
}
