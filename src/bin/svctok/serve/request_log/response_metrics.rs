use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use http::StatusCode;
use metrics::{Counter, Histogram};

/// The metrics of responses, registered at their first use and kept: a lookup by name costs an
/// allocation and a hash of all labels.
#[derive(Default)]
pub(super) struct ResponseMetrics {
    /// By method and status, of which there are few.
    registered: RwLock<HashMap<(&'static str, StatusCode), Handles>>,
}

#[derive(Clone)]
struct Handles {
    count: Counter,
    seconds: Histogram,
}

impl ResponseMetrics {
    pub(super) fn record(&self, method: &'static str, status: StatusCode, took: Duration) {
        let key = (method, status);
        let registered = self
            .registered
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(handles) = registered.get(&key) {
            return handles.record(took);
        }
        drop(registered);
        let handles = Handles::register(method, status);
        handles.record(took);
        let mut registered = self
            .registered
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        registered.insert(key, handles);
    }
}

impl Handles {
    fn register(method: &'static str, status: StatusCode) -> Self {
        Self {
            count: counter(method, status),
            seconds: metrics::histogram!("svctok_http_request_seconds", "method" => method),
        }
    }

    fn record(&self, took: Duration) {
        self.count.increment(1);
        self.seconds.record(took);
    }
}

/// Returns the counter of responses with this status.
pub(super) fn counter(method: &'static str, status: StatusCode) -> Counter {
    let status = status.as_u16().to_string();
    metrics::counter!("svctok_http_requests_total", "method" => method, "status" => status)
}
