use std::fmt;
use std::sync::Arc;

use super::diff::changed_fields;
use super::fields::Fields;
use super::rights::Rights;
use super::{
    Actor, FieldProblem, IssuedToken, LifecycleError, NewToken, Page, TokenPolicy, idempotency,
};
use crate::clock::{Clock, SystemClock};
use crate::digest::TokenDigest;
use crate::store::{
    AuditAction, AuditEvent, AuditSink, RegistryError, TokenFilter, TokenPage, TokenRecord,
    TokenRegistry, TokenStore, TracingAuditSink, Write,
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
    pub(super) policy: TokenPolicy,
    pub(super) actor: Actor,
    pub(super) actor_store: Option<Arc<dyn TokenStore>>,
    pub(super) revision: Option<u64>,
    /// Whether the revision is one of several that the caller named.
    pub(super) is_revision_ambiguous: bool,
    pub(super) allows_last_admin_removal: bool,
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
            policy: TokenPolicy::new(),
            actor: Actor::operator("operator"),
            actor_store: None,
            revision: None,
            is_revision_ambiguous: false,
            allows_last_admin_removal: false,
            sink: Arc::new(TracingAuditSink),
        }
    }

    /// What every token must obey. Default: [`TokenPolicy::new`].
    pub fn with_policy(mut self, policy: TokenPolicy) -> Self {
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

    /// Who is told of every change. Default: [`TracingAuditSink`].
    pub fn with_audit_sink(mut self, sink: impl AuditSink) -> Self {
        self.sink = Arc::new(sink);
        self
    }

    /// Returns the same tokens, changed by an [operator](Actor::operator) of this name. The default
    /// is `operator`.
    pub fn acting_as(self, operator: impl Into<Box<str>>) -> Self {
        self.acting_for(Actor::operator(operator))
    }

    /// Returns the same tokens, changed on the authority of this actor. A
    /// [`Principal`](crate::Principal) acts as the holder of its token.
    ///
    /// The holder of a token:
    ///
    /// 1. grants no role and no scope that its token does not cover,
    /// 2. changes no token that its own does not cover: revoking, disabling, renaming and rotating
    ///    included,
    /// 3. creates and extends no token beyond its own expiry; a new token without an expiry gets
    ///    the holder's.
    ///
    /// The scope `service-tokens:admin` lifts all three. The registry checks them in the transaction
    /// that writes, together with the holder's token itself: one that was revoked, disabled or
    /// rotated meanwhile changes nothing.
    pub fn acting_for(mut self, actor: impl Into<Actor>) -> Self {
        self.actor = actor.into();
        self
    }

    /// Returns the same tokens, where each change is made only if the token is still at this
    /// [revision](TokenRecord::revision). By default any revision is changed.
    pub fn if_revision(mut self, revision: u64) -> Self {
        self.revision = Some(revision);
        self
    }

    /// As [`if_revision`](Self::if_revision), for a caller that named several revisions: these do
    /// not show that it knows the one.
    #[cfg(feature = "api")]
    pub(crate) fn if_one_of_several_revisions(mut self, revision: u64) -> Self {
        self.is_revision_ambiguous = true;
        self.if_revision(revision)
    }

    /// Allows changes that leave no valid token that
    /// [may administer](TokenRecord::may_administer). By default they are refused with
    /// [`LifecycleError::LastAdmin`]. Bulk revocation always refuses them.
    pub fn allow_last_admin_removal(mut self) -> Self {
        self.allows_last_admin_removal = true;
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
    /// Returns an error if a rule or the policy is broken, if the actor may not create such a token,
    /// if a token was created with the same [idempotency key](NewToken::with_idempotency_key), if
    /// there are no random bytes, or if the store is unavailable.
    pub async fn create(&self, new: NewToken) -> Result<IssuedToken, LifecycleError> {
        let rights = self.rights(false).await?;
        if let Some(key) = new.idempotency_key() {
            let id = idempotency::token_id(&self.actor, key)?;
            return self.create_once(new, id, &rights).await;
        }
        let fields = self.validated_fields(new, &rights)?;
        loop {
            match self.issue(&fields, self.format.mint()?, &rights).await {
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
        let rights = self.rights(false).await?;
        let fields = self.validated_fields(new, &rights)?;
        loop {
            // The id alone is used: its secret is dropped at once.
            let record = TokenRecord::new(self.format.mint()?.id(), digest);
            let action = AuditAction::Imported;
            match self.insert(&fields, record, action, &rights).await {
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

    fn validated_fields(&self, new: NewToken, rights: &Rights) -> Result<Fields, LifecycleError> {
        let mut problems = Vec::new();
        let fields = self.fields_for(new, rights, &mut problems);
        fields.check_counts()?;
        self.validate(&fields, problems)?;
        Ok(fields)
    }

    /// The fields of a new token. One without an expiry expires with the actor's token.
    pub(super) fn fields_for(
        &self,
        new: NewToken,
        rights: &Rights,
        problems: &mut Vec<FieldProblem>,
    ) -> Fields {
        let has_expiry = new.expiry.is_some();
        let fields = Fields::from_new_token(new, &self.policy, self.clock.now(), problems);
        if has_expiry {
            fields
        } else {
            fields.with_max_expiry(rights.latest_expiry())
        }
    }

    /// Whether a token may have these fields.
    pub(super) fn validate(
        &self,
        fields: &Fields,
        mut problems: Vec<FieldProblem>,
    ) -> Result<(), LifecycleError> {
        fields.check(&self.policy, &mut problems);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(LifecycleError::Invalid(problems))
        }
    }

    /// Keeps a token with this secret.
    pub(super) async fn issue(
        &self,
        fields: &Fields,
        secret: MintedToken,
        rights: &Rights,
    ) -> Result<IssuedToken, RegistryError> {
        let record = TokenRecord::from(&secret).with_hint(&*self.format.hint(secret.id()));
        let action = AuditAction::Created;
        let record = self.insert(fields, record, action, rights).await?;
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
        rights: &Rights,
    ) -> Result<TokenRecord, RegistryError> {
        let now = self.clock.now();
        let actor = self.actor.name();
        let record = fields
            .apply_to(bare.clone())
            .with_created_at(now)
            .with_created_by(actor.as_str())
            .with_updated_at(now)
            .with_revision(1);
        rights.check(None, &record)?;
        let write = self
            .write(action, &bare, record.clone(), rights)
            .with_max_tokens(self.policy.max_tokens());
        self.registry.insert(&write).await?;
        self.sink.record(write.event());
        Ok(record)
    }

    /// The change from one record to another, with its audit event and its authority.
    pub(super) fn write(
        &self,
        action: AuditAction,
        before: &TokenRecord,
        after: TokenRecord,
        rights: &Rights,
    ) -> Write {
        let event = AuditEvent::new(self.clock.now(), self.actor.name(), action, after.id())
            .with_client_address(self.actor.client_address());
        let event = changed_fields(before, &after)
            .into_iter()
            .fold(event, AuditEvent::with_change);
        Write::new(after, event)
            .with_unique_name(self.policy.unique_names())
            .with_authority(rights.authority.clone())
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
