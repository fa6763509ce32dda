use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use tower_service_token::internal::ErrorChain;

/// Why a command did not do what it was asked for, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: FailureKind,
    message: String,
    hint: Option<String>,
}

/// What the exit code tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// 1: what was asked for is refused, or breaks a rule.
    Refused,
    /// 2: the command line makes no sense.
    Usage,
    /// 3: a server answered with an error of its own.
    Server,
    /// 4: no connection to a server or store, or no credential that it accepts.
    Unreachable,
    /// 0: whoever read the output has read enough.
    BrokenPipe,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Refused, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Usage, message)
    }

    /// The message is what was tried, then what each error in the chain says.
    pub(crate) fn context(
        kind: FailureKind,
        context: impl fmt::Display,
        error: &dyn Error,
    ) -> Self {
        let Self { message, .. } = Self::from_error(kind, error);
        Self::new(kind, format!("{context}: {message}"))
    }

    /// The message is what each error in the chain says.
    pub(crate) fn from_error(kind: FailureKind, error: &dyn Error) -> Self {
        Self::new(kind, ErrorChain(error).to_string())
    }

    /// What to do about it.
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
        ExitCode::from(match self.kind {
            FailureKind::BrokenPipe => 0,
            FailureKind::Refused => 1,
            FailureKind::Usage => 2,
            FailureKind::Server => 3,
            FailureKind::Unreachable => 4,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}
