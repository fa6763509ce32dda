use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::IF_MATCH;
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::builder::ServiceTokensClientBuilder;
use super::error::{ClientError, ClientErrorKind};
use super::outcome::{ChangedTokenInfo, IssuedTokenInfo, Revocation, TokenInfoPage};
use super::request::ApiRequest;
use super::response::CreateOutcome;
use super::sender::{SendOutcome, Sender};
use crate::lifecycle::wire::{filter_params, grace_to_json};
use crate::lifecycle::{
    BulkPreview, BulkRevocation, FieldProblem, NewToken, Page, TokenInfo, TokenUpdate,
};
use crate::registry::{ListRequest, TokenFilter};
use crate::token::TokenId;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How often an update begins anew because another change came between.
const MAX_ATTEMPTS: usize = 10;

/// The query parameter that confirms a change after which no token may administer.
const LAST_ADMIN: &str = "last_admin";

/// The shortest time limit of a bulk revocation. A server works on one for 20 s, and may end a
/// request after 30 s.
const BULK_TIMEOUT: Duration = Duration::from_secs(40);

/// The caller's own token.
const SELF_PATH: &str = "/self";

/// The verbs of a token's life, over HTTP: what [`ServiceTokens`](crate::ServiceTokens) does over a
/// store, this does over a server's [management API](crate::client#the-server).
///
/// Clones share connections. See the [module](crate::client) for the rules and an example.
///
/// Each call needs a Tokio runtime, with I/O and timers enabled; without one it fails as
/// unreachable. A call that is dropped may be carried out or not.
#[derive(Clone)]
pub struct ServiceTokensClient {
    sender: Arc<Sender>,
    revision: Option<u64>,
    allows_last_admin_removal: bool,
}

impl ServiceTokensClient {
    /// Begins to set up a client of the API at this URL: what stands before `/service-tokens`, such
    /// as `https://tokens.example` or `https://example.com/tokens`.
    pub fn builder(url: impl Into<String>) -> ServiceTokensClientBuilder {
        ServiceTokensClientBuilder::new(url.into())
    }

    pub(super) fn new(sender: Sender) -> Self {
        Self {
            sender: Arc::new(sender),
            revision: None,
            allows_last_admin_removal: false,
        }
    }

    /// Returns the same client, where each change is made only if the token is still at this
    /// [revision](TokenInfo::revision). By default any revision is changed.
    ///
    /// The revision is sent as `If-Match` with [`update`](Self::update), [`rotate`](Self::rotate),
    /// [`disable`](Self::disable), [`enable`](Self::enable), [`revoke`](Self::revoke),
    /// [`rotate_own`](Self::rotate_own) and [`revoke_own`](Self::revoke_own). Such a call is sent
    /// again only if no connection could be made: after a lost response a second try would fail with
    /// [`RevisionMismatch`](ClientErrorKind::RevisionMismatch).
    pub fn if_revision(mut self, revision: u64) -> Self {
        self.revision = Some(revision);
        self
    }

    /// Allows changes that leave no valid token that may administer. By default they are refused
    /// with [`LastAdmin`](ClientErrorKind::LastAdmin). Bulk revocation always refuses them.
    pub fn allow_last_admin_removal(mut self) -> Self {
        self.allows_last_admin_removal = true;
        self
    }

    /// Mints a token. The secret is in the answer and nowhere else.
    ///
    /// However often it has to be sent, one token is made: each call bears an idempotency key, of
    /// [the caller's](NewToken::with_idempotency_key) or else of its own. If the answer with the
    /// secret was lost, then
    ///
    /// 1. with a key of its own, the token is rotated without a grace, and the answer has the new
    ///    secret: nobody has the lost one;
    /// 2. with the caller's, nothing is rotated, as the call that made the token may be another:
    ///    [`AlreadyCreated`](ClientErrorKind::AlreadyCreated).
    ///
    /// After [`Unreachable`](ClientErrorKind::Unreachable), [`TimedOut`](ClientErrorKind::TimedOut)
    /// or [`Server`](ClientErrorKind::Server) it is not known whether there is a token. Who wants to
    /// find out names a key and calls again.
    ///
    /// # Errors
    ///
    /// A rule or the server's policy is broken, the caller grants what it does not hold, or the
    /// call [failed](ClientErrorKind).
    pub async fn create(&self, new: NewToken) -> Result<IssuedTokenInfo, ClientError> {
        let members = new.to_json().map_err(ClientError::invalid)?;
        let own_key = new.idempotency_key();
        let call = ApiRequest::post("").with_json(members);
        let call = match own_key
            .map(idempotency_key)
            .transpose()?
            .or_else(random_key)
        {
            Some(key) => call.with_header(IDEMPOTENCY_KEY, key),
            None => call.not_idempotent(),
        };
        self.with_deadline(|deadline| async move {
            let sent = self.sender.send(&call, deadline).await?;
            match sent.response.created()? {
                CreateOutcome::Issued(issued) => Ok(issued),
                CreateOutcome::Replayed(token) if own_key.is_some() => {
                    Err(ClientError::already_created(token))
                }
                // As often as it takes: no secret of this token is in use.
                CreateOutcome::Replayed(token) => {
                    let rotation = rotation(&path(token.id), Duration::ZERO);
                    let sent = self.sender.send(&rotation, deadline).await?;
                    sent.response.rotated(Some(token.id))
                }
            }
        })
        .await
    }

