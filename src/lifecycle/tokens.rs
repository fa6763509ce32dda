use std::fmt;
use std::sync::Arc;

use super::actor::Actor;
use super::diff::changed_fields;
use super::fields::Fields;
use super::{FieldProblem, IssuedToken, LifecycleError, NewToken, Page, Policy, idempotency};
use crate::clock::{Clock, SystemClock};
use crate::digest::TokenDigest;
use crate::principal::Principal;
use crate::store::{
    AuditAction, AuditEvent, AuditSink, RegistryError, TokenFilter, TokenPage, TokenRecord,
    TokenRegistry, TracingAudit, Write,
};
use crate::token::{MintedToken, TokenFormat, TokenId};

/// The verbs of a token's life, over a [registry](TokenRegistry).
///
/// Cheap to clone. See the [module](super) for the rules and an example.
#[derive(Clone)]
pub struct ServiceTokens {
    pub(super) registry: Arc<dyn TokenRegistry>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) format: TokenFormat,
    pub(super) policy: Policy,
    pub(super) actor: Actor,
    pub(super) sink: Arc<dyn AuditSink>,
}

impl ServiceTokens {
    /// The tokens of this registry, changed by an operator who may grant anything.
    ///
    /// Every registry of this crate shares its tokens with its clones: pass one here and another
    /// to the layer.
    pub fn new(registry: impl TokenRegistry) -> Self {
        Self {
            registry: Arc::new(registry),
            clock: Arc::new(SystemClock),
            format: TokenFormat::default(),
            policy: Policy::new(),
            actor: Actor::Operator("operator".into()),
            sink: Arc::new(TracingAudit),
        }
    }

    /// What every token must obey. Default: [`Policy::new`].
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The form of the tokens to mint. Default: prefix `svctok-`.
    pub fn with_token_format(mut self, format: TokenFormat) -> Self {
        self.format = format;
        self
    }

    /// The clock that lifetimes are counted by. Default: [`SystemClock`].
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Who is told of every change. Default: [`TracingAudit`].
    pub fn with_audit_sink(mut self, sink: impl AuditSink) -> Self {
        self.sink = Arc::new(sink);
        self
    }

    /// The same tokens, changed by an operator of this name, who may grant anything: for someone
    /// with access to the store itself. Default: `operator`.
    pub fn acting_as(mut self, operator: impl Into<Box<str>>) -> Self {
        self.actor = Actor::Operator(operator.into());
        self
    }

    /// The same tokens, changed by the holder of a token, who grants no role and no scope but its
    /// own, unless it holds the scope `service-tokens:admin`.
    pub fn acting_for(mut self, holder: Principal) -> Self {
        self.actor = Actor::Token(holder);
        self
    }

    /// Mints a token. The secret is in the answer and nowhere else.
    ///
    /// ```
    /// use tower_service_token::lifecycle::NewToken;
    /// use tower_service_token::{MemoryStore, ServiceTokens};
    ///
    /// # futures::executor::block_on(async {
    /// let tokens = ServiceTokens::new(MemoryStore::new());
    /// let issued = tokens
    ///     .create(NewToken::new("ci").with_roles(["deployer"]).with_expiry("30d".parse()?))
    ///     .await?;
    /// println!("shown once: {}", issued.expose_secret());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # }).expect("no step fails");
    /// ```
    ///
    /// # Errors
    ///
    /// A rule or the policy is broken, the actor grants what it does not hold, a token was created
    /// with the same [idempotency key](NewToken::with_idempotency_key), there are no random bytes,
    /// or the store could not be asked.
    pub async fn create(&self, new: NewToken) -> Result<IssuedToken, LifecycleError> {
        if let Some(key) = new.idempotency_key() {
            let id = idempotency::token_id(&self.actor, key)?;
            return self.create_once(new, id).await;
        }
        let fields = self.checked(new)?;
        loop {
            match self.issue(&fields, self.format.mint()?).await {
                // The id was drawn before: about one in a hundred thousand million creations.
                Err(RegistryError::DuplicateId) => {}
                issued => return Ok(issued?),
            }
        }
    }

