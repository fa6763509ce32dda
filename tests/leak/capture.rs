//! The log and the metrics of a piece of code.

#[cfg(feature = "metrics")]
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `body` and returns what it gave, all it logged and the metrics it left.
pub(super) fn captured<T>(body: impl FnOnce() -> T) -> (T, String, String) {
    use tracing_subscriber::fmt::format::FmtSpan;

    crate::heard::hear_everything();
    let buffer = Buffer::default();
    let writer = buffer.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let (value, metrics) = tracing::subscriber::with_default(subscriber, || metered(body));
    (value, buffer.text(), metrics)
}

#[cfg(not(feature = "metrics"))]
fn metered<T>(body: impl FnOnce() -> T) -> (T, String) {
    (body(), String::new())
}

#[cfg(feature = "metrics")]
fn metered<T>(body: impl FnOnce() -> T) -> (T, String) {
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
