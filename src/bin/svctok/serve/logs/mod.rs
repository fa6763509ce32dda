//! The log on stderr, which no request waits for.
//!
//! 1. Lines go through a bounded [queue] to one thread that writes them. If stderr blocks or its
//!    disk is full, lines are dropped and counted, and requests continue.
//! 2. Audit events, problems and all other lines have a queue each: up to 8 MiB, 1 MiB and 1 MiB.
//! 3. After an error the thread retries every second. When it has caught up, one line per class
//!    reports how many lines were dropped. These reports have a queue of their own, so that none of
//!    them is dropped.
//! 4. A panic is one line with its location. Its message may contain a secret, and is left out
//!    unless it is a literal.
//! 5. When the process ends, it waits at most 2 s for the log.

mod filter;
mod queue;
mod rejection_limit;
mod writer;

use std::env;
use std::error::Error;
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::queue::{LineClass, Queue};
use self::rejection_limit::RejectionLimit;
use self::writer::{LogWriter, count_dropped};
use crate::args::{LogFormat, ServeArgs};
use crate::failure::{Failure, FailureKind};

/// How long the process waits for the log when it ends.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The log of the process. When dropped, it waits at most 2 s until the log is written.
#[must_use]
pub(super) struct Logs {
    queue: Arc<Queue>,
}

/// Starts to log to stderr.
pub(super) fn start(args: &ServeArgs) -> Result<Logs, Failure> {
    let cannot = |error: &dyn Error| Failure::context(FailureKind::Rejected, "cannot log", error);
    let queue = Arc::new(Queue::default());
    let filter = filter::filter(args)?;
    let writer = LogWriter::start(Arc::clone(&queue), args.log_format, io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // These would be written to stderr directly, and panic if it is closed.
        .log_internal_errors(false)
        .with_writer(writer.map_err(|error| cannot(&error))?);
    let started = match args.log_format {
        LogFormat::Text => {
            let no_color = env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
            let colors = io::stderr().is_terminal() && !no_color;
            let subscriber = builder.with_ansi(colors).finish();
            subscriber.with(RejectionLimit::new()).try_init()
        }
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .finish()
            .with(RejectionLimit::new())
            .try_init(),
    };
    started.map_err(|error| cannot(&error))?;
    panic::set_hook(Box::new(log_panic));
    Ok(Logs { queue })
}

/// Registers the counters of this module, so that they exist before the first drop.
pub(super) fn register_metrics() {
    for class in LineClass::DROPPABLE {
        count_dropped(class, 0);
    }
    metrics::counter!("svctok_panics_total").increment(0);
}

/// Logs a panic in place of the default hook, which writes to stderr and waits for it.
pub(super) fn log_panic(panic: &PanicHookInfo<'_>) {
    metrics::counter!("svctok_panics_total").increment(1);
    let location = panic.location().map(tracing::field::display);
    let message = panic.payload().downcast_ref::<&'static str>();
    tracing::error!(target: "svctok::panic", location, cause = message, "panicked");
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.queue.flush(FLUSH_TIMEOUT);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    /// What a subscriber writes. Clones share it.
    #[derive(Clone, Default)]
    pub(in super::super) struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        pub(in super::super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Log {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }
}
