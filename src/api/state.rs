use std::sync::Arc;

use super::listing::FailureReport;
use crate::lifecycle::ServiceTokens;
use crate::middleware::Checker;
use crate::observe::RequestInfo;

/// What the handlers of an API share: the tokens that it manages, the checks of its callers, and
/// what only that API needs.
pub(super) struct ApiState<X> {
    pub(super) tokens: ServiceTokens,
    pub(super) checker: Arc<Checker>,
    pub(super) extra: X,
}

impl<X> ApiState<X> {
    /// Creates the log entry for a failure after the response began.
    pub(super) fn failure_report(&self, request: RequestInfo) -> FailureReport {
        FailureReport {
            checker: Arc::clone(&self.checker),
            request,
        }
    }
}
