use std::time::Duration;

use async_trait::async_trait;
use tower_service_token::client::{
    ChangedTokenInfo, ClientConfigError, ClientError, ClientErrorKind, IssuedTokenInfo,
    ServiceTokensClient,
};
use tower_service_token::lifecycle::{BulkPreview, BulkRevocation, NewToken, Page, TokenUpdate};
use tower_service_token::registry::{Cursor, TokenFilter};
use tower_service_token::token::TokenId;
use tower_service_token::wire::TokenInfo;

use super::admin::{
    CHECK_FIRST, Changed, Issued, LAST_ADMIN_HINT, RECOUNT_HINT, REVISION_HINT, Revoked,
    TokenAdmin, TokenRef, bulk_last_admin_failure, not_found,
};
use super::pagination::join_problems;
use crate::failure::{Failure, FailureKind};
use crate::secret::{SecretText, redact_secrets};

const CREDENTIAL_HINT: &str = "specify another token with --service-token-file, --service-token-stdin \
                             or SVCTOK_TOKEN, or save the context again";

/// The tokens of a server.
pub(crate) struct ServerTokens {
    client: ServiceTokensClient,
    /// The URL for messages, without secrets.
    url: String,
}

impl ServerTokens {
    /// Creates a client. It sends nothing yet.
    pub(crate) fn new(url: &str, token: &SecretText) -> Result<Self, Failure> {
        token.as_presented_token()?;
        let client = ServiceTokensClient::builder(url).with_token(token.expose_secret());
        let url = redact_secrets(url);
        let client = client.build().map_err(|error| {
            let kind = match error {
                ClientConfigError::NoRootCertificates => FailureKind::Unreachable,
                _ => FailureKind::Usage,
            };
            Failure::context(kind, format_args!("cannot use {url}"), &error)
        })?;
        Ok(Self { client, url })
    }

