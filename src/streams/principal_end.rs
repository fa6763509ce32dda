use std::fmt;

use crate::store::DenialKind;

/// Why a principal is no longer the one that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PrincipalEnd {
    /// The token was revoked.
    Revoked,
    /// The token is disabled.
    Disabled,
    /// The token has expired.
    Expired,
    /// The secret was replaced by a rotation, and its grace period has ended.
    Superseded,
    /// The store no longer has the secret: the token was deleted, or rotated without a grace period.
    Unknown,
    /// The token is valid only later.
    NotYetValid,
    /// The token has another role, scope, label, subject or owner: another
    /// [digest](super::RightsDigest). A client that connects again gets the new ones.
    RightsChanged,
    /// The token could not be looked up for longer than the [bound](super::PrincipalWatcherBuilder::with_bound).
    Unavailable,
}

impl PrincipalEnd {
    /// Returns the reason in one word, for logs and the reason of a WebSocket close frame.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Unknown => "unknown",
            Self::NotYetValid => "not_yet_valid",
            Self::RightsChanged => "rights_changed",
            Self::Unavailable => "unavailable",
        }
    }
}

impl From<DenialKind> for PrincipalEnd {
    fn from(kind: DenialKind) -> Self {
        match kind {
            DenialKind::Unknown => Self::Unknown,
            DenialKind::Revoked => Self::Revoked,
            DenialKind::Disabled => Self::Disabled,
            DenialKind::Expired => Self::Expired,
            DenialKind::WrongDigest | DenialKind::Superseded => Self::Superseded,
            DenialKind::NotYetValid => Self::NotYetValid,
        }
    }
}

impl fmt::Display for PrincipalEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
