use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use tower_service_token::internal::{ErrorChain, redact_tokens};

/// The failure of a command, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: FailureKind,
    message: String,
    hint: Option<String>,
}

/// The cause of a failure, which determines the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// 0: the reader of the output has closed the pipe.
    BrokenPipe = 0,
    /// 1: the request was rejected, or broke a rule.
    Rejected = 1,
    /// 2: the command line is invalid.
    Usage = 2,
    /// 3: the server failed.
    Server = 3,
    /// 4: there is no connection to a server or store, or it does not accept the credential.
    Unreachable = 4,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn rejected(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Rejected, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Usage, message)
    }

    /// Creates a failure from an error and its sources, preceded by what was attempted.
    pub(crate) fn context(
        kind: FailureKind,
        context: impl fmt::Display,
        error: &dyn Error,
    ) -> Self {
        Self::new(kind, format!("{context}: {}", ErrorChain(error)))
    }

    /// Creates a failure from an error and its sources.
    pub(crate) fn from_error(kind: FailureKind, error: &dyn Error) -> Self {
        Self::new(kind, ErrorChain(error).to_string())
    }

    /// Adds what to do about the failure.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn kind(&self) -> FailureKind {
        self.kind
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", redact_tokens(&self.message))?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {}", redact_tokens(hint)),
            None => Ok(()),
        }
    }
}

/// Turns the errors of an operation into failures.
pub(crate) trait OrFail<T> {
    /// Adds what was attempted, such as "cannot read FILE".
    fn or_fail(self, kind: FailureKind, attempted: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: Error> OrFail<T> for Result<T, E> {
    fn or_fail(self, kind: FailureKind, attempted: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::context(kind, attempted, &error))
    }
}
