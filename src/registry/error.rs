use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::principal::Requirement;
use crate::store::{DenialKind, StoreError};

/// The error of a [`TokenRegistry`](super::TokenRegistry) that did not make a change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A token with this id exists.
    #[error("a token with this id exists")]
    DuplicateId,
    /// A token with this digest exists.
    #[error("a token with this digest exists")]
    DuplicateDigest,
    /// Another token has this name.
    #[error("another token has this name")]
    NameTaken,
    /// The maximum number of tokens is reached.
    #[error("there are as many tokens as allowed")]
    TooManyTokens,
    /// There is no token with this id.
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
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The actor's token is no longer accepted.
    ActorTokenRejected(DenialKind),
    /// The actor's token no longer meets a requirement of the call.
    RequirementNotMet(Arc<Requirement>),
    /// The actor lacks roles or scopes that the token has, or would have.
    EscalationDenied {
        /// The roles and scopes, each once.
        missing: Vec<String>,
    },
    /// The token would be valid for longer than the actor's own.
    OutlivesActor {
        /// When the actor's token expires.
        latest: SystemTime,
    },
    /// The actor presented the secret from before the last rotation and named no revision.
    PreviousSecret,
}

impl AuthorityError {
    pub(super) fn escalation(names: Vec<String>) -> Self {
        let mut seen = HashSet::with_capacity(names.len());
        let is_new: Vec<bool> = names
            .iter()
            .map(|name| seen.insert(name.as_str()))
            .collect();
        let names = names.into_iter().zip(is_new);
        let missing = names.filter_map(|(name, is_new)| is_new.then_some(name));
        Self::EscalationDenied {
            missing: missing.collect(),
        }
    }
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ActorTokenRejected(kind) => {
                write!(f, "caller's token is no longer accepted: {kind}")
            }
            Self::RequirementNotMet(requirement) => {
                let names: Vec<_> = requirement.names().collect();
                let joint = if requirement.requires_all() {
                    " and "
                } else {
                    " or "
                };
                write!(f, "caller's token lacks {}", names.join(joint))
            }
            Self::EscalationDenied { missing } => {
                write!(
                    f,
                    "caller is missing roles or scopes of the token: {}",
                    missing.join(", ")
                )
            }
            Self::OutlivesActor { latest } => write!(
                f,
                "token would outlive the caller's own, which expires at {}",
                jiff::Timestamp::try_from(*latest).unwrap_or(jiff::Timestamp::MAX)
            ),
            Self::PreviousSecret => {
                f.write_str("the previous secret rotates its token only at a given revision")
            }
        }
    }
}

impl std::error::Error for AuthorityError {}
