use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tower_service_token::ServiceTokens;
use tower_service_token::lifecycle::{
    BulkPreview, BulkRevocation, ChangedToken, IssuedToken, LifecycleError, NewToken, Page,
    TokenUpdate,
};
use tower_service_token::registry::{Cursor, TokenFilter, TokenRegistry};
use tower_service_token::store::{StoreErrorKind, TokenRecord};
use tower_service_token::token::TokenId;
use tower_service_token::wire::TokenInfo;

use super::admin::{
    CHECK_FIRST, Changed, Issued, LAST_ADMIN_HINT, RECOUNT_HINT, REVISION_HINT, Revoked,
    TokenAdmin, TokenRef, bulk_last_admin_failure, not_found,
};
use super::pagination::join_problems;
use crate::environment::user;
use crate::failure::{Failure, FailureKind};
use crate::output::note;
use crate::secret::SecretText;
use crate::store_handle::{StoreHandle, token_file_failure};
use crate::store_url::StoreUrl;

/// The tokens of a store, as its operator.
pub(crate) struct StoreTokens {
    tokens: ServiceTokens,
    store: Arc<dyn StoreHandle>,
}

impl StoreTokens {
    pub(super) async fn open(url: &StoreUrl) -> Result<Self, Failure> {
        let store = url.open_to_change().await?;
        let registry: Arc<dyn TokenRegistry> = store.clone();
        let tokens = ServiceTokens::new(registry).acting_as(user());
        Ok(Self { tokens, store })
    }
}

#[async_trait]
impl TokenAdmin for StoreTokens {
    fn if_revision(&mut self, revision: u64) {
        self.tokens = self.tokens.clone().if_revision(revision);
    }

    fn allow_last_admin_removal(&mut self) {
        self.tokens = self.tokens.clone().allow_last_admin_removal();
    }

    async fn create(&self, new: NewToken) -> Result<Issued, Failure> {
        self.tokens
            .create(new)
            .await
            .map(|it| issued(&it))
            .map_err(failure)
    }

    async fn page(
        &self,
        filter: TokenFilter,
        page: Page,
    ) -> Result<(Vec<TokenInfo>, Option<Cursor>), Failure> {
        let page = self.tokens.list(filter, page).await.map_err(failure)?;
        Ok((page.records.iter().map(info).collect(), page.next))
    }

    async fn get(&self, token: TokenRef) -> Result<TokenInfo, Failure> {
        self.tokens
            .get(in_store(token)?)
            .await
            .map(|it| info(&it))
            .map_err(failure)
    }

    async fn update(&self, id: TokenId, update: TokenUpdate) -> Result<Changed, Failure> {
        changed(self.tokens.update(id, update).await)
    }

    async fn rotate(&self, token: TokenRef, grace: Duration) -> Result<Issued, Failure> {
        let rotated = self.tokens.rotate(in_store(token)?, grace).await;
        rotated.map(|it| issued(&it)).map_err(failure)
    }

    async fn disable(&self, id: TokenId) -> Result<Changed, Failure> {
        changed(self.tokens.disable(id).await)
    }

    async fn enable(&self, id: TokenId) -> Result<Changed, Failure> {
        changed(self.tokens.enable(id).await)
    }

    async fn revoke(&self, token: TokenRef) -> Result<Revoked, Failure> {
        let id = in_store(token)?;
        let revoked = self.tokens.revoke(id).await.map_err(failure)?;
        Ok(Revoked {
            id,
            effective_within: revoked.effective_within,
        })
    }

    async fn preview_revocation(&self, filter: TokenFilter) -> Result<BulkPreview, Failure> {
        self.tokens
            .preview_revocation(filter)
            .await
            .map_err(failure)
    }

    async fn revoke_where(
        &self,
        filter: TokenFilter,
        expect: usize,
    ) -> Result<BulkRevocation, Failure> {
        let revoked = self.tokens.revoke_where(filter, expect).await;
        revoked.map_err(|error| match error {
            LifecycleError::LastAdmin => bulk_last_admin_failure(),
            error => failure(error),
        })
    }

    /// Closes the store, so that a SQLite database is one complete file. Changes are committed before.
    async fn close(&self) {
        if let Err(error) = self.store.close().await {
            let failure = Failure::from_error(FailureKind::Unreachable, &error);
            note(format_args!(
                "cannot close the store: {}",
                failure.message()
            ));
        }
    }
}

fn info(record: &TokenRecord) -> TokenInfo {
    TokenInfo::new(record, SystemTime::now())
}

fn issued(issued: &IssuedToken) -> Issued {
    Issued {
        secret: SecretText::new(issued.expose_secret()),
        token: info(issued.record()),
        effective_within: issued.effective_within(),
    }
}

fn changed(changed: Result<ChangedToken, LifecycleError>) -> Result<Changed, Failure> {
    let changed = changed.map_err(failure)?;
    Ok(Changed {
        token: info(&changed.record),
        effective_within: changed.effective_within,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the argument of map_err")]
fn failure(error: LifecycleError) -> Failure {
    if let LifecycleError::Store(error) = &error
        && let Some(failure) = token_file_failure(error)
    {
        return failure;
    }
    let kind = match &error {
        LifecycleError::Store(error) if error.kind() == StoreErrorKind::Corrupt => {
            FailureKind::Server
        }
        LifecycleError::Store(_) => FailureKind::Unreachable,
        _ => FailureKind::Refused,
    };
    let failure = match &error {
        LifecycleError::Invalid(problems) => Failure::refused(join_problems(problems)),
        error => Failure::from_error(kind, error),
    };
    match error {
        LifecycleError::NotFound => not_found(),
        LifecycleError::LastAdmin => failure.with_hint(LAST_ADMIN_HINT),
        LifecycleError::RevisionMismatch => failure.with_hint(REVISION_HINT),
        LifecycleError::UnexpectedCount { .. } => failure.with_hint(RECOUNT_HINT),
        LifecycleError::Store(_) => failure.with_hint(CHECK_FIRST),
        _ => failure,
    }
}

/// Returns the id of a token in a store.
fn in_store(token: TokenRef) -> Result<TokenId, Failure> {
    match token {
        TokenRef::Id(id) => Ok(id),
        TokenRef::Own => Err(Failure::usage(
            "`self` needs a server: a store is used without a token",
        )
        .with_hint("specify the ID of the token: `svctok list` shows the IDs")),
    }
}
