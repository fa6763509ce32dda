use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::lookups::Lookups;
use super::metrics;

/// How long a lookup keeps its permit after its request was dropped.
const ABANDONED_TIMEOUT: Duration = Duration::from_secs(5);

/// Permission to run one lookup, which ends when it is dropped.
pub(crate) struct LookupPermit {
    lookups: Arc<Lookups>,
}

impl LookupPermit {
    pub(super) fn new(lookups: Arc<Lookups>) -> Self {
        metrics::run_started();
        Self { lookups }
    }

    /// Runs a lookup, and holds the permit until it ends.
    ///
    /// If the returned future is dropped, the lookup continues in a task for at most 5 s: dropping
    /// it does not relieve a store that is working on it, and a client that resets its requests
    /// must not have more lookups at a time than one that waits.
    pub(crate) fn run<T: Send + 'static>(self, lookup: BoxFuture<'static, T>) -> RunningLookup<T> {
        RunningLookup {
            running: Some((lookup, self)),
        }
    }
}

impl Drop for LookupPermit {
    fn drop(&mut self) {
        self.lookups.release();
        metrics::run_ended();
    }
}

/// Future of [`LookupPermit::run`].
pub(crate) struct RunningLookup<T: Send + 'static> {
    running: Option<(BoxFuture<'static, T>, LookupPermit)>,
}

impl<T: Send + 'static> Future for RunningLookup<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Taken out, so that one that panics is not continued.
        let (mut lookup, permit) = self.running.take().expect("polled after completion");
        let found = lookup.as_mut().poll(cx);
        if found.is_pending() {
            self.running = Some((lookup, permit));
        }
        found
    }
}

impl<T: Send + 'static> Drop for RunningLookup<T> {
    fn drop(&mut self) {
        let Some((lookup, permit)) = self.running.take() else {
            return;
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _ = timeout(ABANDONED_TIMEOUT, lookup).await;
                drop(permit);
            });
        }
    }
}
