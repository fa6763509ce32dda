use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};
use tokio::time::Instant;

use super::error::{ClientError, ClientErrorKind};
use super::outcome::{ChangedTokenInfo, IssuedTokenInfo, Revocation, TokenInfoPage};
use super::request::ApiRequest;
use super::response::{IssueOutcome, Response};
use super::sender::Sender;
use crate::lifecycle::{
    BulkPreview, BulkRevocation, FieldProblem, IDEMPOTENCY_KEY_FORM, NewToken, Page, TokenUpdate,
    is_idempotency_key,
};
use crate::registry::{ListRequest, TokenFilter};
use crate::store::TokenStatus;
use crate::token::TokenId;
use crate::wire::{
    BulkRequest, CreateRequest, Filter, RotateRequest, TokenInfo, UpdateRequest, replaces_labels,
};

/// The maximum number of attempts of an update that conflicts with other changes.
const MAX_ATTEMPTS: usize = 10;

/// The minimum timeout of a bulk revocation. A server works on one for 20 s, and may end a request
/// after 30 s.
const BULK_TIMEOUT: Duration = Duration::from_secs(40);

/// Manages the tokens of a server over its [management API](crate::client#the-server), as
/// [`ServiceTokens`](crate::ServiceTokens) manages those of a store.
///
/// Clones share connections. See the [module](crate::client) for the rules and an example.
///
/// Calls need a Tokio runtime with I/O and timers enabled, and fail as unreachable without one. If a
/// call is dropped, the server may have made the change.
#[derive(Clone, Debug)]
pub struct ServiceTokensClient {
    sender: Arc<Sender>,
    revision: Option<u64>,
    allows_last_admin_removal: bool,
}

impl ServiceTokensClient {
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
    /// [`rotate_own`](Self::rotate_own) and [`revoke_own`](Self::revoke_own). Such a call, unless it is
    /// a rotation, is retried only if no connection was made, because a retry after a lost response
    /// would fail with [`RevisionMismatch`](ClientErrorKind::RevisionMismatch).
    #[must_use]
    pub fn if_revision(mut self, revision: u64) -> Self {
        self.revision = Some(revision);
        self
    }

    /// Allows changes that leave no valid token that may administer. By default they are refused
    /// with [`LastAdmin`](ClientErrorKind::LastAdmin). Bulk revocation always refuses them.
    #[must_use]
    pub fn allow_last_admin_removal(mut self) -> Self {
        self.allows_last_admin_removal = true;
        self
    }

    /// Creates a token. Only this response has the secret.
    ///
    /// Retries create no second token, because each call has an idempotency key:
    /// [the caller's](NewToken::with_idempotency_key), or a random one. If the response with the
    /// secret is lost:
    ///
    /// 1. With a random key, the client rotates the token without a grace period, and returns the
    ///    new secret. No one has the lost one.
    /// 2. With the caller's key, another call may have created the token. The error is
    ///    [`AlreadyCreated`](ClientErrorKind::AlreadyCreated).
    ///
    /// After [`Unreachable`](ClientErrorKind::Unreachable), [`TimedOut`](ClientErrorKind::TimedOut)
    /// or [`Server`](ClientErrorKind::Server) the token may exist. Repeat the call with the same key
    /// to find out.
    ///
    /// # Errors
    ///
    /// Returns an error if the token breaks a rule or the server's policy, the caller lacks its roles
    /// or scopes, or the call [failed](ClientErrorKind).
    pub async fn create(&self, new: NewToken) -> Result<IssuedTokenInfo, ClientError> {
        let request = CreateRequest::try_from(&new).map_err(ClientError::invalid)?;
        let own_key = new.idempotency_key();
        let call = ApiRequest::post("").with_json(&request);
        let key = own_key.map(idempotency_key).transpose()?;
        let call = call.with_idempotency_key(key.or_else(random_key));
        let work = async |deadline| {
            match self.sender.send(&call, deadline).await?.created()? {
                IssueOutcome::Issued(issued) => Ok(issued),
                IssueOutcome::Earlier(token) if own_key.is_some() => {
                    Err(ClientError::already_created(token))
                }
                // Safe to retry: no secret of this token is in use.
                IssueOutcome::Earlier(token) => {
                    let rotation = rotation(Some(token.id), Duration::ZERO);
                    let sent = self.sender.send(&rotation, deadline).await?;
                    match sent.rotated(Some(token.id))? {
                        IssueOutcome::Issued(issued) => Ok(issued),
                        IssueOutcome::Earlier(token) => Err(ClientError::already_created(token)),
                    }
                }
            }
        };
        self.sender.with_deadline(Duration::ZERO, work).await
    }