    /// One page of the tokens that the filter means, the oldest first, or by the time that the
    /// filter speaks of.
    ///
    /// # Errors
    ///
    /// The page's cursor is of another listing, or the call [failed](ClientErrorKind).
    pub async fn list(
        &self,
        filter: TokenFilter,
        page: Page,
    ) -> Result<TokenInfoPage, ClientError> {
        let mut query = filter_params(&filter).map_err(ClientError::invalid)?;
        query.extend(page.query_params());
        let most = page.limit().min(ListRequest::MAX_LIMIT);
        let call = ApiRequest::get("").with_query(query).expect_tokens(most);
        self.send(call).await?.response.page()
    }

    /// What is known about a token.
    ///
    /// # Errors
    ///
    /// There is no such token, or the call [failed](ClientErrorKind).
    pub async fn get(&self, id: TokenId) -> Result<TokenInfo, ClientError> {
        let sent = self.send(ApiRequest::get(&path(id))).await?;
        sent.response.token(Some(id))
    }

    /// Changes what is known about a token. The secret stays.
    ///
    /// The [revision](TokenUpdate::if_revision) of the update takes precedence over
    /// [that of the client](Self::if_revision). An update that replaces all labels reads the token
    /// first, which needs the scope `service-tokens:read`.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it was revoked, it is not at the revision asked
    /// for, a rule or the server's policy is broken, the caller may not make the change, no other
    /// token could administer tokens afterwards, or the call [failed](ClientErrorKind).
    pub async fn update(
        &self,
        id: TokenId,
        update: TokenUpdate,
    ) -> Result<ChangedTokenInfo, ClientError> {
        let revision = update.revision().or(self.revision);
        self.with_deadline(|deadline| async move {
            if !update.replaces_labels() {
                let members = update.merge_patch([]).map_err(ClientError::invalid)?;
                return self.patch(id, members, revision, deadline).await;
            }
            let mut attempts = 0..MAX_ATTEMPTS;
            loop {
                let changed = self.read_then_patch(id, &update, revision, deadline).await;
                let is_overtaken = revision.is_none()
                    && matches!(&changed, Err(error) if error.kind() == ClientErrorKind::RevisionMismatch);
                if !is_overtaken || attempts.next().is_none() {
                    return changed;
                }
            }
        })
        .await
    }

    /// Issues a new secret for a token. The current one stays valid for `grace`, and never longer
    /// than the token itself; with [`Duration::ZERO`] it is refused at once.
    ///
    /// It is sent again only if no connection could be made. After
    /// [`Unreachable`](ClientErrorKind::Unreachable), [`TimedOut`](ClientErrorKind::TimedOut) or
    /// [`Server`](ClientErrorKind::Server) it is unknown which secret is valid; another rotation
    /// settles it. A client that presents the previous secret of the token itself rotates it only
    /// [at a revision](Self::if_revision); otherwise the error is
    /// [`RevisionRequired`](ClientErrorKind::RevisionRequired).
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it was revoked or has expired, it was rotated at
    /// the same time, the caller may not rotate it, or the call [failed](ClientErrorKind).
    pub async fn rotate(
        &self,
        id: TokenId,
        grace: Duration,
    ) -> Result<IssuedTokenInfo, ClientError> {
        let call = self
            .at_revision(rotation(&path(id), grace))
            .not_idempotent();
        self.send(call).await?.response.rotated(Some(id))
    }

    /// Disables a token: it is refused until it is [enabled](Self::enable).
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it was revoked, the caller may not change it, no
    /// other token could administer tokens afterwards, or the call [failed](ClientErrorKind).
    pub async fn disable(&self, id: TokenId) -> Result<ChangedTokenInfo, ClientError> {
        let call = ApiRequest::post(&format!("{}/disable", path(id)));
        let call = self.at_revision(self.with_last_admin_confirmation(call));
        self.send(call).await?.response.changed(id)
    }

