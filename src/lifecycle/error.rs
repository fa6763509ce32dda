use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::principal::Requirement;
use crate::registry::{AuthorityError, RegistryError};
use crate::store::{DenialKind, StoreError, TokenRecord};
use crate::token::MintError;

/// The error of [`ServiceTokens`](super::ServiceTokens). Unless a variant says otherwise, nothing
/// was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LifecycleError {
    /// The request breaks rules; each problem names its field.
    #[error("{}", DisplayProblems(.0))]
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
    /// The policy's maximum number of tokens is reached.
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
    /// The token was rotated by another call at the same time.
    #[error("the token was rotated by another call at the same time")]
    ConcurrentRotation,
    /// The actor lacks roles or scopes that the token has, or would have.
    #[error("caller is missing roles or scopes of the token: {}", .missing.join(", "))]
    EscalationDenied {
        /// The roles and scopes that the actor lacks.
        missing: Vec<String>,
    },
    /// The token would be valid for longer than the actor's own.
    #[error("{}", AuthorityError::OutlivesActor { latest: *.latest })]
    OutlivesActor {
        /// When the actor's token expires.
        latest: SystemTime,
    },
    /// The actor's token is no longer accepted.
    #[error("{}", AuthorityError::ActorTokenRejected(*.0))]
    ActorTokenRejected(DenialKind),
    /// The actor's token no longer holds the roles or scopes that the call needs.
    #[error("{}", AuthorityError::RequirementNotMet(.0.clone()))]
    RequirementNotMet(Arc<Requirement>),
    /// The actor's token is not in the registry, and no
    /// [declared store](super::ServiceTokens::with_actor_store) can be queried for it.
    #[error("caller's token is not in this registry; declare its store with with_actor_store")]
    UnknownActor,
    /// The actor presented the secret from before the last rotation. It rotates only with
    /// [`if_revision`](super::ServiceTokens::if_revision).
    #[error("{}", AuthorityError::PreviousSecret)]
    PreviousSecret,
    /// No other token may administer tokens. Changed only after
    /// [`allow_last_admin_removal`](super::ServiceTokens::allow_last_admin_removal).
    #[error("no other valid token may administer tokens")]
    LastAdmin,
    /// This actor created the token before, with the same [idempotency
    /// key](super::NewToken::with_idempotency_key). Its secret is not returned again: rotate the
    /// token for another.
    #[error(
        "this token was created before, and its secret is not told again; rotate it for another"
    )]
    AlreadyCreated(Box<TokenRecord>),
    /// Another token was created with this idempotency key.
    #[error("another token was created with this idempotency key; use a key of its own for each")]
    IdempotencyKeyReused,
    /// The filter matches another number of tokens than expected, or so many that an expected
    /// number is needed.
    #[error("{}", CountMismatch { expected: *.expected, found: *.found })]
    UnexpectedCount {
        /// How many were expected, if a number was given.
        expected: Option<usize>,
        /// How many tokens match.
        found: usize,
    },
    /// The actor may not revoke some of the tokens that a filter matches.
    #[error("the caller may not revoke {forbidden} of {found} matching tokens")]
    TokensNotCovered {
        /// How many of them the actor does not cover.
        forbidden: usize,
        /// How many tokens match.
        found: usize,
    },
    /// The operating system returned no random bytes for a secret.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The store is unavailable. It is unknown whether a change was made.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A field that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema), schema(as = ServiceTokenFieldProblem))]
pub struct FieldProblem {
    /// A JSON pointer (RFC 6901) to the field in the request: `/name`, `/roles/0`.
    pub pointer: Cow<'static, str>,
    /// What is wrong, for people. It does not repeat the value.
    pub detail: Cow<'static, str>,
}

impl FieldProblem {
    /// Creates a problem with the field at `pointer`.
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
            RegistryError::RevisionMismatch => Self::RevisionMismatch,
            RegistryError::Store(error) => Self::Store(error),
            RegistryError::Unauthorized(error) => error.into(),
            RegistryError::LastAdmin => Self::LastAdmin,
            error @ RegistryError::DuplicateId => Self::Store(StoreError::corrupt(error)),
        }
    }
}

impl From<AuthorityError> for LifecycleError {
    fn from(error: AuthorityError) -> Self {
        match error {
            AuthorityError::ActorTokenRejected(kind) => Self::ActorTokenRejected(kind),
            AuthorityError::RequirementNotMet(requirement) => Self::RequirementNotMet(requirement),
            AuthorityError::EscalationDenied { missing } => Self::EscalationDenied { missing },
            AuthorityError::OutlivesActor { latest } => Self::OutlivesActor { latest },
            AuthorityError::PreviousSecret => Self::PreviousSecret,
        }
    }
}

struct CountMismatch {
    expected: Option<usize>,
    found: usize,
}

impl fmt::Display for CountMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = if self.found == 1 { "token" } else { "tokens" };
        write!(f, "filter matches {} {tokens}, ", self.found)?;
        match self.expected {
            Some(expected) => write!(f, "expected {expected}"),
            None => f.write_str("repeat with the expected number to confirm"),
        }
    }
}

struct DisplayProblems<'a>(&'a [FieldProblem]);

impl fmt::Display for DisplayProblems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", problem.pointer, problem.detail)?;
        }
        Ok(())
    }
}
