use std::sync::Arc;

use super::error::{ApiError, ErrorFormat, unavailable_rejection};
use crate::lifecycle::{LifecycleError, ServiceTokens};
use crate::middleware::Checker;
use crate::observe::{self, RequestInfo};

/// What the handlers of an API share: the tokens that it manages, the checks of its callers, and
/// what only that API needs.
pub(super) struct ApiState<X> {
    pub(super) tokens: ServiceTokens,
    pub(super) checker: Arc<Checker>,
    pub(super) extra: X,
}

impl<X> ApiState<X> {
    /// Creates the error of a failed read.
    pub(super) fn error<F: ErrorFormat>(&self, error: LifecycleError) -> ApiError<F> {
        ApiError::from_error(error, &self.checker)
    }

    /// Creates the error of a failed change. An outage becomes `change_failed`.
    pub(super) fn change_error<F: ErrorFormat>(&self, error: LifecycleError) -> ApiError<F> {
        match self.error(error) {
            ApiError::Rejected(rejection) => ApiError::Rejected(rejection.of_change()),
            failed @ ApiError::Failed { .. } => failed,
        }
    }

    /// Returns a function that logs a failure after the response began.
    pub(super) fn failure_report(
        &self,
        request: RequestInfo,
    ) -> impl Fn(LifecycleError) + Clone + use<X> {
        let checker = Arc::clone(&self.checker);
        move |error| {
            observe::response_aborted(&unavailable_rejection(error, &checker), &request);
        }
    }
}
