use tower_service_token::store::{FeedStatus, StoreError};

use super::periodic_check::{CheckError, Transition};
use super::status::{Condition, Operation};
use crate::failure::{Failure, FailureKind};

/// Returns a function that logs changes of the condition and sets the gauge.
pub(super) fn observer(operation: Operation) -> impl FnMut(Transition<StoreError>) + Send {
    let (gauge, failing, recovered) = match operation {
        Operation::Reads => (
            "svctok_store_readable",
            "the store is unreachable",
            "the store is reachable again",
        ),
        Operation::Writes => (
            "svctok_store_writable",
            "the store does not accept changes",
            "the store accepts changes again",
        ),
    };
    move |transition| {
        let Transition {
            before,
            now,
            result,
        } = transition;
        metrics::gauge!(gauge).set(f64::from(u8::from(now == Condition::Ok)));
        match result {
            Err(CheckError::Failed(error)) if before != now => {
                let failure = Failure::from_error(FailureKind::Unreachable, &error);
                tracing::error!(error = failure.message(), "{failing}");
            }
            Err(CheckError::TimedOut) if before != now => {
                tracing::error!(error = "timed out", "{failing}");
            }
            Ok(()) if before == Condition::Failing => tracing::info!("{recovered}"),
            _ => {}
        }
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
            let mut observe = |before, now, result| {
                observe(Transition {
                    before,
                    now,
                    result,
                });
            };
            let failed = || {
                let error = StoreError::unavailable("the disk is full");
                Err(CheckError::Failed(error))
            };
            let timed_out = Err(CheckError::TimedOut);
            observe(Condition::Unknown, Condition::Ok, Ok(()));
            observe(Condition::Ok, Condition::Failing, failed());
            observe(Condition::Failing, Condition::Failing, failed());
            observe(Condition::Failing, Condition::Failing, timed_out);
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
            observe(Transition {
                before: Condition::Unknown,
                now: Condition::Failing,
                result: Err(CheckError::TimedOut),
            });
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("timed out"), "{lines:?}");
    }
}
