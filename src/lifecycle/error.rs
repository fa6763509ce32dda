use std::borrow::Cow;
use std::fmt;

use crate::store::{RegistryError, StoreError, TokenRecord};
use crate::token::MintError;

/// A token could not be created, read or changed as asked. Unless it says otherwise, nothing was
/// changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LifecycleError {
    /// What was asked for breaks a rule; each problem names its field.
    #[error("{}", Listed(.0))]
    Invalid(Vec<FieldProblem>),
    /// There is no such token.
    #[error("there is no such token")]
    NotFound,
    /// Another token has this name.
    #[error("another token has this name")]
    NameTaken,
    /// Another token has this digest, as its present or its previous one.
    #[error("another token has this digest")]
    DigestTaken,
    /// There are as many tokens as the policy allows.
    #[error("there are as many tokens as allowed; revoke one first")]
    TooManyTokens,
    /// The token was revoked, which is final.
    #[error("the token was revoked, which is final; create another")]
    Revoked,
    /// The token has expired: its expiry must be changed first.
    #[error("the token has expired; change its expiry first")]
    Expired,
    /// The token is no longer at the [revision](crate::store::TokenRecord::revision) asked for.
    #[error("the token was changed since it was read")]
    RevisionMismatch,
    /// The actor lacks roles or scopes that the token has, or would have.
    #[error("nobody grants what they do not hold; missing: {}", .missing.join(", "))]
    EscalationDenied {
        /// The roles and scopes that the actor lacks.
        missing: Vec<String>,
    },
    /// This actor created the token before, with the same
    /// [idempotency key](super::NewToken::with_idempotency_key). Its secret is not told again:
    /// a rotation makes another.
    #[error(
        "this token was created before, and its secret is not told again; rotate it for another"
    )]
    AlreadyCreated(Box<TokenRecord>),
    /// Another token was created with this idempotency key.
    #[error("another token was created with this idempotency key; use a key of its own for each")]
    IdempotencyKeyReused,
    /// Not as many tokens were meant as expected.
    #[error("{found} tokens are meant, not {expected}")]
    UnexpectedCount {
        /// How many were expected.
        expected: usize,
        /// How many are meant.
        found: usize,
    },
    /// No random bytes for a new secret.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The store could not be asked. Whether a change was made is not known.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A field that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// Which field, as a JSON pointer (RFC 6901) into what was asked for: `/name`, `/roles/0`.
    pub pointer: Cow<'static, str>,
    /// What is wrong, for people. The value is not repeated.
    pub detail: Cow<'static, str>,
}

impl FieldProblem {
    /// A problem with the field at `pointer`.
    pub fn new(
        pointer: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }
}

impl From<FieldProblem> for LifecycleError {
    fn from(problem: FieldProblem) -> Self {
        Self::Invalid(vec![problem])
    }
}

impl From<RegistryError> for LifecycleError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::DuplicateDigest => Self::DigestTaken,
            RegistryError::NameTaken => Self::NameTaken,
            RegistryError::TooManyTokens => Self::TooManyTokens,
            RegistryError::UnknownId => Self::NotFound,
            RegistryError::Changed => Self::RevisionMismatch,
            RegistryError::Store(error) => Self::Store(error),
            error @ RegistryError::DuplicateId => Self::Store(StoreError::corrupt(error)),
        }
    }
}

struct Listed<'a>(&'a [FieldProblem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", problem.pointer, problem.detail)?;
        }
        Ok(())
    }
}
