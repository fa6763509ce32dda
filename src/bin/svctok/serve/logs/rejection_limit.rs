use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::serve::log_limiter::LogLimiter;

/// The target of rejections, which clients without a token cause.
const REJECTION_TARGET: &str = "tower_service_token";

/// Limits the lines of rejected requests. A line is skipped before it is formatted, which costs more
/// than the rejection.
pub(super) struct RejectionLimit(LogLimiter);

impl RejectionLimit {
    pub(super) fn new() -> Self {
        Self(LogLimiter::for_clients())
    }
}

impl<S: Subscriber> Layer<S> for RejectionLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let is_limited = metadata.target() == REJECTION_TARGET && *metadata.level() > Level::WARN;
        !is_limited || self.0.next_counted().is_some()
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::super::tests::Log;
    use super::*;

    #[test]
    fn limits_rejections_but_no_failures_and_no_other_lines() {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(log.clone())
            .finish()
            .with(RejectionLimit::new());
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..1_000 {
                tracing::info!(target: "tower_service_token", "rejected");
                tracing::error!(target: "tower_service_token", "failed");
                tracing::info!(target: "tower_service_token::audit", "audited");
            }
        });
        let log = log.text();
        // A second interval may begin meanwhile.
        assert!((200..=400).contains(&log.matches("rejected").count()));
        assert_eq!(log.matches("failed").count(), 1_000);
        assert_eq!(log.matches("audited").count(), 1_000);
    }
}
