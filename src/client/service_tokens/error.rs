use std::error::Error;
use std::fmt;

use http::StatusCode;

use crate::lifecycle::{FieldProblem, TokenInfo};

type BoxError = Box<dyn Error + Send + Sync>;

/// A call of [`ServiceTokensClient`](super::ServiceTokensClient) did not succeed.
///
/// `Display` is for people: it repeats what the server said, at most 500 characters of it, without
/// control characters and without the token that was sent.
pub struct ClientError(Box<Inner>);

struct Inner {
    kind: ClientErrorKind,
    message: String,
    status: Option<StatusCode>,
    code: Option<String>,
    problems: Vec<FieldProblem>,
    missing: Vec<String>,
    forbidden: Option<usize>,
    token: Option<TokenInfo>,
    source: Option<BoxError>,
}

/// The causes of a [`ClientError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientErrorKind {
    /// No answer came: there was no connection, or it ended too early. Unless there was none at
    /// all, a change may have been made.
    Unreachable,
    /// The call was not done in time. A change may have been made.
    TimedOut,
    /// The token to authenticate with is not accepted (401).
    Unauthenticated,
    /// That token lacks the scope for the call, or is not in the registry that it would change (403).
    Forbidden,
    /// That token does not cover the roles and scopes that the changed token has or would have, or
    /// expires before it (403).
    EscalationDenied,
    /// There is no such token (404).
    NotFound,
    /// It cannot be done as things are (409): the name is taken, the token was revoked or has
    /// expired, it was rotated by another call, there are too many, or not as many as expected;
    /// [`code`](ClientError::code) says which.
    Conflict,
    /// No other token may administer tokens (409). Changed only after
    /// [`allow_last_admin_removal`](super::ServiceTokensClient::allow_last_admin_removal).
    LastAdmin,
    /// The token is no longer at the revision asked for (412).
    RevisionMismatch,
    /// The client presented the secret from before the last rotation (428). It rotates only with
    /// [`if_revision`](super::ServiceTokensClient::if_revision).
    RevisionRequired,
    /// What was asked for breaks a rule (400, 413, 415, 422); [`problems`](ClientError::problems)
    /// name the fields.
    Invalid,
    /// A token was created with the caller's idempotency key before:
    /// [`token`](ClientError::token). Its secret is not told again; a rotation makes another.
    AlreadyCreated,
    /// The server takes no more calls for the moment (429).
    RateLimited,
    /// The server failed, or cannot reach its store (5xx). A change may have been made.
    Server,
    /// The answer is none of the management API: look at the URL, and at what stands between.
    /// After a change it may have been made.
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

    /// Something that cannot be asked for.
    pub(super) fn invalid(problem: FieldProblem) -> Self {
        Self::new(ClientErrorKind::Invalid, "fields break rules").with_problems(vec![problem])
    }

    pub(super) fn already_created(token: TokenInfo) -> Self {
        let message = "this token was created before, and its secret is not told again; \
                       rotate it for another";
        let mut error = Self::new(ClientErrorKind::AlreadyCreated, message);
        error.0.token = Some(token);
        error
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(super) fn with_code(mut self, code: Option<String>) -> Self {
        self.0.code = code;
        self
    }

    pub(super) fn with_problems(mut self, problems: Vec<FieldProblem>) -> Self {
        self.0.problems = problems;
        self
    }

    pub(super) fn with_missing(mut self, missing: Vec<String>) -> Self {
        self.0.missing = missing;
        self
    }

    pub(super) fn with_forbidden(mut self, forbidden: Option<usize>) -> Self {
        self.0.forbidden = forbidden;
        self
    }

    pub(super) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What the matter is.
    pub fn kind(&self) -> ClientErrorKind {
        self.0.kind
    }

    /// The status of the answer, if there was one.
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// What the server calls it, such as `name_taken`, if it said so.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// The fields that break rules, as pointers into what was sent. Not every
    /// [`Invalid`](ClientErrorKind::Invalid) names some.
    pub fn problems(&self) -> &[FieldProblem] {
        &self.0.problems
    }

    /// The roles and scopes that the client's token lacks, after
    /// [`EscalationDenied`](ClientErrorKind::EscalationDenied). Empty if it lacks none: then the
    /// changed token would outlive it, or the call was a bulk revocation.
    pub fn missing(&self) -> &[String] {
        &self.0.missing
    }

    /// How many of the tokens that a filter matches the client's token may not revoke, after
    /// [`EscalationDenied`](ClientErrorKind::EscalationDenied). `None` if the call was no bulk
    /// revocation.
    pub fn forbidden(&self) -> Option<usize> {
        self.0.forbidden
    }

    /// The token that was [created before](ClientErrorKind::AlreadyCreated).
    pub fn token(&self) -> Option<&TokenInfo> {
        self.0.token.as_ref()
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for (place, problem) in self.0.problems.iter().enumerate() {
            let separator = if place == 0 { ": " } else { "; " };
            write!(f, "{separator}{}: {}", problem.pointer, problem.detail)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        f.debug_struct("ClientError")
            .field("kind", &inner.kind)
            .field("message", &inner.message)
            .field("status", &inner.status)
            .field("code", &inner.code)
            .field("problems", &inner.problems)
            .field("missing", &inner.missing)
            .field("forbidden", &inner.forbidden)
            .field("token", &inner.token.as_ref().map(|token| token.id))
            .field("source", &inner.source)
            .finish()
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source: &(dyn Error + 'static) = self.0.source.as_deref()?;
        Some(source)
    }
}
