use std::fmt;
use std::sync::Arc;

use super::{Actor, LifecycleError, Operator, OwnerPolicies, TokenPolicy};
use crate::audit::{AuditSink, TracingAuditSink};
use crate::clock::{Clock, SystemClock};
use crate::registry::TokenRegistry;
use crate::store::TokenStore;
use crate::token::TokenFormat;

/// Creates, lists, changes and revokes the tokens of a [registry](TokenRegistry).
///
/// Cheap to clone. See the [module](super) for the rules and an example.
#[derive(Clone)]
#[must_use]
pub struct ServiceTokens {
    pub(super) registry: Arc<dyn TokenRegistry>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) format: TokenFormat,
    pub(super) policy: TokenPolicy,
    pub(super) owner_policies: Option<Arc<dyn OwnerPolicies>>,
    pub(super) actor: Actor,
    /// Whether reads do not check the actor, because the caller did just before.
    pub(super) skips_read_check: bool,
    pub(super) actor_store: Option<Arc<dyn TokenStore>>,
    /// The revisions at which a token is changed; `None` for any.
    pub(super) revisions: Option<Arc<[u64]>>,
    pub(super) allows_last_admin_removal: bool,
    pub(super) sink: Arc<dyn AuditSink>,
}

impl ServiceTokens {
    /// Manages the tokens of this registry as an [operator](Operator), who may grant and change
    /// everything. Its name is `operator`; [`acting_for`](Self::acting_for) sets another actor.
    ///
    /// Every registry of this crate shares its tokens with its clones. Pass one clone here and another
    /// one to the layer.
    pub fn new(registry: impl TokenRegistry) -> Self {
        Self {
            registry: Arc::new(registry),
            clock: Arc::new(SystemClock),
            format: TokenFormat::default(),
            policy: TokenPolicy::new(),
            owner_policies: None,
            actor: Operator::new("operator").into(),
            skips_read_check: false,
            actor_store: None,
            revisions: None,
            allows_last_admin_removal: false,
            sink: Arc::new(TracingAuditSink),
        }
    }

