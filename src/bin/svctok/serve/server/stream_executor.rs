use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hyper::rt::Executor;

use super::exchange::Exchange;

/// Spawns the tasks of one HTTP/2 connection, each of which answers one request, so that each can
/// be aborted.
///
/// hyper calls the service and then, before it calls it again, the executor with the future that
/// drives the returned future and sends the response. Dropping that resets the stream.
#[derive(Clone, Default)]
pub(super) struct StreamExecutor {
    begun: Arc<Mutex<Weak<Exchange>>>,
}

impl StreamExecutor {
    /// The next task belongs to this exchange.
    pub(super) fn begin(&self, exchange: &Arc<Exchange>) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        *begun = Arc::downgrade(exchange);
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let task = tokio::spawn(future).abort_handle();
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(exchange) = std::mem::take(&mut *begun).upgrade() {
            exchange.set_task(task);
        }
    }
}
