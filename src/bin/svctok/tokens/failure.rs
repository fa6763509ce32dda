use tower_service_token::client::{ClientError, ClientErrorKind};
use tower_service_token::lifecycle::{FieldProblem, LifecycleError};
use tower_service_token::store::StoreErrorKind;

use crate::failure::{Failure, FailureKind};
use crate::store_handle::token_file_failure;

const CREDENTIAL_HINT: &str = "specify another token with --service-token-file, --service-token-stdin \
                             or SVCTOK_TOKEN, or save the context again";
const REVISION_HINT: &str = "`svctok get` shows the current revision";
const RECOUNT_HINT: &str = "count the matching tokens again with --dry-run";
const LAST_ADMIN_HINT: &str =
    "create another token with the scope service-tokens:admin first, or confirm with --last-admin";
const CHECK_FIRST: &str =
    "the change may have been made: check with `svctok get` or `svctok list` before retrying";

/// Returns the failure of a call to the server at `url`.
pub(super) fn server_failure(url: &str, error: &ClientError) -> Failure {
    let kind = failure_kind(error.kind());
    let hint = match (error.kind(), error.code()) {
        (ClientErrorKind::Unauthenticated, _) => CREDENTIAL_HINT,
        (ClientErrorKind::Unreachable, _) => {
            "check that the server is running and that the URL is correct"
        }
        (ClientErrorKind::Certificate, _) => {
            "check the server's certificate and the name in the URL; SSL_CERT_FILE names the \
             authorities to trust"
        }
        (ClientErrorKind::TimedOut | ClientErrorKind::Server, _) => CHECK_FIRST,
        (ClientErrorKind::RateLimited, _) => "retry later",
        (ClientErrorKind::UnexpectedResponse, _) => {
            "check that the URL is the base of the management API, without /service-tokens"
        }
        (ClientErrorKind::Forbidden, Some("unknown_actor")) => {
            "use a token that was created at this server"
        }
        (ClientErrorKind::Forbidden, _) => {
            "the token needs the scope service-tokens:read for reads, and service-tokens:write for \
             changes"
        }
        (ClientErrorKind::EscalationDenied, _) => escalation_hint(error),
        (ClientErrorKind::LastAdmin, _) => LAST_ADMIN_HINT,
        (ClientErrorKind::RevisionMismatch, _) => REVISION_HINT,
        (ClientErrorKind::RevisionRequired, _) => {
            "repeat with --if-revision and the revision that `svctok get self` shows"
        }
        (ClientErrorKind::Conflict, Some("rotated_meanwhile")) => {
            "only one of the new secrets is valid; rotate again to replace it"
        }
        (ClientErrorKind::Conflict, Some("unexpected_count")) => {
            return Failure::from_error(kind, error).with_hint(RECOUNT_HINT);
        }
        (ClientErrorKind::NotFound, _) => return not_found(),
        (ClientErrorKind::Invalid, _) if !error.problems().is_empty() => {
            return Failure::rejected(join_problems(error.problems()));
        }
        _ => return Failure::from_error(kind, error),
    };
    Failure::context(kind, url, error).with_hint(hint)
}

fn failure_kind(kind: ClientErrorKind) -> FailureKind {
    match kind {
        ClientErrorKind::Unauthenticated
        | ClientErrorKind::Unreachable
        | ClientErrorKind::Certificate
        | ClientErrorKind::TimedOut => FailureKind::Unreachable,
        ClientErrorKind::Server
        | ClientErrorKind::RateLimited
        | ClientErrorKind::UnexpectedResponse => FailureKind::Server,
        _ => FailureKind::Rejected,
    }
}

/// Returns what to do about a change that exceeds the rights of the caller's token.
fn escalation_hint(error: &ClientError) -> &'static str {
    if error.forbidden().is_some() {
        "narrow the filter to tokens that the caller's token covers, or use a token with the scope \
         service-tokens:admin"
    } else if error.missing().is_empty() {
        "set --expires-in or --expiration to at most the expiry of the caller's token, which \
         `svctok get self` shows"
    } else {
        "use a token that has these roles and scopes, or one with the scope service-tokens:admin"
    }
}

/// Returns the failure of an operation on a store.
#[expect(clippy::needless_pass_by_value, reason = "the argument of map_err")]
pub(super) fn store_failure(error: LifecycleError) -> Failure {
    let (kind, hint) = match &error {
        LifecycleError::NotFound => return not_found(),
        LifecycleError::Invalid(problems) => return Failure::rejected(join_problems(problems)),
        LifecycleError::LastAdmin => (FailureKind::Rejected, LAST_ADMIN_HINT),
        LifecycleError::RevisionMismatch => (FailureKind::Rejected, REVISION_HINT),
        LifecycleError::UnexpectedCount { .. } => (FailureKind::Rejected, RECOUNT_HINT),
        LifecycleError::Store(error) => {
            if let Some(failure) = token_file_failure(error) {
                return failure;
            }
            let kind = match error.kind() {
                StoreErrorKind::Corrupt => FailureKind::Server,
                _ => FailureKind::Unreachable,
            };
            (kind, CHECK_FIRST)
        }
        _ => return Failure::from_error(FailureKind::Rejected, &error),
    };
    Failure::from_error(kind, &error).with_hint(hint)
}

/// Returns the failure of a bulk deletion after which no token could administer tokens.
pub(super) fn bulk_last_admin_failure() -> Failure {
    Failure::rejected("the filter matches the last token that may administer tokens")
        .with_hint("narrow the filter, and delete that token by its ID with --last-admin")
}

fn not_found() -> Failure {
    Failure::rejected(LifecycleError::NotFound.to_string())
        .with_hint("`svctok list` shows all tokens")
}

fn join_problems(problems: &[FieldProblem]) -> String {
    let problems = problems.iter().map(|problem| {
        let field = problem.pointer.trim_start_matches('/');
        format!("{field}: {}", problem.detail)
    });
    problems.collect::<Vec<_>>().join("; ")
}
