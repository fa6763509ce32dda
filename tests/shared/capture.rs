//! Captures the log and the metrics of a function.

use crate::log::Log;
#[cfg(feature = "metrics")]
use std::fmt::Write as _;

/// Runs `body` and returns its result, its log and its metrics.
pub fn captured<T>(body: impl FnOnce() -> T) -> (T, String, String) {
    let log = Log::default();
    let guard = log.start();
    let (value, metrics) = with_metrics(body);
    drop(guard);
    (value, log.text(), metrics)
}

#[cfg(not(feature = "metrics"))]
fn with_metrics<T>(body: impl FnOnce() -> T) -> (T, String) {
    (body(), String::new())
}

#[cfg(feature = "metrics")]
fn with_metrics<T>(body: impl FnOnce() -> T) -> (T, String) {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let value = metrics::with_local_recorder(&recorder, body);
    let mut text = String::new();
    for (key, unit, description, _) in recorder.snapshotter().snapshot().into_vec() {
        writeln!(text, "{:?} {unit:?} {description:?}", key.key()).expect("into a string");
        let labels = key
            .key()
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()));
        let labels: Vec<_> = labels.collect();
        writeln!(text, "{}{{{}}}", key.key().name(), labels.join(",")).expect("into a string");
    }
    (value, text)
}
