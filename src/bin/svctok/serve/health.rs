use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use http::header::CACHE_CONTROL;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tower_service_token::token::TokenId;

use crate::store_url::OpenedStore;

/// After which a store that has not answered cannot be asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// For how long an answer is good for others who ask, so that asking costs the store little.
const FRESH: Duration = Duration::from_millis(500);

/// Whether requests make sense now.
pub(super) struct Health {
    store: OpenedStore,
    stopping: watch::Receiver<bool>,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Health {
    pub(super) fn new(store: OpenedStore, stopping: watch::Receiver<bool>) -> Self {
        let last = Mutex::new(None);
        Self {
            store,
            stopping,
            last,
        }
    }

    async fn is_ready(&self) -> bool {
        if *self.stopping.borrow() {
            return false;
        }
        timeout(PATIENCE, self.last_answer()).await.unwrap_or(false)
    }

    /// Who comes while the store is asked waits for that answer.
    async fn last_answer(&self) -> bool {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = *last
            && at.elapsed() < FRESH
        {
            return answer;
        }
        let answer = match &self.store {
            OpenedStore::Registry(registry) => {
                let id = TokenId::from_i64(1).expect("ids begin at zero");
                registry.get(id).await.is_ok()
            }
            // In memory, and read before the service began.
            OpenedStore::ReadOnly(_) => true,
        };
        *last = Some((Instant::now(), answer));
        answer
    }
}

/// `/healthz`: the process runs. `/readyz`: the store can be asked, and the service does not stop.
pub(super) fn routes(health: &Arc<Health>) -> Router {
    let health = Arc::clone(health);
    let ready = move || {
        let health = Arc::clone(&health);
        async move {
            if health.is_ready().await {
                answer(StatusCode::OK, "ready\n")
            } else {
                answer(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
            }
        }
    };
    Router::new()
        .route("/healthz", get(async || answer(StatusCode::OK, "ok\n")))
        .route("/readyz", get(ready))
}

type Answer = (
    StatusCode,
    [(http::HeaderName, &'static str); 1],
    &'static str,
);

fn answer(status: StatusCode, text: &'static str) -> Answer {
    (status, [(CACHE_CONTROL, "no-store")], text)
}

#[cfg(test)]
mod tests {
    use tower_service_token::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_service_that_stops_is_not_ready() {
        let (stopping, stopped) = watch::channel(false);
        let store = OpenedStore::Registry(Arc::new(MemoryStore::new()));
        let health = Health::new(store, stopped);
        assert!(health.is_ready().await);
        stopping.send(true).unwrap();
        assert!(!health.is_ready().await);
    }
}