    /// Returns one page of the tokens that match the filter, the oldest first, or in the order of
    /// the time in the filter.
    ///
    /// # Errors
    ///
    /// Returns an error if the cursor is from another listing, or the call
    /// [failed](ClientErrorKind).
    pub async fn list(
        &self,
        filter: TokenFilter,
        page: Page,
    ) -> Result<TokenInfoPage, ClientError> {
        let filter = Filter::try_from(&filter).map_err(ClientError::invalid)?;
        let mut query = filter.into_query();
        query.push(("limit", page.limit.to_string()));
        query.extend(page.after.map(|cursor| ("cursor", cursor.to_string())));
        let limit = page.limit.min(ListRequest::MAX_LIMIT);
        let call = ApiRequest::get("").with_query(query).expect_tokens(limit);
        self.send(call).await?.page()
    }

    /// Returns a token.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, or the call [failed](ClientErrorKind).
    pub async fn get(&self, id: TokenId) -> Result<TokenInfo, ClientError> {
        self.get_at(Some(id)).await
    }

    /// Returns the token whose id has this [number](TokenId::number), as
    /// [`ServiceTokens::get_by_number`](crate::ServiceTokens::get_by_number) does. Its revision is
    /// unknown.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, if several have the number
    /// ([`Conflict`](ClientErrorKind::Conflict)), or if the call [failed](ClientErrorKind).
    pub async fn get_by_number(&self, number: i64) -> Result<TokenInfo, ClientError> {
        let filter = TokenFilter::new().with_number(number);
        let mut tokens = self.list(filter, Page::default()).await?.tokens;
        tokens.retain(|token| token.id.number() == number);
        let (mut revoked, mut valid): (Vec<_>, Vec<_>) = tokens
            .into_iter()
            .partition(|token| token.state == TokenStatus::Revoked);
        let found = if valid.is_empty() {
            &mut revoked
        } else {
            &mut valid
        };
        match (found.pop(), found.is_empty()) {
            (Some(token), true) => Ok(token),
            (Some(_), false) => Err(ClientError::ambiguous_number()),
            (None, _) => Err(ClientError::not_found()),
        }
    }

    /// Updates a token. Its secret stays the same.
    ///
    /// The [revision](TokenUpdate::if_revision) of the update takes precedence over
    /// [that of the client](Self::if_revision). An update that replaces all labels reads the token
    /// first, which needs the scope `service-tokens:read`.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it was revoked, it is not at the required
    /// revision, a rule or the server's policy is broken, the caller may not make the change, no other
    /// token could administer tokens afterwards, or the call [failed](ClientErrorKind).
    pub async fn update(
        &self,
        id: TokenId,
        update: TokenUpdate,
    ) -> Result<ChangedTokenInfo, ClientError> {
        let revision = update.revision.or(self.revision);
        let work = async |deadline| {
            if !replaces_labels(&update) {
                let request = UpdateRequest::new(&update, []).map_err(ClientError::invalid)?;
                return self.patch(id, &request, revision, deadline).await;
            }
            let mut attempts = 0..MAX_ATTEMPTS;
            loop {
                let changed = self.replace_labels(id, &update, revision, deadline).await;
                let is_overtaken = revision.is_none()
                    && matches!(&changed, Err(error) if error.kind() == ClientErrorKind::RevisionMismatch);
                if !is_overtaken || attempts.next().is_none() {
                    return changed;
                }
            }
        };
        self.sender.with_deadline(Duration::ZERO, work).await
    }