    /// Enables a token that was disabled.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it was revoked, the caller may not change it, or
    /// the call [failed](ClientErrorKind).
    pub async fn enable(&self, id: TokenId) -> Result<ChangedTokenInfo, ClientError> {
        let call = ApiRequest::post(&format!("{}/enable", path(id)));
        self.send(self.at_revision(call))
            .await?
            .response
            .changed(id)
    }

    /// Revokes a token for good. A token that was revoked before stays so, without an error.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, the caller may not revoke it, no other token
    /// could administer tokens afterwards, or the call [failed](ClientErrorKind).
    pub async fn revoke(&self, id: TokenId) -> Result<Revocation, ClientError> {
        let call = self.with_last_admin_confirmation(ApiRequest::new(Method::DELETE, &path(id)));
        let sent = self.send(self.at_revision(call)).await?;
        sent.response.revoked()
    }

    /// Revokes the tokens that the filter matches, for at most 20 s.
    ///
    /// 1. With `expect`, nothing is revoked unless the filter matches exactly so many tokens that are
    ///    not revoked yet; [`preview_revocation`](Self::preview_revocation) returns the number.
    /// 2. `expect` is needed if more than 100 tokens match, more than half of all tokens that are
    ///    neither revoked nor expired, or the caller's own.
    /// 3. If the caller may not revoke one of the tokens, or if no other token could administer
    ///    tokens afterwards, nothing is revoked.
    /// 4. If [`remaining`](BulkRevocation::remaining) is not zero, call again with that number.
    ///
    /// The call may take 40 s, even if the [timeout](ServiceTokensClientBuilder::with_timeout) is
    /// shorter. It is sent again only if no connection could be made.
    ///
    /// # Errors
    ///
    /// Returns an error if rule 1, 2 or 3 is broken, and nothing is revoked, or if the call
    /// [failed](ClientErrorKind). After [`Unreachable`](ClientErrorKind::Unreachable),
    /// [`TimedOut`](ClientErrorKind::TimedOut) or [`Server`](ClientErrorKind::Server), some tokens
    /// may be revoked; [`preview_revocation`](Self::preview_revocation) returns how many remain.
    pub async fn revoke_where(
        &self,
        filter: TokenFilter,
        expect: impl Into<Option<usize>>,
    ) -> Result<BulkRevocation, ClientError> {
        let mut members = filter_members(&filter)?;
        let expect = expect.into();
        members.extend(expect.map(|expect| ("expect".to_owned(), expect.into())));
        let call = ApiRequest::post("/revoke")
            .with_json(members)
            .expect_id_list()
            .not_idempotent();
        let sent = self
            .sender
            .with_min_timeout(BULK_TIMEOUT, |deadline| async move {
                self.sender.send(&call, deadline).await
            });
        sent.await?.response.bulk_revocation()
    }

    /// Returns what [`revoke_where`](Self::revoke_where) would do.
    ///
    /// # Errors
    ///
    /// Returns an error if the call [failed](ClientErrorKind).
    pub async fn preview_revocation(
        &self,
        filter: TokenFilter,
    ) -> Result<BulkPreview, ClientError> {
        let mut members = filter_members(&filter)?;
        members.insert("dry_run".to_owned(), true.into());
        let call = ApiRequest::post("/revoke").with_json(members);
        self.send(call).await?.response.bulk_preview()
    }

    /// What is known about the token that this client authenticates with. Needs no scope, nor do
    /// the next two.
    ///
    /// # Errors
    ///
    /// The call [failed](ClientErrorKind).
    pub async fn get_own(&self) -> Result<TokenInfo, ClientError> {
        self.send(ApiRequest::get(SELF_PATH))
            .await?
            .response
            .token(None)
    }

    /// Gives the token that this client authenticates with another secret, as
    /// [`rotate`](Self::rotate) does.
    ///
    /// The client goes on sending the old one, which works until the grace ends: make another, or
    /// write the secret to the [file](ServiceTokensClientBuilder::with_token_file) it comes from.
    ///
    /// # Errors
    ///
    /// The token has expired, or the call [failed](ClientErrorKind).
    pub async fn rotate_own(&self, grace: Duration) -> Result<IssuedTokenInfo, ClientError> {
        let call = self
            .at_revision(rotation(SELF_PATH, grace))
            .not_idempotent();
        self.send(call).await?.response.rotated(None)
    }

    /// Revokes the token that this client authenticates with, for good.
    ///
    /// # Errors
    ///
    /// Returns an error if no other token could administer tokens afterwards, or if the call
    /// [failed](ClientErrorKind).
    pub async fn revoke_own(&self) -> Result<Revocation, ClientError> {
        let call = self.with_last_admin_confirmation(ApiRequest::new(Method::DELETE, SELF_PATH));
        let sent = self.send(self.at_revision(call)).await?;
        sent.response.revoked().or_else(|error| {
            // The first try did it, and its answer was lost.
            if sent.may_have_executed_before && error.code() == Some("token_revoked") {
                return Ok(Revocation {
                    effective_within: Duration::MAX,
                });
            }
            Err(error)
        })
    }

