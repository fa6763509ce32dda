use http::StatusCode;

use crate::lifecycle::{FieldProblem, LifecycleError};
use crate::transport::BoxError;
use crate::wire::TokenInfo;

/// A call of [`ServiceTokensClient`](super::ServiceTokensClient) failed.
///
/// `Display` is for people. It repeats at most 500 characters of the server's message, without
/// control characters and without the token of the request.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ClientError(pub(super) Box<Inner>);

#[derive(Debug, thiserror::Error)]
#[error("{message}{}", Self::list(problems))]
pub(super) struct Inner {
    pub(super) kind: ClientErrorKind,
    pub(super) message: String,
    pub(super) status: Option<StatusCode>,
    pub(super) code: Option<String>,
    pub(super) problems: Vec<FieldProblem>,
    pub(super) missing: Vec<String>,
    pub(super) forbidden: Option<usize>,
    pub(super) token: Option<TokenInfo>,
    pub(super) source: Option<BoxError>,
}

/// The causes of a [`ClientError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientErrorKind {
    /// No complete response: the connection failed or ended early. If there was a connection, the
    /// server may have made the change.
    Unreachable,
    /// The server's certificate is not accepted: it is not signed by a trusted authority, for another
    /// name, expired, or a CA certificate. Nothing was sent.
    Certificate,
    /// The call timed out. The server may have made the change.
    TimedOut,
    /// The server does not accept the client's token (401).
    Unauthenticated,
    /// The client's token lacks the scope for the call, or is not in the registry that it would
    /// change (403).
    Forbidden,
    /// The client's token lacks roles or scopes that the token has or would have, or expires before
    /// it (403).
    EscalationDenied,
    /// There is no such token (404).
    NotFound,
    /// The state of the tokens does not allow the change (409): the name is taken, the token is
    /// revoked or expired, another call rotated it, there are too many tokens, or the number of
    /// tokens is unexpected. [`code`](ClientError::code) names the cause.
    Conflict,
    /// No other token may administer tokens (409). Changed only after
    /// [`allow_last_admin_removal`](super::ServiceTokensClient::allow_last_admin_removal).
    LastAdmin,
    /// The token is no longer at the expected revision (412).
    RevisionMismatch,
    /// The client presented the secret from before the last rotation (428). It rotates only with
    /// [`if_revision`](super::ServiceTokensClient::if_revision).
    RevisionRequired,
    /// The request breaks a rule (400, 413, 415, 422). [`problems`](ClientError::problems) names the
    /// fields.
    Invalid,
    /// A token was created earlier with the same idempotency key:
    /// [`token`](ClientError::token). Its secret is not shown again. A rotation issues another one.
    AlreadyCreated,
    /// The token was rotated earlier with the same idempotency key: [`token`](ClientError::token). Its
    /// secret is not shown again. The secret from before is valid until the grace period ends, and
    /// another rotation, which issues another secret, ends that grace period.
    AlreadyRotated,
    /// Too many requests (429).
    RateLimited,
    /// The server failed, or its store is unavailable (5xx). The server may have made the change, also
    /// if [`code`](ClientError::code) is `change_failed`.
    Server,
    /// Not a response of the management API. Check the URL, and the proxies in between. The change
    /// may have been made.
    UnexpectedResponse,
}

impl ClientError {
    pub(super) fn new(kind: ClientErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            status: None,
            code: None,
            problems: Vec::new(),
            missing: Vec::new(),
            forbidden: None,
            token: None,
            source: None,
        }))
    }

    pub(super) fn unexpected(message: impl Into<String>) -> Self {
        Self::new(ClientErrorKind::UnexpectedResponse, message)
    }

    /// Creates the error of a request that cannot be sent.
    pub(super) fn invalid(problem: FieldProblem) -> Self {
        let mut error = Self::new(ClientErrorKind::Invalid, "fields break rules");
        error.0.problems.push(problem);
        error
    }

    pub(super) fn already_created(token: TokenInfo) -> Self {
        let message = "the token was created earlier and its secret is not shown again; \
                       rotate it for another secret";
        let mut error = Self::new(ClientErrorKind::AlreadyCreated, message);
        error.0.token = Some(token);
        error
    }

    pub(super) fn not_found() -> Self {
        Self::new(
            ClientErrorKind::NotFound,
            LifecycleError::NotFound.to_string(),
        )
    }

    pub(super) fn ambiguous_number() -> Self {
        let message = LifecycleError::AmbiguousNumber.to_string();
        Self::new(ClientErrorKind::Conflict, message)
    }

    pub(super) fn already_rotated(token: TokenInfo) -> Self {
        let message = "the token was rotated, but the response with its secret was lost; \
                       rotate it again for another secret";
        let mut error = Self::new(ClientErrorKind::AlreadyRotated, message);
        error.0.token = Some(token);
        error
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(super) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns the cause.
    pub fn kind(&self) -> ClientErrorKind {
        self.0.kind
    }

    /// Returns the status of the response, if there was one.
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// Returns the `code` of the response, such as `name_taken`.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// Returns the fields of the request that break rules. It may be empty for
    /// [`Invalid`](ClientErrorKind::Invalid).
    pub fn problems(&self) -> &[FieldProblem] {
        &self.0.problems
    }

    /// Returns the roles and scopes that the client's token lacks, for
    /// [`EscalationDenied`](ClientErrorKind::EscalationDenied). It is empty if the changed token
    /// would outlive the client's, and for bulk revocations.
    pub fn missing(&self) -> &[String] {
        &self.0.missing
    }

    /// Returns the number of matching tokens that the client's token may not revoke, for
    /// [`EscalationDenied`](ClientErrorKind::EscalationDenied) of a bulk revocation.
    pub fn forbidden(&self) -> Option<usize> {
        self.0.forbidden
    }

    /// Returns the token that was created or rotated earlier, for
    /// [`AlreadyCreated`](ClientErrorKind::AlreadyCreated) and
    /// [`AlreadyRotated`](ClientErrorKind::AlreadyRotated).
    pub fn token(&self) -> Option<&TokenInfo> {
        self.0.token.as_ref()
    }
}

impl Inner {
    fn list(problems: &[FieldProblem]) -> String {
        let mut separator = ": ";
        let text = |problem: &FieldProblem| {
            let separator = std::mem::replace(&mut separator, "; ");
            format!("{separator}{}: {}", problem.pointer, problem.detail)
        };
        problems.iter().map(text).collect()
    }
}
