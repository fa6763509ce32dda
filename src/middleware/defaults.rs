use std::sync::Arc;

use super::check::Checker;
use crate::audit::TracingAuditSink;
#[cfg(feature = "api")]
use crate::clock::Clock;
use crate::clock::SystemClock;
use crate::header::CredentialSources;
use crate::limits::OptionalFailureLimit;
use crate::observe::Outcomes;
use crate::reject::Challenges;
#[cfg(feature = "api")]
use crate::store::MemoryStore;
use crate::store::TokenStore;
use crate::token::TokenFormat;

impl Checker {
    /// Creates the default configuration of a service that looks tokens up in `store`.
    pub(super) fn new(store: impl TokenStore) -> Self {
        Self {
            store: Arc::new(store),
            clock: Arc::new(SystemClock),
            sources: CredentialSources::default(),
            format: TokenFormat::default(),
            challenges: Challenges::DEFAULT,
            optional: false,
            identity: None,
            strip_credential: false,
            last_used: None,
            // Without the feature, nothing receives the events, so none are created.
            audit: cfg!(feature = "tracing").then(|| Arc::new(TracingAuditSink) as _),
            failures: OptionalFailureLimit::default(),
            propagates_principal: false,
            additions: None,
            outcomes: Outcomes::default(),
        }
    }

    /// Creates the configuration of an API whose application authenticates the callers: it reads no
    /// credential and knows no token.
    #[cfg(feature = "api")]
    pub(crate) fn without_credentials(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            sources: CredentialSources::none(),
            ..Self::new(MemoryStore::new())
        }
    }
}
