use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower_service_token::ServiceTokens;
use tower_service_token::lifecycle::{
    BulkPreview, BulkRevocation, ChangedToken, IssuedToken, LifecycleError, NewToken, TokenInfo,
    TokenUpdate,
};
use tower_service_token::registry::{TokenFilter, TokenRegistry};
use tower_service_token::store::{StoreErrorKind, TokenRecord};
use tower_service_token::token::TokenId;

use super::pagination::{Listing, all_pages, join_problems};
use super::{
    Changed, Issued, LAST_ADMIN_HINT, RECOUNT_HINT, REVISION_HINT, Revoked, bulk_last_admin_failure,
};
use crate::environment::user;
use crate::failure::{Failure, FailureKind};
use crate::output::note;
use crate::secret::SecretText;
use crate::store_handle::{StoreHandle, token_file_failure};
use crate::store_url::StoreUrl;

/// The tokens of a store that owns them, in the hands of its operator.
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

    /// Closes the store, so that a SQLite database is one complete file. What was done is done in
    /// any case.
    pub(super) async fn close(&self) {
        if let Err(error) = self.store.close().await {
            let failure = Failure::from_error(FailureKind::Unreachable, &error);
            note(format_args!(
                "The store was not closed: {}",
                failure.message()
            ));
        }
    }

    pub(super) fn if_revision(self, revision: u64) -> Self {
        let tokens = self.tokens.if_revision(revision);
        Self { tokens, ..self }
    }

    pub(super) fn allow_last_admin_removal(self) -> Self {
        let tokens = self.tokens.allow_last_admin_removal();
        Self { tokens, ..self }
    }

    pub(super) async fn create(&self, new: NewToken) -> Result<Issued, Failure> {
        self.tokens
            .create(new)
            .await
            .map(|it| issued(&it))
            .map_err(failure)
    }

    pub(super) async fn list(&self, listing: &Listing) -> Result<Vec<TokenInfo>, Failure> {
        let found = all_pages(listing, async |page| {
            let page = self.tokens.list(listing.filter.clone(), page).await?;
            Ok((page.records.iter().map(token_info).collect(), page.next))
        });
        found.await.map_err(failure)
    }

    pub(super) async fn get(&self, id: TokenId) -> Result<TokenInfo, Failure> {
        self.tokens
            .get(id)
            .await
            .map(|it| token_info(&it))
            .map_err(failure)
    }

    pub(super) async fn update(
        &self,
        id: TokenId,
        update: TokenUpdate,
    ) -> Result<Changed, Failure> {
        changed(self.tokens.update(id, update).await)
    }

    pub(super) async fn rotate(&self, id: TokenId, grace: Duration) -> Result<Issued, Failure> {
        let rotated = self.tokens.rotate(id, grace).await;
        rotated.map(|it| issued(&it)).map_err(failure)
    }

    pub(super) async fn disable(&self, id: TokenId) -> Result<Changed, Failure> {
        changed(self.tokens.disable(id).await)
    }

    pub(super) async fn enable(&self, id: TokenId) -> Result<Changed, Failure> {
        changed(self.tokens.enable(id).await)
    }

    pub(super) async fn revoke(&self, id: TokenId) -> Result<Revoked, Failure> {
        let revoked = self.tokens.revoke(id).await.map_err(failure)?;
        Ok(Revoked {
            id,
            effective_within: revoked.effective_within,
        })
    }

    pub(super) async fn preview_revocation(
        &self,
        filter: TokenFilter,
    ) -> Result<BulkPreview, Failure> {
        self.tokens
            .preview_revocation(filter)
            .await
            .map_err(failure)
    }

    pub(super) async fn revoke_where(
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
}

pub(super) fn not_found() -> Failure {
    failure(LifecycleError::NotFound)
}

fn token_info(record: &TokenRecord) -> TokenInfo {
    TokenInfo::new(record, SystemTime::now())
}

fn issued(issued: &IssuedToken) -> Issued {
    Issued {
        secret: SecretText::new(issued.expose_secret()),
        token: token_info(issued.record()),
        effective_within: issued.effective_within(),
    }
}

fn changed(changed: Result<ChangedToken, LifecycleError>) -> Result<Changed, Failure> {
    let changed = changed.map_err(failure)?;
    Ok(Changed {
        token: token_info(&changed.record),
        effective_within: changed.effective_within,
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it stands where a function of the error is wanted"
)]
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
        LifecycleError::NotFound => failure.with_hint("`svctok list` shows the tokens there are"),
        LifecycleError::LastAdmin => failure.with_hint(LAST_ADMIN_HINT),
        LifecycleError::RevisionMismatch => failure.with_hint(REVISION_HINT),
        LifecycleError::UnexpectedCount { .. } => failure.with_hint(RECOUNT_HINT),
        LifecycleError::Store(_) => failure.with_hint(
            "a change may have been made: look with `svctok get` or `svctok list` before you try again",
        ),
        _ => failure,
    }
}
