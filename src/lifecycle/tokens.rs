use std::fmt;
use std::sync::Arc;

use super::{Actor, TokenPolicy};
use crate::audit::{AuditSink, TracingAuditSink};
use crate::clock::{Clock, SystemClock};
use crate::registry::TokenRegistry;
use crate::store::TokenStore;
use crate::token::TokenFormat;

/// Creates, lists, changes and revokes the tokens of a [registry](TokenRegistry).
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
    /// Manages the tokens of this registry as an operator, who may grant anything.
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

    /// Sets the rules for every token. The default is [`TokenPolicy::new`].
    pub fn with_policy(mut self, policy: TokenPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the format of the tokens to mint. The default has the prefix `svctok-`.
    pub fn with_token_format(mut self, format: TokenFormat) -> Self {
        self.format = format;
        self
    }

    /// Sets the clock that lifetimes are counted by. The default is [`SystemClock`].
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the sink that receives an event for every change. The default is [`TracingAuditSink`].
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
    /// [revision](crate::store::TokenRecord::revision). By default any revision is changed.
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
    /// [may administer](crate::store::TokenRecord::may_administer). By default they are refused with
    /// [`LastAdmin`](super::LifecycleError::LastAdmin). Bulk revocation always refuses them.
    pub fn allow_last_admin_removal(mut self) -> Self {
        self.allows_last_admin_removal = true;
        self
    }

    /// Declares a store of actors whose tokens are not in the registry itself, such as a file of
    /// break-glass tokens or an introspected authorization server. By default there is none, and
    /// [holders](super::Actor::holder) of such tokens change nothing.
    ///
    /// The store is queried immediately before each change, past its caches
    /// ([`find_uncached`](TokenStore::find_uncached)), with the
    /// [credential](super::Actor::with_credential) that the actor presented. It must not contain the
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
}

impl fmt::Debug for ServiceTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceTokens")
            .field("policy", &self.policy)
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}
