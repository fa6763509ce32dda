use std::sync::Arc;

use futures::channel::oneshot;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::breaker::{CallPermit, Health};
use super::cache::ActiveEntry;
use super::claims::Claims;
use super::core::Core;
use super::error::{IntrospectionError, IntrospectionErrorKind};
use super::lookups::{LookupId, LookupResponse, Outcome};
use super::metrics::{self, CallOutcome};
use super::response::{Failure, Reply};
use crate::digest::TokenDigest;
use crate::store::Credential;
use crate::store::key::Key;

/// One call, which outlives the request that began it and knows nothing of it but the token.
///
/// Dropped before it landed, as when the transport panics, it fails all who wait for it.
pub(super) struct Lookup {
    core: Arc<Core>,
    id: LookupId,
    sender: Option<oneshot::Sender<LookupResponse>>,
    is_complete: bool,
    call_permit: Option<CallPermit>,
    call_outcome: CallOutcome,
    _permit: OwnedSemaphorePermit,
}

impl Lookup {
    pub(super) fn new(
        core: Arc<Core>,
        id: LookupId,
        sender: oneshot::Sender<LookupResponse>,
        call_permit: CallPermit,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        metrics::call_started();
        Self {
            core,
            id,
            sender: Some(sender),
            is_complete: false,
            call_permit: Some(call_permit),
            call_outcome: CallOutcome::Lost,
            _permit: permit,
        }
    }

    /// Asks, remembers, and tells all who wait.
    pub(super) async fn run(mut self, credential: Credential<'static>) {
        let core = Arc::clone(&self.core);
        let result = core.client.introspect(credential.token());
        let result = timeout(core.settings.timeout, result).await;
        let digest = *credential.digest();
        // A waiter that is notified expects that no copy of the secret is left.
        drop(credential);
        let reply = result.unwrap_or_else(|_| {
            self.call_outcome = CallOutcome::TimedOut;
            let error = IntrospectionError::transient("the server took too long");
            Err(Failure::new(error, Health::Bad))
        });
        self.record_health(&reply);
        let response = match reply {
            Ok(Reply::Active(claims)) => self.found_active(*claims, digest),
            Ok(Reply::Inactive) => {
                self.call_outcome = CallOutcome::Inactive;
                self.found_inactive(true)
            }
            Ok(Reply::Unsupported) => {
                self.call_outcome = CallOutcome::UnsupportedToken;
                self.found_inactive(false)
            }
            Err(failure) => self.failed(failure.error),
        };
        if let Some(sender) = self.sender.take() {
            // Nobody may be left to be told.
            let _ = sender.send(response);
        }
    }

    fn record_health(&mut self, reply: &Result<Reply, Failure>) {
        let health = reply
            .as_ref()
            .map_or_else(|failure| failure.health, |_| Health::Good);
        if let Some(call_permit) = self.call_permit.take() {
            call_permit.record(health, self.core.clock.monotonic());
        }
    }

    fn found_active(&mut self, claims: Claims, digest: TokenDigest) -> LookupResponse {
        self.call_outcome = CallOutcome::Active;
        let core = Arc::clone(&self.core);
        let entry = Arc::new(ActiveEntry {
            record: core.rules.record(&claims, digest),
            claims,
            until: self.id.started.saturating_add(core.settings.ttl),
        });
        let is_cacheable =
            !core.settings.is_cache_disabled() && !entry.is_expired(|| core.clock.now());
        let outcome = self.complete(|key| {
            if is_cacheable {
                core.cache.insert_active(key, Arc::clone(&entry));
            } else {
                // No older answer may be fallen back on.
                core.cache.remove(&key);
            }
        });
        match outcome {
            Outcome::Invalidated => LookupResponse::Invalidated,
            Outcome::Latest | Outcome::Older => LookupResponse::Active(entry),
        }
    }

    /// Only `active: false` is remembered. Of a token of a sort that the server does not know, no
    /// earlier answer counts any more either.
    fn found_inactive(&mut self, is_answer: bool) -> LookupResponse {
        let core = Arc::clone(&self.core);
        let until = self.id.started.saturating_add(core.settings.negative_ttl);
        let outcome = self.complete(|key| {
            core.cache.remove(&key);
            if is_answer && !core.settings.is_cache_disabled() {
                core.cache.insert_inactive(key, until);
            }
        });
        match outcome {
            Outcome::Invalidated => LookupResponse::Invalidated,
            Outcome::Latest | Outcome::Older => LookupResponse::Inactive,
        }
    }

    fn failed(&mut self, error: IntrospectionError) -> LookupResponse {
        metrics::call_failed(&error);
        if self.call_outcome != CallOutcome::TimedOut {
            self.call_outcome = match error.kind() {
                IntrospectionErrorKind::Credentials => CallOutcome::Credentials,
                IntrospectionErrorKind::Protocol => CallOutcome::Protocol,
                _ => CallOutcome::Transient,
            };
        }
        // So that the next request starts a new lookup.
        self.complete(|_| {});
        LookupResponse::Failed(error, Arc::default())
    }

    fn complete(&mut self, store: impl FnOnce(Key)) -> Outcome {
        self.is_complete = true;
        let key = self.id.key;
        self.core.lookups.complete(&self.id, || store(key))
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if !self.is_complete {
            self.complete(|_| {});
        }
        metrics::call_ended(self.call_outcome);
    }
}
