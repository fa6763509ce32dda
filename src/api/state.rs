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

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::time::{Duration, SystemTime};

    use axum::body::to_bytes;
    use axum::response::{IntoResponse, Response};
    use futures::executor::block_on;

    use super::*;
    use crate::lifecycle::{CallbackError, ChangedToken, FieldProblem};
    use crate::principal::Requirement;
    use crate::registry::AuthorityError;
    use crate::reject::Rejection;
    use crate::store::{DenialKind, StoreError, TokenRecord};
    use crate::token::TokenFormat;
    use crate::{MemoryStore, ServiceTokenLayer, wire};

    fn record() -> TokenRecord {
        let token = TokenFormat::default().mint().expect("random bytes");
        TokenRecord::from(&token)
    }

    /// Returns an error of each kind, for each reason of a denial.
    fn authority_errors() -> impl Iterator<Item = AuthorityError> {
        let denials = [
            DenialKind::Unknown,
            DenialKind::Revoked,
            DenialKind::Disabled,
            DenialKind::Expired,
            DenialKind::WrongDigest,
            DenialKind::Superseded,
            DenialKind::NotYetValid,
        ];
        let authority = [
            AuthorityError::ActorRejected,
            AuthorityError::RequirementNotMet(Arc::new(Requirement::all_roles(["a"]))),
            AuthorityError::EscalationDenied {
                missing: vec!["a".into()],
            },
            AuthorityError::OutlivesActor {
                latest: SystemTime::UNIX_EPOCH,
            },
            AuthorityError::PreviousSecret,
        ];
        let denials = denials.map(AuthorityError::ActorTokenRejected);
        denials.into_iter().chain(authority)
    }

    /// Returns an error of each variant, except `Mint`, which only the operating system causes.
    fn errors() -> Vec<LifecycleError> {
        use LifecycleError::*;
        let changed = ChangedToken {
            record: record(),
            effective_within: Duration::ZERO,
        };
        let others = [
            Invalid(vec![FieldProblem::new("/name", "too long")]),
            NotFound,
            AmbiguousNumber,
            NameTaken,
            DigestTaken,
            TooManyTokens,
            Revoked,
            Expired,
            RevisionMismatch,
            ConcurrentRotation,
            UnknownActor,
            LastAdmin,
            AlreadyCreated(Box::new(record())),
            AlreadyRotated(Box::new(changed)),
            IdempotencyKeyReused,
            UnexpectedCount {
                expected: Some(1),
                found: 2,
            },
            TokensNotCovered {
                forbidden: 1,
                found: 2,
            },
            ActorCheck(CallbackError::unavailable("down")),
            OwnerPolicies(CallbackError::unavailable("down")),
            Store(StoreError::unavailable("down")),
            Store(StoreError::rate_limited(Duration::from_secs(7))),
            Store(StoreError::corrupt("a row")),
        ];
        authority_errors().map(Unauthorized).chain(others).collect()
    }

    fn status_and_code(response: Response) -> (u16, String) {
        let status = response.status().as_u16();
        let body = block_on(to_bytes(response.into_body(), 4096)).expect("a short body");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        (status, body["code"].as_str().expect("a code").to_owned())
    }

    #[test]
    fn the_source_of_a_rejection_names_the_unavailable_callback() {
        use LifecycleError::{ActorCheck, OwnerPolicies};
        type Callback = fn(CallbackError) -> LifecycleError;

        let store = MemoryStore::new();
        let state = ApiState {
            tokens: ServiceTokens::new(store.clone()),
            checker: ServiceTokenLayer::new(store).checker(),
            extra: (),
        };
        let callbacks: [(Callback, &str); 2] = [
            (ActorCheck, "the check of the caller is unavailable"),
            (OwnerPolicies, "the policy of the owner is unavailable"),
        ];
        for (callback, expected) in callbacks {
            let error = || callback(CallbackError::unavailable("no route to host"));
            let api = state.change_error::<Box<wire::Problem>>(error());
            for response in [api.into_response(), error().into_response()] {
                let rejection: &Rejection = response.extensions().get().expect("a rejection");
                let source = rejection.source().expect("a source");
                assert_eq!(source.to_string(), expected);
                let cause = source.source().expect("a cause");
                assert_eq!(cause.to_string(), "no route to host");
            }
        }
    }

    #[test]
    fn own_handlers_and_the_api_respond_to_an_error_alike() {
        let store = MemoryStore::new();
        let state = ApiState {
            tokens: ServiceTokens::new(store.clone()),
            checker: ServiceTokenLayer::new(store).checker(),
            extra: (),
        };
        for error in errors() {
            let what = format!("{error:?}");
            let expected = (error.status().as_u16(), error.code().to_owned());
            let api: ApiError<Box<wire::Problem>> = state.change_error(error);
            assert_eq!(status_and_code(api.into_response()), expected, "{what}");
        }
        for error in errors() {
            let what = format!("{error:?}");
            let expected = (error.status().as_u16(), error.code().to_owned());
            assert_eq!(status_and_code(error.into_response()), expected, "{what}");
        }
    }
}
