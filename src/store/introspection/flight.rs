use std::sync::Arc;

use futures::channel::oneshot;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::breaker::{Health, Pass};
use super::core::Core;
use super::error::{IntrospectionError, IntrospectionErrorKind};
use super::flights::{Ticket, Told};
use super::memory::Kept;
use super::meter::{self, Ending};
use super::outcome::{Failure, Reply};
use crate::store::Credential;

/// One call, which outlives the request that began it and knows nothing of it but the token.
///
/// Dropped before it landed, as when the transport panics, it fails all who wait for it.
pub(super) struct Flight {
    core: Arc<Core>,
    ticket: Ticket,
    sender: Option<oneshot::Sender<Told>>,
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
            Ok(Reply::Active(claims)) => {
                self.ending = Ending::Active;
                let kept = Arc::new(Kept {
                    record: core.rules.record(&claims, digest),
                    claims: *claims,
                    until: self.ticket.started.saturating_add(core.settings.ttl),
                });
                self.settle_active(kept)
            }
            Ok(reply) => self.settle_inactive(&reply),
            Err(failure) => self.fail(failure.error),
        };
        self.land(told);
    }

    fn tell_breaker(&mut self, reply: &Result<Reply, Failure>) {
        let health = reply
            .as_ref()
            .map_or_else(|failure| failure.health, |_| Health::Good);
        if let Some(pass) = self.pass.take() {
            pass.tell(health, self.core.clock.monotonic());
        }
    }

    fn settle_active(&self, kept: Arc<Kept>) -> Told {
        let core = &self.core;
        let remembered = !core.settings.is_off() && !kept.is_expired(|| core.clock.now());
        let is_newest = core.flights.settle(&self.ticket, || {
            if remembered {
                core.memory.keep_active(self.ticket.key, Arc::clone(&kept));
            }
        });
        if is_newest {
            Told::Active(kept)
        } else {
            Told::Overtaken
        }
    }

    /// Only `active: false` is remembered; of a token of an unknown sort, no more than that
    /// nothing better is known.
    fn settle_inactive(&mut self, reply: &Reply) -> Told {
        let core = &self.core;
        let is_answer = matches!(reply, Reply::Inactive);
        self.ending = if is_answer {
            Ending::Inactive
        } else {
            Ending::UnsupportedToken
        };
        let until = self
            .ticket
            .started
            .saturating_add(core.settings.negative_ttl);
        let is_newest = core.flights.settle(&self.ticket, || {
            core.memory.forget(&self.ticket.key);
            if is_answer && !core.settings.is_off() {
                core.memory.keep_inactive(self.ticket.key, until);
            }
        });
        if is_newest {
            Told::Inactive
        } else {
            Told::Overtaken
        }
    }

    fn fail(&mut self, error: IntrospectionError) -> Told {
        meter::call_failed(&error);
        if self.ending != Ending::TimedOut {
            self.ending = match error.kind() {
                IntrospectionErrorKind::Credentials => Ending::Credentials,
                IntrospectionErrorKind::Protocol => Ending::Protocol,
                _ => Ending::Transient,
            };
        }
        Told::Failed(error, Arc::default())
    }

    fn land(mut self, told: Told) {
        // First, so that who asks again after a failure begins anew.
        self.core.flights.settle(&self.ticket, || {});
        if let Some(sender) = self.sender.take() {
            // Nobody may be left to be told.
            let _ = sender.send(told);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.core.flights.settle(&self.ticket, || {});
        meter::call_ended(self.ending);
    }
}
