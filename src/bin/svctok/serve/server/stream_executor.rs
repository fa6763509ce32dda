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
    next_exchange: Arc<Mutex<Weak<Exchange>>>,
}

impl StreamExecutor {
    /// The next task belongs to this exchange.
    pub(super) fn set_next_exchange(&self, exchange: &Arc<Exchange>) {
        let mut next_exchange = self
            .next_exchange
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *next_exchange = Arc::downgrade(exchange);
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let task = tokio::spawn(future).abort_handle();
        let mut next_exchange = self
            .next_exchange
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(exchange) = std::mem::take(&mut *next_exchange).upgrade() {
            exchange.set_task(task);
        }
    }
}