    /// Takes over a token that was minted elsewhere, by the digest of its whole text. Its holder
    /// keeps using it; it is as strong as it was made.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create), or a token with this digest is there already.
    pub async fn import(
        &self,
        new: NewToken,
        digest: TokenDigest,
    ) -> Result<TokenRecord, LifecycleError> {
        let fields = self.checked(new)?;
        loop {
            // The id alone is used: its secret is dropped at once.
            let record = TokenRecord::new(self.format.mint()?.id(), digest);
            match self.insert(&fields, record, AuditAction::Imported).await {
                Err(RegistryError::DuplicateId) => {}
                inserted => return Ok(inserted?),
            }
        }
    }

    /// One page of the tokens that the filter means, the oldest first, or by the time that the
    /// filter speaks of.
    ///
    /// # Errors
    ///
    /// The page's cursor is of another listing, or the store could not be asked.
    pub async fn list(&self, filter: TokenFilter, page: Page) -> Result<TokenPage, LifecycleError> {
        let request = page.request(filter, self.clock.now())?;
        Ok(self.registry.list(&request).await?)
    }

    /// What is known about a token.
    ///
    /// # Errors
    ///
    /// There is no such token, or the store could not be asked.
    pub async fn get(&self, id: TokenId) -> Result<TokenRecord, LifecycleError> {
        let found = self.registry.get(id).await?;
        found.ok_or(LifecycleError::NotFound)
    }

    fn checked(&self, new: NewToken) -> Result<Fields, LifecycleError> {
        let mut problems = Vec::new();
        let fields = Fields::of_new(new, &self.policy, self.clock.now(), &mut problems);
        self.admit(&fields, problems)?;
        Ok(fields)
    }

    /// Whether a token may have these fields, and get them from this actor.
    pub(super) fn admit(
        &self,
        fields: &Fields,
        mut problems: Vec<FieldProblem>,
    ) -> Result<(), LifecycleError> {
        fields.check(&self.policy, &mut problems);
        if !problems.is_empty() {
            return Err(LifecycleError::Invalid(problems));
        }
        self.actor.check_grant(&fields.roles(), &fields.scopes())
    }

    /// Keeps a token with this secret.
    pub(super) async fn issue(
        &self,
        fields: &Fields,
        secret: MintedToken,
    ) -> Result<IssuedToken, RegistryError> {
        let record = TokenRecord::from(&secret).with_hint(&*self.format.hint(secret.id()));
        let record = self.insert(fields, record, AuditAction::Created).await?;
        Ok(IssuedToken {
            secret,
            record,
            effective_within: self.registry.effective_within(),
        })
    }

    async fn insert(
        &self,
        fields: &Fields,
        bare: TokenRecord,
        action: AuditAction,
    ) -> Result<TokenRecord, RegistryError> {
        let now = self.clock.now();
        let actor = self.actor.name();
        let record = fields
            .write_to(bare.clone())
            .with_created_at(now)
            .with_created_by(actor.as_str())
            .with_updated_at(now)
            .with_revision(1);
        let write = self
            .write(action, &bare, record.clone())
            .with_max_tokens(self.policy.max_tokens());
        self.registry.insert(&write).await?;
        self.sink.record(write.event());
        Ok(record)
    }

    /// The change from one record to another, with what is to be told of it.
    pub(super) fn write(
        &self,
        action: AuditAction,
        before: &TokenRecord,
        after: TokenRecord,
    ) -> Write {
        let event = AuditEvent::new(self.clock.now(), self.actor.name(), action, after.id());
        let event = changed_fields(before, &after)
            .into_iter()
            .fold(event, AuditEvent::with_change);
        Write::new(after, event).with_unique_name(self.policy.unique_names())
    }
}

impl fmt::Debug for ServiceTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceTokens")
            .field("policy", &self.policy)
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}
