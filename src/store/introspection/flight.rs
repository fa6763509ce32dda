use std::sync::Arc;

use futures::channel::oneshot;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::breaker::{Health, Pass};
use super::claims::Claims;
use super::core::Core;
use super::error::{IntrospectionError, IntrospectionErrorKind};
use super::flights::{Landing, Ticket, Told};
use super::memory::Kept;
use super::meter::{self, Ending};
use super::outcome::{Failure, Reply};
use crate::digest::TokenDigest;
use crate::store::Credential;
use crate::store::key::Key;

/// One call, which outlives the request that began it and knows nothing of it but the token.
///
/// Dropped before it landed, as when the transport panics, it fails all who wait for it.
pub(super) struct Flight {
    core: Arc<Core>,
    ticket: Ticket,
    sender: Option<oneshot::Sender<Told>>,
    has_landed: bool,
    pass: Option<Pass>,
    ending: Ending,
    _permit: OwnedSemaphorePermit,
}

impl Flight {
    pub(super) fn new(
        core: Arc<Core>,
        ticket: Ticket,
        sender: oneshot::Sender<Told>,
        pass: Pass,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        meter::call_started();
        Self {
            core,
            ticket,
            sender: Some(sender),
            has_landed: false,
            pass: Some(pass),
            ending: Ending::Lost,
            _permit: permit,
        }
    }

    /// Asks, remembers, and tells all who wait.
    pub(super) async fn fly(mut self, credential: Credential<'static>) {
        let core = Arc::clone(&self.core);
        let asked = core.client.ask(credential.token());
        let asked = timeout(core.settings.timeout, asked).await;
        let digest = *credential.digest();
        // Who is told may expect that no copy of the secret is left.
        drop(credential);
        let reply = asked.unwrap_or_else(|_| {
            self.ending = Ending::TimedOut;
            let error = IntrospectionError::transient("the server took too long");
            Err(Failure::new(error, Health::Bad))
        });
        self.tell_breaker(&reply);
        let told = match reply {
            Ok(Reply::Active(claims)) => self.found_active(*claims, digest),
            Ok(Reply::Inactive) => {
                self.ending = Ending::Inactive;
                self.found_inactive(true)
            }
            Ok(Reply::Unsupported) => {
                self.ending = Ending::UnsupportedToken;
                self.found_inactive(false)
            }
            Err(failure) => self.failed(failure.error),
        };
        if let Some(sender) = self.sender.take() {
            // Nobody may be left to be told.
            let _ = sender.send(told);
        }
    }

    fn tell_breaker(&mut self, reply: &Result<Reply, Failure>) {
        let health = reply
            .as_ref()
            .map_or_else(|failure| failure.health, |_| Health::Good);
        if let Some(pass) = self.pass.take() {
            pass.tell(health, self.core.clock.monotonic());
        }
    }

    fn found_active(&mut self, claims: Claims, digest: TokenDigest) -> Told {
        self.ending = Ending::Active;
        let core = Arc::clone(&self.core);
        let kept = Arc::new(Kept {
            record: core.rules.record(&claims, digest),
            claims,
            until: self.ticket.started.saturating_add(core.settings.ttl),
        });
        let is_kept = !core.settings.is_off() && !kept.is_expired(|| core.clock.now());
        let landing = self.land(|key| {
            if is_kept {
                core.memory.keep_active(key, Arc::clone(&kept));
            }
        });
        match landing {
            Landing::Overtaken => Told::Overtaken,
            Landing::Newest | Landing::Older => Told::Active(kept),
        }
    }

    /// Only `active: false` is remembered. Of a token of a sort that the server does not know, no
    /// earlier answer counts any more either.
    fn found_inactive(&mut self, is_answer: bool) -> Told {
        let core = Arc::clone(&self.core);
        let until = self
            .ticket
            .started
            .saturating_add(core.settings.negative_ttl);
        let landing = self.land(|key| {
            core.memory.forget(&key);
            if is_answer && !core.settings.is_off() {
                core.memory.keep_inactive(key, until);
            }
        });
        match landing {
            Landing::Overtaken => Told::Overtaken,
            Landing::Newest | Landing::Older => Told::Inactive,
        }
    }

    fn failed(&mut self, error: IntrospectionError) -> Told {
        meter::call_failed(&error);
        if self.ending != Ending::TimedOut {
            self.ending = match error.kind() {
                IntrospectionErrorKind::Credentials => Ending::Credentials,
                IntrospectionErrorKind::Protocol => Ending::Protocol,
                _ => Ending::Transient,
            };
        }
        // So that who asks again begins anew.
        self.land(|_| {});
        Told::Failed(error, Arc::default())
    }

    fn land(&mut self, keep: impl FnOnce(Key)) -> Landing {
        self.has_landed = true;
        let key = self.ticket.key;
        self.core.flights.land(&self.ticket, || keep(key))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.has_landed {
            self.land(|_| {});
        }
        meter::call_ended(self.ending);
    }
}
