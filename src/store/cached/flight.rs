use std::sync::Arc;

use futures::channel::oneshot;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::answers::Entry;
use super::lookups::{Answer, Lookups, Ticket};
use super::meter::{self, Ending};
use crate::store::{Credential, StoreError, TokenStore};

/// How often a flight looks when its token is changed meanwhile, each time anew.
const LOOKS: usize = 8;

/// One lookup, which outlives the request that began it.
///
/// Dropped before it landed, as when its store panics, it fails all who wait for it.
pub(super) struct Flight {
    lookups: Arc<Lookups>,
    ticket: Ticket,
    sender: Option<oneshot::Sender<Answer>>,
    has_left: bool,
    ending: Ending,
    _permit: OwnedSemaphorePermit,
}

impl Flight {
    pub(super) fn new(
        lookups: Arc<Lookups>,
        ticket: Ticket,
        sender: oneshot::Sender<Answer>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            lookups,
            ticket,
            sender: Some(sender),
            has_left: false,
            ending: Ending::Lost,
            _permit: permit,
        }
    }

    /// Looks, remembers, and tells all who wait.
    pub(super) async fn fly<S: TokenStore>(
        mut self,
        store: Arc<S>,
        credential: Credential<'static>,
    ) {
        let time = self.lookups.settings.lookup_timeout;
        let looked = timeout(time, self.look(&*store, &credential)).await;
        // Who is told may expect that no copy of the secret is left.
        drop(credential);
        let (ending, answer) = match looked {
            Ok(Ok(found)) => (Ending::Answered, Ok(found)),
            Ok(Err(error)) => (Ending::Failed, Err(error)),
            Err(_) => (
                Ending::TimedOut,
                Err(StoreError::unavailable("the lookup took too long")),
            ),
        };
        self.land(ending, answer);
    }

    async fn look(&mut self, store: &impl TokenStore, credential: &Credential<'static>) -> Answer {
        for _ in 0..LOOKS {
            let found = store.find(credential).await?;
            let settings = &self.lookups.settings;
            let kept = Entry::of(found.as_ref(), credential, self.ticket.started, settings);
            if self.lookups.settle(&mut self.ticket, kept) {
                self.has_left = true;
                return Ok(found);
            }
            meter::lookup_overtaken();
        }
        let why = "the token was changed during each of several lookups";
        Err(StoreError::unavailable(why))
    }

    fn land(mut self, ending: Ending, answer: Answer) {
        // First, so that who asks again after a failure begins anew.
        self.leave();
        self.ending = ending;
        if let Some(sender) = self.sender.take() {
            // Nobody may be left to be told.
            let _ = sender.send(answer);
        }
    }

    fn leave(&mut self) {
        if !self.has_left {
            self.has_left = true;
            self.lookups.leave(&self.ticket);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.leave();
        meter::lookup_ended(self.ending);
    }
}