    /// Returns the token that the client authenticates with, or why the server rejects it.
    pub(crate) async fn own(&self) -> Result<Result<TokenInfo, String>, Failure> {
        match self.client.get_own().await {
            Ok(token) => Ok(Ok(token)),
            Err(error) if error.kind() == ClientErrorKind::Unauthenticated => {
                Ok(Err(error.to_string()))
            }
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn issued(&self, issued: Result<IssuedTokenInfo, ClientError>) -> Result<Issued, Failure> {
        let issued = issued.map_err(|error| self.failure(&error))?;
        Ok(Issued {
            secret: SecretText::new(issued.expose_secret()),
            token: issued.token().clone(),
            effective_within: issued.effective_within(),
        })
    }

    fn changed(&self, changed: Result<ChangedTokenInfo, ClientError>) -> Result<Changed, Failure> {
        let changed = changed.map_err(|error| self.failure(&error))?;
        Ok(Changed {
            token: changed.token,
            effective_within: changed.effective_within,
        })
    }

    fn failure(&self, error: &ClientError) -> Failure {
        let (kind, hint) = match error.kind() {
            ClientErrorKind::Unauthenticated => (FailureKind::Unreachable, CREDENTIAL_HINT),
            ClientErrorKind::Unreachable => (
                FailureKind::Unreachable,
                "check that the server is running and that the URL is correct",
            ),
            ClientErrorKind::TimedOut => (FailureKind::Unreachable, CHECK_FIRST),
            ClientErrorKind::Server => (FailureKind::Server, CHECK_FIRST),
            ClientErrorKind::RateLimited => (FailureKind::Server, "retry later"),
            ClientErrorKind::UnexpectedResponse => (
                FailureKind::Server,
                "check that the URL is the base of the management API, without /service-tokens",
            ),
            ClientErrorKind::Forbidden if error.code() == Some("unknown_actor") => (
                FailureKind::Refused,
                "use a token that was created at this server",
            ),
            ClientErrorKind::Forbidden => (
                FailureKind::Refused,
                "the token needs the scope service-tokens:read for reads, and \
                 service-tokens:write for changes",
            ),
            ClientErrorKind::EscalationDenied => (FailureKind::Refused, escalation_hint(error)),
            ClientErrorKind::LastAdmin => (FailureKind::Refused, LAST_ADMIN_HINT),
            ClientErrorKind::RevisionMismatch => (FailureKind::Refused, REVISION_HINT),
            ClientErrorKind::RevisionRequired => (
                FailureKind::Refused,
                "repeat with --if-revision and the revision that `svctok get self` shows",
            ),
            ClientErrorKind::Conflict if error.code() == Some("rotated_meanwhile") => (
                FailureKind::Refused,
                "only one of the new secrets is valid; rotate again to replace it",
            ),
            ClientErrorKind::Conflict if error.code() == Some("unexpected_count") => {
                return Failure::from_error(FailureKind::Refused, error).with_hint(RECOUNT_HINT);
            }
            ClientErrorKind::NotFound => return not_found(),
            ClientErrorKind::Invalid if !error.problems().is_empty() => {
                return Failure::refused(join_problems(error.problems()));
            }
            _ => return Failure::from_error(FailureKind::Refused, error),
        };
        Failure::context(kind, &self.url, error).with_hint(hint)
    }
}

#[async_trait]
impl TokenAdmin for ServerTokens {
    fn if_revision(&mut self, revision: u64) {
        self.client = self.client.clone().if_revision(revision);
    }

    fn allow_last_admin_removal(&mut self) {
        self.client = self.client.clone().allow_last_admin_removal();
    }

    async fn create(&self, new: NewToken) -> Result<Issued, Failure> {
        self.issued(self.client.create(new).await)
    }

    async fn page(
        &self,
        filter: TokenFilter,
        page: Page,
    ) -> Result<(Vec<TokenInfo>, Option<Cursor>), Failure> {
        let page = self.client.list(filter, page).await;
        let page = page.map_err(|error| self.failure(&error))?;
        Ok((page.tokens, page.next))
    }

    async fn get(&self, token: TokenRef) -> Result<TokenInfo, Failure> {
        let token = match token {
            TokenRef::Id(id) => self.client.get(id).await,
            TokenRef::Own => self.client.get_own().await,
        };
        token.map_err(|error| self.failure(&error))
    }

    async fn update(&self, id: TokenId, update: TokenUpdate) -> Result<Changed, Failure> {
        self.changed(self.client.update(id, update).await)
    }

    async fn rotate(&self, token: TokenRef, grace: Duration) -> Result<Issued, Failure> {
        self.issued(match token {
            TokenRef::Id(id) => self.client.rotate(id, grace).await,
            TokenRef::Own => self.client.rotate_own(grace).await,
        })
    }

    async fn disable(&self, id: TokenId) -> Result<Changed, Failure> {
        self.changed(self.client.disable(id).await)
    }

    async fn enable(&self, id: TokenId) -> Result<Changed, Failure> {
        self.changed(self.client.enable(id).await)
    }

    async fn revoke(&self, token: TokenRef) -> Result<Revoked, Failure> {
        let (id, revoked) = match token {
            TokenRef::Id(id) => (id, self.client.revoke(id).await),
            TokenRef::Own => {
                // The server rejects the token afterwards.
                let own = self.client.get_own().await;
                let own = own.map_err(|error| self.failure(&error))?;
                (own.id, self.client.revoke_own().await)
            }
        };
        let revoked = revoked.map_err(|error| self.failure(&error))?;
        Ok(Revoked {
            id,
            effective_within: revoked.effective_within,
        })
    }

    async fn preview_revocation(&self, filter: TokenFilter) -> Result<BulkPreview, Failure> {
        let preview = self.client.preview_revocation(filter).await;
        preview.map_err(|error| self.failure(&error))
    }

    async fn revoke_where(
        &self,
        filter: TokenFilter,
        expect: usize,
    ) -> Result<BulkRevocation, Failure> {
        let revoked = self.client.revoke_where(filter, expect).await;
        revoked.map_err(|error| match error.kind() {
            ClientErrorKind::LastAdmin => bulk_last_admin_failure(),
            _ => self.failure(&error),
        })
    }

    async fn close(&self) {}
}

/// Returns what to do about a change that the caller's token does not cover.
fn escalation_hint(error: &ClientError) -> &'static str {
    if error.forbidden().is_some() {
        "narrow the filter to tokens that the caller's token covers, or use a token with the scope \
         service-tokens:admin"
    } else if error.missing().is_empty() {
        "set --expires-in or --expiration to at most the expiry of the caller's token, which \
         `svctok get self` shows"
    } else {
        "use a token that has these roles and scopes, or one with the scope service-tokens:admin"
    }
}
