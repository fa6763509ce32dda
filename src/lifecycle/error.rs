use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::ChangedToken;
use crate::registry::{AuthorityError, RegistryError};
use crate::store::{StoreError, TokenRecord};
use crate::token::MintError;

/// The error of [`ServiceTokens`](super::ServiceTokens). Unless a variant says otherwise, nothing
/// was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LifecycleError {
    /// Fields violate rules. Each problem names its field.
    #[error("{}", join_problems(.0))]
    Invalid(Vec<FieldProblem>),
    /// There is no such token, or it belongs to another owner than the one that the actor is
    /// [confined](super::Actor::confined_to) to.
    #[error("there is no such token")]
    NotFound,
    /// Several tokens of an earlier release have this [number](crate::token::TokenId::number).
    #[error("several tokens have this number; use the id of ten characters")]
    AmbiguousNumber,
    /// Another token has this name.
    #[error("another token has this name")]
    NameTaken,
    /// Another token has this digest as its current or previous one.
    #[error("another token has this digest")]
    DigestTaken,
    /// The policy's maximum number of tokens, or of tokens of the owner, is reached.
    #[error("there are as many tokens as allowed; revoke one first")]
    TooManyTokens,
    /// The token was revoked, which is final.
    #[error("the token was revoked, which is final; create another")]
    Revoked,
    /// The token has expired. Change its expiry first.
    #[error("the token has expired; change its expiry first")]
    Expired,
    /// The token is not at the required [revision](crate::store::TokenRecord::revision).
    #[error("the token was changed since it was read")]
    RevisionMismatch,
    /// The token was rotated by another call at the same time.
    #[error("the token was rotated by another call at the same time")]
    ConcurrentRotation,
    /// The actor lacks the authority for the change.
    #[error(transparent)]
    Unauthorized(#[from] AuthorityError),
    /// The actor's token is not in the registry, and there is no
    /// [declared store](super::ServiceTokens::with_actor_store) to look it up in.
    #[error("caller's token is not in this registry; declare its store with with_actor_store")]
    UnknownActor,
    /// No other valid token may administer tokens. Confirm the change with
    /// [`allow_last_admin_removal`](super::ServiceTokens::allow_last_admin_removal).
    #[error("no other valid token may administer tokens")]
    LastAdmin,
    /// This actor created the token before, with the same [idempotency
    /// key](super::NewToken::with_idempotency_key). To get a secret, rotate the token.
    #[error(
        "this token was created before, and its secret is not returned again; rotate the token"
    )]
    AlreadyCreated(Box<TokenRecord>),
    /// This actor rotated the token before, with the same [idempotency
    /// key](super::ServiceTokens::rotate_once).
    #[error(
        "this token was rotated before, and its secret is not returned again; rotate it with another \
         key"
    )]
    AlreadyRotated(Box<ChangedToken>),
    /// This idempotency key was used for something else: another token, or another grace period.
    #[error("this idempotency key was used for another request; use a key of its own for each")]
    IdempotencyKeyReused,
    /// The filter does not match the expected number of tokens, or matches so many that an expected
    /// number is required.
    #[error("{}", describe_count(*.expected, *.found))]
    UnexpectedCount {
        /// How many were expected, if a number was given.
        expected: Option<usize>,
        /// How many tokens match.
        found: usize,
    },
    /// The actor may not revoke some of the tokens that a filter matches.
    #[error("the caller may not revoke {forbidden} of {found} matching tokens")]
    TokensNotCovered {
        /// How many of them the actor does not cover: at most 1 if the actor may not list tokens.
        forbidden: usize,
        /// How many tokens match, of those that are counted.
        found: usize,
    },
    /// The [check](super::ActorCheck) of the actor failed, so that it is unknown whether the actor is
    /// still accepted.
    #[error("the check of the caller is unavailable")]
    ActorCheck(#[source] CallbackError),
    /// The [policies of owners](super::OwnerPolicies) are unavailable.
    #[error("the policy of the owner is unavailable")]
    OwnerPolicies(#[source] CallbackError),
    /// The operating system returned no random bytes for a secret.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The store is unavailable. It is unknown whether a change was made.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The error of an [`ActorCheck`](super::ActorCheck) or of [`OwnerPolicies`](super::OwnerPolicies):
/// what the application queries is unavailable. The response is 503.
///
/// The source is for logs and is never in a response. It must contain no secret.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CallbackError(Box<dyn Error + Send + Sync>);

impl CallbackError {
    /// Creates the error of a session store, a database or another service that is unreachable or
    /// timed out.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

/// A field that violates a rule. `Display` writes the pointer and the description: `/name: …`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema), schema(as = ServiceTokenFieldProblem))]
pub struct FieldProblem {
    /// A JSON pointer (RFC 6901) to the field in the request: `/name`, `/roles/0`.
    pub pointer: Cow<'static, str>,
    /// A description for people. It does not contain the value.
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

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pointer, self.detail)
    }
}

impl LifecycleError {
    /// Returns [`Invalid`](Self::Invalid) if there are problems.
    pub(super) fn check(problems: Vec<FieldProblem>) -> Result<(), Self> {
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Self::Invalid(problems))
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
            RegistryError::Unauthorized(error) => Self::Unauthorized(error),
            RegistryError::LastAdmin => Self::LastAdmin,
            error @ (RegistryError::DuplicateId | RegistryError::DuplicateNumber) => {
                Self::Store(StoreError::corrupt(error))
            }
        }
    }
}

fn describe_count(expected: Option<usize>, found: usize) -> String {
    let tokens = if found == 1 { "token" } else { "tokens" };
    let expected = expected.map_or_else(
        || "repeat with the expected number to confirm".to_owned(),
        |expected| format!("expected {expected}"),
    );
    format!("filter matches {found} {tokens}, {expected}")
}

fn join_problems(problems: &[FieldProblem]) -> String {
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}