    /// Sets the rules for every token. The default is [`TokenPolicy::new`].
    pub fn with_policy(mut self, policy: TokenPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets further rules for the tokens of each owner, such as those of its plan. By default there are
    /// none.
    ///
    /// 1. They apply to every actor that changes a token of the owner: the owner, the holder of one of
    ///    its tokens, and an operator.
    /// 2. They apply [in addition](TokenPolicy::and) to [`with_policy`](Self::with_policy), which they
    ///    cannot relax.
    /// 3. They are queried before each creation, update, rotation and enabling. If they are
    ///    unavailable, the change fails. Disabling, revoking and purging do not need them.
    /// 4. A token that is transferred must meet those of its new owner, except the
    ///    [maximum number](TokenPolicy::with_max_tokens_per_owner).
    /// 5. They are not queried for an owner that the actor may not set.
    ///
    /// See [`OwnerPolicies`] for an example.
    pub fn with_owner_policies(mut self, policies: impl OwnerPolicies) -> Self {
        self.owner_policies = Some(Arc::new(policies));
        self
    }

    /// Sets the format of the tokens to mint. The default has the prefix `svctok-`.
    pub fn with_token_format(mut self, format: TokenFormat) -> Self {
        self.format = format;
        self
    }

    /// Sets the clock. The default is [`SystemClock`].
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the sink that receives an event for every change. The default is [`TracingAuditSink`].
    pub fn with_audit_sink(mut self, sink: impl AuditSink) -> Self {
        self.sink = Arc::new(sink);
        self
    }

    /// Returns the clock.
    #[cfg(feature = "api")]
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Acts with the authority of this actor. A [`Principal`](crate::Principal) acts as the holder of
    /// its token, an [`Owner`](super::Owner) manages its tokens, and an [`Operator`] may change
    /// everything. The default is the operator `operator`.
    ///
    /// The holder's token, and the check of an [owner](super::Owner::with_check) or an
    /// [operator](Operator::with_check), are queried again for each call: before a read returns, and
    /// immediately before each write.
    ///
    /// The holder of a token
    ///
    /// 1. cannot grant roles or scopes that its own token does not cover,
    /// 2. cannot change, rotate or revoke tokens that its own token does not cover,
    /// 3. cannot create or extend tokens beyond its own expiry. A new token without an expiry gets the
    ///    expiry of the holder's token,
    /// 4. cannot set or change the owner of a token.
    ///
    /// The scope `service-tokens:admin` lifts all four limits. The registry checks them in the
    /// transaction that writes, and also checks there that the holder's token is still accepted.
    ///
    /// The holder of a token with an [owner](crate::store::TokenRecord::owner) reads and changes only
    /// tokens of that owner, whatever its scopes. Other tokens are not found. The scope
    /// `service-tokens:admin` lifts none of the limits for it, but lets it disable and revoke each
    /// token of the owner.
    pub fn acting_for(mut self, actor: impl Into<Actor>) -> Self {
        self.actor = actor.into();
        self.skips_read_check = false;
        self
    }

    /// Requires that the token to change is at this
    /// [revision](crate::store::TokenRecord::revision). By default, any revision is changed.
    pub fn if_revision(mut self, revision: u64) -> Self {
        self.revisions = Some(Arc::new([revision]));
        self
    }

    /// Requires one of these [revisions](Self::if_revision), if any are given. A list of several does
    /// not prove that the caller knows the current one.
    #[cfg(feature = "api")]
    pub(crate) fn if_one_of_revisions(mut self, revisions: Option<Vec<u64>>) -> Self {
        self.revisions = revisions.map(Arc::from).or(self.revisions);
        self
    }

    /// Skips the check of the actor before reads, for a caller that has just made it.
    #[cfg(feature = "api")]
    pub(crate) fn skip_read_check(mut self) -> Self {
        self.skips_read_check = true;
        self
    }

    /// Allows changes that leave no valid token that
    /// [may administer](crate::store::TokenRecord::may_administer) tokens. By default, they fail with
    /// [`LastAdmin`](super::LifecycleError::LastAdmin). Bulk revocation never allows them.
    pub fn allow_last_admin_removal(mut self) -> Self {
        self.allows_last_admin_removal = true;
        self
    }

    /// Declares a store of actors whose tokens are not in the registry, such as a file of emergency
    /// tokens or an authorization server. By default there is none, and
    /// [holders](super::Holder) of such tokens cannot read or change tokens.
    ///
    /// The store is queried before each read and immediately before each change, bypassing its caches
    /// ([`find_uncached`](TokenStore::find_uncached)), with the
    /// [credential](super::Holder::with_credential) that the actor presented. It must not include the
    /// registry.
    ///
    /// ```
    /// use tower_service_token::store::ChainStore;
    /// use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};
    ///
    /// let (emergency, everyday) = (MemoryStore::new(), MemoryStore::new());
    /// let layer = ServiceTokenLayer::new(ChainStore::new(emergency.clone()).then(everyday.clone()));
    /// let tokens = ServiceTokens::new(everyday).with_actor_store(emergency);
    /// ```
    pub fn with_actor_store(mut self, store: impl TokenStore) -> Self {
        self.actor_store = Some(Arc::new(store));
        self
    }

    /// Returns the rules for a token of this owner.
    pub(super) async fn policy_of(
        &self,
        owner: Option<&str>,
    ) -> Result<TokenPolicy, LifecycleError> {
        let policy = self.policy.clone();
        let (Some(policies), Some(owner)) = (&self.owner_policies, owner) else {
            return Ok(policy);
        };
        let of_owner = policies.policy(owner).await;
        let of_owner = of_owner.map_err(LifecycleError::OwnerPolicies)?;
        Ok(policy.and(of_owner.for_one_owner()))
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
