use std::sync::Arc;

use futures::channel::oneshot;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::entries::Entry;
use super::lookups::{LookupId, LookupResult, Lookups};
use super::metrics::{self, LookupOutcome};
use crate::store::{Credential, StoreError, TokenStore};

/// How often a flight looks when its token is changed meanwhile, each time anew.
const MAX_ATTEMPTS: usize = 8;

/// One lookup, which outlives the request that began it.
///
/// Dropped before it landed, as when its store panics, it fails all who wait for it.
pub(super) struct Lookup {
    lookups: Arc<Lookups>,
    id: LookupId,
    sender: Option<oneshot::Sender<LookupResult>>,
    is_deregistered: bool,
    outcome: LookupOutcome,
    _permit: OwnedSemaphorePermit,
}

impl Lookup {
    pub(super) fn new(
        lookups: Arc<Lookups>,
        id: LookupId,
        sender: oneshot::Sender<LookupResult>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            lookups,
            id,
            sender: Some(sender),
            is_deregistered: false,
            outcome: LookupOutcome::Lost,
            _permit: permit,
        }
    }

    /// Looks, remembers, and tells all who wait.
    pub(super) async fn run<S: TokenStore>(
        mut self,
        store: Arc<S>,
        credential: Credential<'static>,
    ) {
        let time = self.lookups.settings.lookup_timeout;
        let found = timeout(time, self.find_current(&*store, &credential)).await;
        // A waiter that is notified expects that no copy of the secret is left.
        drop(credential);
        let (outcome, answer) = match found {
            Ok(Ok(found)) => (LookupOutcome::Answered, Ok(found)),
            Ok(Err(error)) => (LookupOutcome::Failed, Err(error)),
            Err(_) => (
                LookupOutcome::TimedOut,
                Err(StoreError::unavailable("the lookup took too long")),
            ),
        };
        self.finish(outcome, answer);
    }

    async fn find_current(
        &mut self,
        store: &impl TokenStore,
        credential: &Credential<'static>,
    ) -> LookupResult {
        for _ in 0..MAX_ATTEMPTS {
            let found = store.find(credential).await?;
            let settings = &self.lookups.settings;
            let kept = Entry::of(found.as_ref(), credential, self.id.started, settings);
            if self.lookups.try_complete(&mut self.id, kept) {
                self.is_deregistered = true;
                return Ok(found);
            }
            metrics::lookup_overtaken();
        }
        let why = "the token was changed during each of several lookups";
        Err(StoreError::unavailable(why))
    }

    fn finish(mut self, outcome: LookupOutcome, answer: LookupResult) {
        // First, so that who asks again after a failure begins anew.
        self.deregister();
        self.outcome = outcome;
        if let Some(sender) = self.sender.take() {
            // Nobody may be left to be told.
            let _ = sender.send(answer);
        }
    }

    fn deregister(&mut self) {
        if !self.is_deregistered {
            self.is_deregistered = true;
            self.lookups.deregister(&self.id);
        }
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.deregister();
        metrics::lookup_ended(self.outcome);
    }
}