    /// Issues a new secret for a token. The current one stays valid for `grace`, and never longer
    /// than the token itself; with [`Duration::ZERO`] it is refused at once.
    ///
    /// If the response with the secret is lost:
    ///
    /// 1. Without a grace period, the client retries with a random idempotency key, rotates the token
    ///    again at the revision of the lost rotation, and returns the new secret. No one has the lost one.
    /// 2. With a grace period, another rotation would end the secret that is in use, so the call is not
    ///    retried. Use [`rotate_once`](Self::rotate_once) to find out whether the token was rotated.
    ///
    /// After [`Unreachable`](ClientErrorKind::Unreachable), [`TimedOut`](ClientErrorKind::TimedOut)
    /// or [`Server`](ClientErrorKind::Server) it is unknown which secret is valid; another rotation
    /// settles it. To find out instead, use [`rotate_once`](Self::rotate_once). A client that presents
    /// the previous secret of the token itself rotates it only [at a revision](Self::if_revision);
    /// otherwise the error is [`RevisionRequired`](ClientErrorKind::RevisionRequired).
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
        self.rotate_at(Some(id), grace, None).await
    }

    /// Does the same as [`rotate`](Self::rotate) with the caller's idempotency key: 1 to 255 visible
    /// ASCII characters. Repeat a failed call with the same key to find out whether the token was
    /// rotated: then the error is [`AlreadyRotated`](ClientErrorKind::AlreadyRotated).
    ///
    /// # Errors
    ///
    /// Returns the errors of `rotate`, [`Invalid`](ClientErrorKind::Invalid) if the key was used with
    /// another grace period, and `AlreadyRotated`.
    pub async fn rotate_once(
        &self,
        id: TokenId,
        grace: Duration,
        key: &str,
    ) -> Result<IssuedTokenInfo, ClientError> {
        self.rotate_at(Some(id), grace, Some(key)).await
    }

    /// Disables a token: it is refused until it is [enabled](Self::enable).
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it was revoked, the caller may not change it, no
    /// other token could administer tokens afterwards, or the call [failed](ClientErrorKind).
    pub async fn disable(&self, id: TokenId) -> Result<ChangedTokenInfo, ClientError> {
        let call = ApiRequest::post(&format!("/{id}/disable"))
            .with_last_admin_confirmation(self.allows_last_admin_removal)
            .at_revision(self.revision);
        self.send(call).await?.changed(id)
    }

    /// Enables a token that was disabled.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, it was revoked, the caller may not change it, or
    /// the call [failed](ClientErrorKind).
    pub async fn enable(&self, id: TokenId) -> Result<ChangedTokenInfo, ClientError> {
        let call = ApiRequest::post(&format!("/{id}/enable"));
        self.send(call.at_revision(self.revision))
            .await?
            .changed(id)
    }

    /// Revokes a token for good. A token that was revoked before stays so, without an error.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such token, the caller may not revoke it, no other token
    /// could administer tokens afterwards, or the call [failed](ClientErrorKind).
    pub async fn revoke(&self, id: TokenId) -> Result<Revocation, ClientError> {
        self.revoke_at(Some(id)).await?.revoked()
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
    /// The call may take 40 s, even if the [timeout](crate::client::ServiceTokensClientBuilder::with_timeout) is
    /// shorter. It is retried only if no connection was made.
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
        let request = BulkRequest {
            expect: expect.into(),
            ..bulk_request(filter)?
        };
        let call = ApiRequest::post("/revoke")
            .with_json(&request)
            .expect_id_list()
            .not_idempotent();
        let work = async |deadline| self.sender.send(&call, deadline).await;
        let sent = self.sender.with_deadline(BULK_TIMEOUT, work).await?;
        sent.bulk_revocation()
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
        let request = BulkRequest {
            dry_run: Some(true),
            ..bulk_request(filter)?
        };
        let call = ApiRequest::post("/revoke").with_json(&request);
        self.send(call).await?.bulk_preview()
    }

    /// Returns the token that this client authenticates with. Needs no scope, nor do the next two
    /// calls.
    ///
    /// # Errors
    ///
    /// Returns an error if the call [failed](ClientErrorKind).
    pub async fn get_own(&self) -> Result<TokenInfo, ClientError> {
        self.get_at(None).await
    }

    /// Issues a new secret for the token that this client authenticates with, as
    /// [`rotate`](Self::rotate) does.
    ///
    /// If the response is lost, the client rotates the token again with the old secret, which replaces
    /// the lost one. Without a grace period the old secret is rejected by then, so the call is retried
    /// only if no connection was made.
    ///
    /// This client keeps sending the old secret, which is valid until the grace period ends. Build
    /// another client, or write the new secret to the
    /// [file](crate::client::ServiceTokensClientBuilder::with_token_file) of the token.
    ///
    /// # Errors
    ///
    /// Returns an error if the token has expired, or the call [failed](ClientErrorKind).
    pub async fn rotate_own(&self, grace: Duration) -> Result<IssuedTokenInfo, ClientError> {
        self.rotate_at(None, grace, None).await
    }

    /// Revokes the token that this client authenticates with, for good.
    ///
    /// # Errors
    ///
    /// Returns an error if no other token could administer tokens afterwards, or if the call
    /// [failed](ClientErrorKind).
    pub async fn revoke_own(&self) -> Result<Revocation, ClientError> {
        let sent = self.revoke_at(None).await?;
        sent.revoked().or_else(|error| {
            // An earlier attempt revoked it, and its response was lost.
            if sent.is_repeated && error.code() == Some("token_revoked") {
                return Ok(Revocation {
                    effective_within: Duration::MAX,
                });
            }
            Err(error)
        })
    }

    async fn get_at(&self, id: Option<TokenId>) -> Result<TokenInfo, ClientError> {
        self.send(ApiRequest::get(&path(id))).await?.token(id)
    }

    async fn rotate_at(
        &self,
        id: Option<TokenId>,
        grace: Duration,
        own_key: Option<&str>,
    ) -> Result<IssuedTokenInfo, ClientError> {
        let key = own_key.map(idempotency_key).transpose()?;
        // A server of an earlier release ignores the key. There a retry with a grace period would end the
        // secret in use, and the retry of a holder is rejected if its secret ended with the first attempt.
        let is_retryable = id.is_some() == grace.is_zero();
        let random_key = || random_key().filter(|_| is_retryable);
        // Another rotation then ends no secret that is in use.
        let is_repeatable = own_key.is_none() && (id.is_none() || grace.is_zero());
        let mut call = rotation(id, grace)
            .at_revision(self.revision)
            .with_idempotency_key(key.or_else(random_key));
        let work = async |deadline| loop {
            match self.sender.send(&call, deadline).await?.rotated(id)? {
                IssueOutcome::Issued(issued) => return Ok(issued),
                IssueOutcome::Earlier(token) if !is_repeatable => {
                    return Err(ClientError::already_rotated(token));
                }
                IssueOutcome::Earlier(token) => {
                    call = rotation(id, grace)
                        .at_revision(token.revision)
                        .with_idempotency_key(random_key());
                }
            }
        };
        self.sender.with_deadline(Duration::ZERO, work).await
    }

    async fn revoke_at(&self, id: Option<TokenId>) -> Result<Response, ClientError> {
        let call = ApiRequest::new(Method::DELETE, &path(id))
            .with_last_admin_confirmation(self.allows_last_admin_removal)
            .at_revision(self.revision);
        self.send(call).await
    }

    /// Updates a token, replacing all its labels.
    async fn replace_labels(
        &self,
        id: TokenId,
        update: &TokenUpdate,
        revision: Option<u64>,
        deadline: Instant,
    ) -> Result<ChangedTokenInfo, ClientError> {
        let call = ApiRequest::get(&path(Some(id)));
        let current = self.sender.send(&call, deadline).await?.token(Some(id))?;
        let unnamed = || ClientError::unexpected("the response has no ETag");
        let current_revision = current.revision.ok_or_else(unnamed)?;
        let keys = current.labels.keys().map(String::as_str);
        let request = UpdateRequest::new(update, keys).map_err(ClientError::invalid)?;
        let revision = revision.unwrap_or(current_revision);
        self.patch(id, &request, Some(revision), deadline).await
    }

    async fn patch(
        &self,
        id: TokenId,
        request: &UpdateRequest,
        revision: Option<u64>,
        deadline: Instant,
    ) -> Result<ChangedTokenInfo, ClientError> {
        let call = ApiRequest::new(Method::PATCH, &path(Some(id)))
            .with_merge_patch(request)
            .with_last_admin_confirmation(self.allows_last_admin_removal)
            .at_revision(revision);
        self.sender.send(&call, deadline).await?.changed(id)
    }

    async fn send(&self, call: ApiRequest) -> Result<Response, ClientError> {
        let work = async |deadline| self.sender.send(&call, deadline).await;
        self.sender.with_deadline(Duration::ZERO, work).await
    }
}

