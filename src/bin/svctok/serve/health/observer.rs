use std::error::Error;

use tower_service_token::store::{FeedStatus, StoreError};

use super::status::{Condition, Operation};
use crate::failure::{Failure, FailureKind};

/// Returns a function that logs changes and sets the gauge. It takes the previous condition, the
/// current one, and the error, which is `None` after a timeout.
pub(super) fn observer(
    operation: Operation,
) -> impl FnMut(Condition, Condition, Result<(), Option<StoreError>>) + Send {
    move |before, now, outcome| {
        set_gauge(operation, now);
        match outcome {
            Err(error) if before != now => log_failing(operation, error.as_ref()),
            Ok(()) if before == Condition::Failing => log_recovered(operation),
            _ => {}
        }
    }
}

fn set_gauge(operation: Operation, condition: Condition) {
    let value = f64::from(u8::from(condition == Condition::Ok));
    match operation {
        Operation::Reads => metrics::gauge!("svctok_store_readable").set(value),
        Operation::Writes => metrics::gauge!("svctok_store_writable").set(value),
    }
}

fn log_failing(operation: Operation, error: Option<&StoreError>) {
    let error = match error {
        Some(error) => error_chain(error),
        None => "timed out".to_owned(),
    };
    match operation {
        Operation::Reads => tracing::error!(error, "the store is unreachable"),
        Operation::Writes => tracing::error!(error, "the store does not accept changes"),
    }
}

fn log_recovered(operation: Operation) {
    match operation {
        Operation::Reads => tracing::info!("the store is reachable again"),
        Operation::Writes => tracing::info!("the store accepts changes again"),
    }
}

/// Sets the gauge of the change feed, if there is one. Stores log its loss and the cause.
pub(super) fn set_feed_gauge(state: FeedStatus) {
    let is_connected = match state {
        FeedStatus::Connected => 1.0,
        FeedStatus::Lost => 0.0,
        _ => return,
    };
    metrics::gauge!("svctok_change_feed_connected").set(is_connected);
}

/// Returns the messages of an error and its sources.
fn error_chain(error: &dyn Error) -> String {
    let chain = Failure::from_error(FailureKind::Unreachable, error);
    chain.message().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::super::logs::tests::Log;
    use super::*;

    fn logged(observe: impl FnOnce()) -> Vec<String> {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_ansi(false);
        let subscriber = subscriber.with_writer(log.clone()).finish();
        tracing::subscriber::with_default(subscriber, observe);
        log.text().lines().map(str::to_owned).collect()
    }

    #[test]
    fn logs_one_line_per_change_of_condition() {
        let lines = logged(|| {
            let mut observe = observer(Operation::Writes);
            let failed = || Err(Some(StoreError::unavailable("the disk is full")));
            observe(Condition::Unknown, Condition::Ok, Ok(()));
            observe(Condition::Ok, Condition::Failing, failed());
            observe(Condition::Failing, Condition::Failing, failed());
            observe(Condition::Failing, Condition::Failing, Err(None));
            observe(Condition::Failing, Condition::Ok, Ok(()));
            observe(Condition::Ok, Condition::Ok, Ok(()));
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        let failing = ["ERROR", "does not accept changes", "the disk is full"];
        assert!(failing.iter().all(|it| lines[0].contains(it)), "{lines:?}");
        assert!(lines[1].contains("accepts changes again"), "{lines:?}");
    }

    #[test]
    fn logs_a_store_that_fails_from_the_start() {
        let lines = logged(|| {
            let mut observe = observer(Operation::Reads);
            observe(Condition::Unknown, Condition::Failing, Err(None));
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("timed out"), "{lines:?}");
    }
}