    /// An update of a token whose labels it has to know.
    async fn read_then_patch(
        &self,
        id: TokenId,
        update: &TokenUpdate,
        revision: Option<u64>,
        deadline: Instant,
    ) -> Result<ChangedTokenInfo, ClientError> {
        let sent = self
            .sender
            .send(&ApiRequest::get(&path(id)), deadline)
            .await?;
        let known = sent.response.token(Some(id))?;
        let unnamed = || ClientError::unexpected("the answer has no entity tag");
        let known_revision = known.revision.ok_or_else(unnamed)?;
        let keys = known.labels.keys().map(String::as_str);
        let members = update.merge_patch(keys).map_err(ClientError::invalid)?;
        let revision = revision.unwrap_or(known_revision);
        self.patch(id, members, Some(revision), deadline).await
    }

    async fn patch(
        &self,
        id: TokenId,
        members: Map<String, Value>,
        revision: Option<u64>,
        deadline: Instant,
    ) -> Result<ChangedTokenInfo, ClientError> {
        let call = ApiRequest::new(Method::PATCH, &path(id)).with_merge_patch(members);
        let call = with_if_match(self.with_last_admin_confirmation(call), revision);
        let sent = self.sender.send(&call, deadline).await?;
        sent.response.changed(id)
    }

    /// Adds the confirmation that no token may administer afterwards, if it was given.
    fn with_last_admin_confirmation(&self, call: ApiRequest) -> ApiRequest {
        if self.allows_last_admin_removal {
            call.with_query(vec![(LAST_ADMIN, "true".to_owned())])
        } else {
            call
        }
    }

    fn at_revision(&self, call: ApiRequest) -> ApiRequest {
        with_if_match(call, self.revision)
    }

    async fn send(&self, call: ApiRequest) -> Result<SendOutcome, ClientError> {
        self.with_deadline(|deadline| async move { self.sender.send(&call, deadline).await })
            .await
    }

    async fn with_deadline<T, F>(&self, work: impl FnOnce(Instant) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.sender.with_deadline(work).await
    }
}

fn path(id: TokenId) -> String {
    format!("/{id}")
}

/// The call that fails unless the token is at this revision. It cannot be repeated: if the first try
/// was carried out, the second one fails.
fn with_if_match(call: ApiRequest, revision: Option<u64>) -> ApiRequest {
    let Some(revision) = revision else {
        return call;
    };
    let tag = HeaderValue::try_from(format!("\"{revision}\""));
    let tag = tag.expect("digits are visible ASCII");
    call.with_header(IF_MATCH, tag).not_idempotent()
}

fn rotation(path: &str, grace: Duration) -> ApiRequest {
    ApiRequest::post(&format!("{path}/rotate")).with_json(grace_to_json(grace))
}

fn filter_members(filter: &TokenFilter) -> Result<Map<String, Value>, ClientError> {
    let mut filter = filter.clone();
    // Implied: a revocation leaves revoked tokens out.
    filter.without_revoked = false;
    let conditions = filter_params(&filter).map_err(ClientError::invalid)?;
    let conditions = conditions.into_iter();
    let conditions: Map<_, _> = conditions
        .map(|(name, text)| (name.to_owned(), text.into()))
        .collect();
    Ok(Map::from_iter([("filter".to_owned(), conditions.into())]))
}

/// A key that the caller made.
fn idempotency_key(text: &str) -> Result<HeaderValue, ClientError> {
    let value = HeaderValue::try_from(text).ok();
    let is_visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let value = value.filter(|_| is_visible && text.len() <= 255);
    value.ok_or_else(|| {
        let detail = "1 to 255 visible ASCII characters";
        ClientError::invalid(FieldProblem::new("/idempotency_key", detail))
    })
}

/// A key for one call. Without randomness there is none, and the call is sent once.
fn random_key() -> Option<HeaderValue> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).ok()?;
    let key = HeaderValue::try_from(hex::encode(random));
    Some(key.expect("digits are visible ASCII"))
}

impl fmt::Debug for ServiceTokensClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceTokensClient")
            .field("endpoint", &self.sender.endpoint)
            .field("timeout", &self.sender.timeout)
            .field("max_retries", &self.sender.max_retries)
            .field("revision", &self.revision)
            .field("allows_last_admin_removal", &self.allows_last_admin_removal)
            .finish_non_exhaustive()
    }
}
