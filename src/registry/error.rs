use std::sync::Arc;
use std::time::SystemTime;

use crate::clock::date_time;
use crate::principal::Requirement;
use crate::store::{DenialKind, StoreError};

/// The error of a [`TokenRegistry`](super::TokenRegistry) that did not make a change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A token with this id exists.
    #[error("a token with this id exists")]
    DuplicateId,
    /// A token exists whose id has the same [number](crate::token::TokenId::number).
    #[error("a token exists whose id has the same number")]
    DuplicateNumber,
    /// A token with this digest exists.
    #[error("a token with this digest exists")]
    DuplicateDigest,
    /// Another token has this name.
    #[error("another token has this name")]
    NameTaken,
    /// The maximum number of tokens, or of tokens of the owner, is reached.
    #[error("there are as many tokens as allowed")]
    TooManyTokens,
    /// There is no token with this id, or it does not belong to the owner for whom the actor acts.
    #[error("no token has this id")]
    UnknownId,
    /// The token was changed since it was read.
    #[error("the token was changed since it was read")]
    RevisionMismatch,
    /// The actor that makes the change lacks the authority for it.
    #[error(transparent)]
    Unauthorized(#[from] AuthorityError),
    /// No other token could administer tokens after the change.
    #[error("no other token may administer tokens")]
    LastAdmin,
    /// The store is unavailable. It is unknown whether the change was made.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The actor of a write lacks the authority for it. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The actor's token is no longer accepted.
    #[error("caller's token is no longer accepted: {0}")]
    ActorTokenRejected(DenialKind),
    /// The [owner](crate::lifecycle::Owner) or [operator](crate::lifecycle::Operator) is no longer
    /// accepted: its [check](crate::lifecycle::ActorCheck) rejected it.
    #[error("the session or token of the caller is no longer accepted")]
    ActorRejected,
    /// The actor's token, or its [owner](crate::lifecycle::Owner), lacks the roles or scopes that the
    /// call requires.
    #[error("caller lacks {}", join_names(.0))]
    RequirementNotMet(Arc<Requirement>),
    /// The actor lacks roles or scopes that the token has, or would have.
    #[error("caller is missing roles or scopes of the token: {}", .missing.join(", "))]
    EscalationDenied {
        /// The roles and scopes, each once.
        missing: Vec<String>,
    },
    /// The token would be valid for longer than the actor's own.
    #[error(
        "token would outlive the caller's own, which expires at {}",
        date_time::format(*.latest).unwrap_or_default()
    )]
    OutlivesActor {
        /// When the actor's token expires.
        latest: SystemTime,
    },
    /// The actor presented the secret from before the last rotation. It may rotate its own token
    /// only [at a revision](crate::ServiceTokens::if_revision).
    #[error("the previous secret rotates its token only at a given revision")]
    PreviousSecret,
}

fn join_names(requirement: &Requirement) -> String {
    let names: Vec<&str> = requirement.names().collect();
    names.join(if requirement.requires_all() {
        " and "
    } else {
        " or "
    })
}
