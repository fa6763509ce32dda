use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::IF_MATCH;
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::answer::Created;
use super::builder::ServiceTokensClientBuilder;
use super::call::Call;
use super::error::{ClientError, ClientErrorKind};
use super::sender::{Sender, Sent};
use super::told::{ChangedToken, IssuedToken, Revocation, TokenPage};
use crate::lifecycle::members::{of_filter, of_grace};
use crate::lifecycle::{BulkRevocation, FieldProblem, NewToken, Page, ShownToken, TokenUpdate};
use crate::store::{ListRequest, TokenFilter};
use crate::token::TokenId;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How often an update begins anew because another change came between.
const ATTEMPTS: usize = 10;

/// The caller's own token.
const OWN: &str = "/self";

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
        }
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
    pub async fn create(&self, new: NewToken) -> Result<IssuedToken, ClientError> {
        let members = new.members().map_err(ClientError::invalid)?;
        let own_key = new.idempotency_key();
        let call = Call::post("").with_json(members);
        let call = match own_key.map(key).transpose()?.or_else(random_key) {
            Some(key) => call.with_header(IDEMPOTENCY_KEY, key),
            None => call.once(),
        };
        self.within(|deadline| async move {
            let sent = self.sender.send(&call, deadline).await?;
            match sent.answer.created()? {
                Created::Now(issued) => Ok(issued),
                Created::Before(token) if own_key.is_some() => {
                    Err(ClientError::already_created(token))
                }
                // As often as it takes: no secret of this token is in use.
                Created::Before(token) => {
                    let rotation = rotation(&path(token.id), Duration::ZERO);
                    let sent = self.sender.send(&rotation, deadline).await?;
                    sent.answer.rotated(Some(token.id))
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
    pub async fn list(&self, filter: TokenFilter, page: Page) -> Result<TokenPage, ClientError> {
        let mut query = of_filter(&filter).map_err(ClientError::invalid)?;
        query.extend(page.members());
        let most = page.limit().min(ListRequest::MAX_LIMIT);
        let call = Call::get("").with_query(query).for_tokens(most);
        self.send(call).await?.answer.page()
    }

    /// What is known about a token.
    ///
    /// # Errors
    ///
    /// There is no such token, or the call [failed](ClientErrorKind).
    pub async fn get(&self, id: TokenId) -> Result<ShownToken, ClientError> {
        let sent = self.send(Call::get(&path(id))).await?;
        sent.answer.token(Some(id))
    }

    /// Changes what is known about a token. The secret stays.
    ///
    /// With [`if_revision`](TokenUpdate::if_revision) it is not sent again when it may have been
    /// carried out: it would be refused, as if someone else had changed the token. An update that
    /// replaces all labels looks at the token first, which needs the right to read.
    ///
    /// # Errors
    ///
    /// There is no such token, it was revoked, it is no longer at the revision asked for, a rule or
    /// the server's policy is broken, the caller does not hold what the token would have, or the
    /// call [failed](ClientErrorKind).
    pub async fn update(
        &self,
        id: TokenId,
        update: TokenUpdate,
    ) -> Result<ChangedToken, ClientError> {
        self.within(|deadline| async move {
            if !update.replaces_labels() {
                let members = update.merge_patch([]).map_err(ClientError::invalid)?;
                return self.patch(id, members, update.revision(), deadline).await;
            }
            let mut attempts = 0..ATTEMPTS;
            loop {
                let changed = self.patch_known(id, &update, deadline).await;
                let is_overtaken = update.revision().is_none()
                    && matches!(&changed, Err(error) if error.kind() == ClientErrorKind::Changed);
                if !is_overtaken || attempts.next().is_none() {
                    return changed;
                }
            }
        })
        .await
    }

    /// Gives a token another secret. The one it has goes on working for `grace`, and never longer
    /// than the token itself; with [`Duration::ZERO`] it stops at once.
    ///
    /// It is sent again only where the server cannot have heard it. After
    /// [`Unreachable`](ClientErrorKind::Unreachable), [`TimedOut`](ClientErrorKind::TimedOut) or
    /// [`Server`](ClientErrorKind::Server) it is not known which secret works; another rotation
    /// settles it.
    ///
    /// # Errors
    ///
    /// There is no such token, it was revoked or has expired, the caller does not hold what the
    /// token has, or the call [failed](ClientErrorKind).
    pub async fn rotate(&self, id: TokenId, grace: Duration) -> Result<IssuedToken, ClientError> {
        let sent = self.send(rotation(&path(id), grace).once()).await?;
        sent.answer.rotated(Some(id))
    }

    /// Switches a token off: it is refused until it is [enabled](Self::enable).
    ///
    /// # Errors
    ///
    /// There is no such token, it was revoked, or the call [failed](ClientErrorKind).
    pub async fn disable(&self, id: TokenId) -> Result<ChangedToken, ClientError> {
        let call = Call::post(&format!("{}/disable", path(id)));
        self.send(call).await?.answer.changed(id)
    }

    /// Switches a token on again.
    ///
    /// # Errors
    ///
    /// As [`disable`](Self::disable), or the caller does not hold what the token has.
    pub async fn enable(&self, id: TokenId) -> Result<ChangedToken, ClientError> {
        let call = Call::post(&format!("{}/enable", path(id)));
        self.send(call).await?.answer.changed(id)
    }

    /// Refuses a token for good. A token that was revoked before stays so, without an error.
    ///
    /// # Errors
    ///
    /// There is no such token, or the call [failed](ClientErrorKind).
    pub async fn revoke(&self, id: TokenId) -> Result<Revocation, ClientError> {
        let sent = self.send(Call::new(Method::DELETE, &path(id))).await?;
        sent.answer.revoked()
    }

    /// Revokes every token that the filter means.
    ///
    /// With `expect`, nothing is revoked unless exactly so many tokens are meant:
    /// [`revocable`](Self::revocable) tells how many. A filter that means all tokens needs it.
    /// It is sent again only where the server cannot have heard it.
    ///
    /// # Errors
    ///
    /// As many tokens as expected are not meant, or the call [failed](ClientErrorKind); then some
    /// tokens may be revoked, and asking again revokes the rest.
    pub async fn revoke_where(
        &self,
        filter: TokenFilter,
        expect: impl Into<Option<usize>>,
    ) -> Result<BulkRevocation, ClientError> {
        let mut members = meant(&filter)?;
        let expect = expect.into();
        members.extend(expect.map(|expect| ("expect".to_owned(), expect.into())));
        let call = Call::post("/revoke").with_json(members).for_ids().once();
        let sent = self.send(call).await?;
        Ok(BulkRevocation {
            ids: sent.answer.ids(false)?,
            effective_within: sent.answer.effective_within(),
        })
    }

    /// The tokens that [`revoke_where`](Self::revoke_where) would revoke.
    ///
    /// # Errors
    ///
    /// The call [failed](ClientErrorKind).
    pub async fn revocable(&self, filter: TokenFilter) -> Result<Vec<TokenId>, ClientError> {
        let mut members = meant(&filter)?;
        members.insert("dry_run".to_owned(), true.into());
        let call = Call::post("/revoke").with_json(members).for_ids();
        self.send(call).await?.answer.ids(true)
    }

    /// What is known about the token that this client authenticates with. Needs no scope, nor do
    /// the next two.
    ///
    /// # Errors
    ///
    /// The call [failed](ClientErrorKind).
    pub async fn own(&self) -> Result<ShownToken, ClientError> {
        self.send(Call::get(OWN)).await?.answer.token(None)
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
    pub async fn rotate_own(&self, grace: Duration) -> Result<IssuedToken, ClientError> {
        let sent = self.send(rotation(OWN, grace).once()).await?;
        sent.answer.rotated(None)
    }

    /// Refuses the token that this client authenticates with, for good.
    ///
    /// # Errors
    ///
    /// The call [failed](ClientErrorKind).
    pub async fn revoke_own(&self) -> Result<Revocation, ClientError> {
        let sent = self.send(Call::new(Method::DELETE, OWN)).await?;
        sent.answer.revoked().or_else(|error| {
            // The first try did it, and its answer was lost.
            if sent.is_repetition && error.code() == Some("token_revoked") {
                return Ok(Revocation {
                    effective_within: Duration::MAX,
                });
            }
            Err(error)
        })
    }

    /// An update of a token whose labels it has to know.
    async fn patch_known(
        &self,
        id: TokenId,
        update: &TokenUpdate,
        deadline: Instant,
    ) -> Result<ChangedToken, ClientError> {
        let sent = self.sender.send(&Call::get(&path(id)), deadline).await?;
        let known = sent.answer.token(Some(id))?;
        let unnamed = || ClientError::unexpected("the answer has no entity tag");
        let revision = known.revision.ok_or_else(unnamed)?;
        let keys = known.labels.keys().map(String::as_str);
        let members = update.merge_patch(keys).map_err(ClientError::invalid)?;
        let revision = update.revision().unwrap_or(revision);
        self.patch(id, members, Some(revision), deadline).await
    }

    async fn patch(
        &self,
        id: TokenId,
        members: Map<String, Value>,
        revision: Option<u64>,
        deadline: Instant,
    ) -> Result<ChangedToken, ClientError> {
        let mut call = Call::new(Method::PATCH, &path(id)).with_merge_patch(members);
        if let Some(revision) = revision {
            let tag = HeaderValue::try_from(format!("\"{revision}\""));
            let tag = tag.expect("digits are visible ASCII");
            call = call.with_header(IF_MATCH, tag).once();
        }
        let sent = self.sender.send(&call, deadline).await?;
        sent.answer.changed(id)
    }

    async fn send(&self, call: Call) -> Result<Sent, ClientError> {
        self.within(|deadline| async move { self.sender.send(&call, deadline).await })
            .await
    }

    async fn within<T, F>(&self, work: impl FnOnce(Instant) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.sender.within(work).await
    }
}

fn path(id: TokenId) -> String {
    format!("/{id}")
}

fn rotation(path: &str, grace: Duration) -> Call {
    Call::post(&format!("{path}/rotate")).with_json(of_grace(grace))
}

fn meant(filter: &TokenFilter) -> Result<Map<String, Value>, ClientError> {
    let conditions = of_filter(filter).map_err(ClientError::invalid)?;
    let conditions = conditions.into_iter();
    let conditions: Map<_, _> = conditions
        .map(|(name, text)| (name.to_owned(), text.into()))
        .collect();
    Ok(Map::from_iter([("filter".to_owned(), conditions.into())]))
}

/// A key that the caller made.
fn key(text: &str) -> Result<HeaderValue, ClientError> {
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
            .finish_non_exhaustive()
    }
}
