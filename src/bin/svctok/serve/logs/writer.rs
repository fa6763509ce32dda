use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tower_service_token::internal::redact_tokens;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::queue::{LineClass, Queue};
use crate::args::LogFormat;

/// The target of audit events.
pub(super) const AUDIT_TARGET: &str = "tower_service_token::audit";

/// The module that creates the first token: its lines are part of the audit.
const BOOTSTRAP_TARGET: &str = "svctok::serve::bootstrap";

/// The target of reports of dropped lines.
pub(super) const REPORT_TARGET: &str = "svctok::log";

/// How long the writer waits after an error that lasts, such as a full disk or a closed pipe.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long the writer waits for a pipe that does not block and is full.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Hands lines to the thread that writes them, without the secrets of tokens, and never waits.
#[derive(Clone)]
pub(super) struct LogWriter {
    queue: Arc<Queue>,
    format: LogFormat,
}

/// Takes the lines of one class.
pub(super) struct LineWriter<'a> {
    writer: &'a LogWriter,
    class: LineClass,
}

impl LogWriter {
    /// Starts the thread that writes the queued lines to `output`.
    pub(super) fn start(
        queue: Arc<Queue>,
        format: LogFormat,
        output: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let source = Arc::clone(&queue);
        let thread = thread::Builder::new().name("log".to_owned());
        thread.spawn(move || write_all_lines(&source, output))?;
        Ok(Self { queue, format })
    }

    fn push(&self, class: LineClass, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = redact_tokens(&line);
        let line = line.as_bytes();
        let line = if line.len() <= class.max_line() {
            line.into()
        } else {
            truncate(line, class.max_line(), self.format)
        };
        if !self.queue.push(class, line) {
            count_dropped(class, 1);
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter {
            writer: self,
            class: LineClass::Ordinary,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter<'a> {
        LineWriter {
            writer: self,
            class: class(metadata.target(), *metadata.level()),
        }
    }
}

impl Write for LineWriter<'_> {
    /// The subscriber writes each line at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.writer.push(self.class, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Adds to the counter of dropped lines.
pub(super) fn count_dropped(class: LineClass, lines: u64) {
    metrics::counter!("svctok_log_lines_dropped_total", "class" => class.as_str()).increment(lines);
}

fn class(target: &str, level: Level) -> LineClass {
    if target == AUDIT_TARGET || target == BOOTSTRAP_TARGET {
        LineClass::Audit
    } else if target == REPORT_TARGET {
        LineClass::Report
    } else if level <= Level::WARN {
        LineClass::Problem
    } else {
        LineClass::Ordinary
    }
}

/// Returns the beginning of a line that is too long, in valid syntax of the format.
fn truncate(line: &[u8], max: usize, format: LogFormat) -> Box<[u8]> {
    // A control character becomes six characters in JSON.
    let kept = match format {
        LogFormat::Text => max - 64,
        LogFormat::Json => max / 6 - 64,
    };
    let beginning = String::from_utf8_lossy(&line[..kept.min(line.len())]);
    let text = match format {
        LogFormat::Text => format!("{beginning}… ({} bytes in all)\n", line.len()),
        LogFormat::Json => {
            let line = json!({"level": "WARN", "target": REPORT_TARGET,
                "message": "log line cut", "bytes": line.len(), "beginning": beginning});
            format!("{line}\n")
        }
    };
    text.into_bytes().into()
}

fn write_all_lines(queue: &Queue, mut output: impl Write) {
    loop {
        let batch = queue.take();
        write(&mut output, &batch);
        // Queued before the batch counts as written, so that a flush waits for it.
        report_dropped(queue, Instant::now());
        queue.mark_written();
    }
}

fn report_dropped(queue: &Queue, now: Instant) {
    for (class, count) in queue.take_dropped(now) {
        let class = class.as_str();
        tracing::error!(target: REPORT_TARGET, class, count, "dropped log lines");
    }
}

/// Writes the whole batch, however long it takes. Meanwhile lines wait in the queue or are dropped.
fn write(output: &mut impl Write, mut batch: &[u8]) {
    while !batch.is_empty() {
        match output.write(batch) {
            Ok(0) => thread::sleep(RETRY_INTERVAL),
            Ok(written) => batch = &batch[written..],
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock => thread::sleep(POLL_INTERVAL),
                _ => thread::sleep(RETRY_INTERVAL),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_target_and_level() {
        assert_eq!(class(AUDIT_TARGET, Level::INFO), LineClass::Audit);
        assert_eq!(class(BOOTSTRAP_TARGET, Level::INFO), LineClass::Audit);
        assert_eq!(class(REPORT_TARGET, Level::ERROR), LineClass::Report);
        assert_eq!(class("svctok::request", Level::INFO), LineClass::Ordinary);
        assert_eq!(class("svctok::request", Level::WARN), LineClass::Problem);
        assert_eq!(class("svctok::request", Level::ERROR), LineClass::Problem);
    }

    #[test]
    fn reports_are_kept_when_the_queues_are_full() {
        let queue = Arc::new(Queue::default());
        let writer = LogWriter {
            queue: Arc::clone(&queue),
            format: LogFormat::Text,
        };
        while queue.push(LineClass::Problem, (*b"x\n").into()) {}
        while queue.push(LineClass::Ordinary, (*b"x\n").into()) {}
        writer.push(LineClass::Problem, b"x\n");
        let later = Instant::now() + Duration::from_secs(60);
        let subscriber = tracing_subscriber::fmt().with_writer(writer);
        tracing::subscriber::with_default(subscriber.with_ansi(false).finish(), || {
            report_dropped(&queue, later);
        });
        let mut log = Vec::new();
        while !queue.flush(Duration::ZERO) {
            log.extend(queue.take());
            queue.mark_written();
        }
        let log = String::from_utf8(log).unwrap();
        for report in [r#"class="ordinary" count=1"#, r#"class="problem" count=2"#] {
            let report = format!("dropped log lines {report}\n");
            assert_eq!(log.matches(&report).count(), 1, "{report}");
        }
    }

    #[test]
    fn truncates_long_lines_to_valid_output() {
        let max = LineClass::Ordinary.max_line();
        let line = vec![0x1b; max + 1];
        let text = truncate(&line, max, LogFormat::Text);
        assert!(text.len() <= max && text.ends_with(b"bytes in all)\n"));
        let json = truncate(&line, max, LogFormat::Json);
        assert!(json.len() <= max, "{}", json.len());
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["bytes"], max + 1);
    }

    #[test]
    fn write_resumes_after_an_error() {
        struct Flaky(Vec<u8>, bool);
        impl Write for Flaky {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    return Err(ErrorKind::WouldBlock.into());
                }
                self.0.push(bytes[0]);
                Ok(1)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut output = Flaky(Vec::new(), false);
        write(&mut output, b"line\n");
        assert_eq!(output.0, b"line\n");
    }
}