/// Returns the path of a token, or of the caller's own.
fn path(id: Option<TokenId>) -> String {
    id.map_or_else(|| "/self".to_owned(), |id| format!("/{id}"))
}

fn rotation(id: Option<TokenId>, grace: Duration) -> ApiRequest {
    ApiRequest::post(&format!("{}/rotate", path(id))).with_json(&RotateRequest::from(grace))
}

fn bulk_request(mut filter: TokenFilter) -> Result<BulkRequest, ClientError> {
    // A revocation always leaves revoked tokens out.
    filter.without_revoked = false;
    let filter = Filter::try_from(&filter).map_err(ClientError::invalid)?;
    Ok(BulkRequest {
        filter: Some(filter),
        ..BulkRequest::default()
    })
}

/// Validates the caller's idempotency key.
fn idempotency_key(text: &str) -> Result<HeaderValue, ClientError> {
    let value = HeaderValue::try_from(text).ok();
    let value = value.filter(|_| is_idempotency_key(text));
    value.ok_or_else(|| {
        let problem = FieldProblem::new("/idempotency_key", IDEMPOTENCY_KEY_FORM);
        ClientError::invalid(problem)
    })
}

/// Creates an idempotency key. Without randomness there is none, and the call is not retried.
fn random_key() -> Option<HeaderValue> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).ok()?;
    let key = HeaderValue::try_from(hex::encode(random));
    Some(key.expect("digits are visible ASCII"))
}
