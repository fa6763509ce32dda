use std::time::{Duration, SystemTime};

use tower_service_token::client::{ChangedTokenInfo, IssuedTokenInfo};
use tower_service_token::lifecycle::{ChangedToken, IssuedToken};
use tower_service_token::store::TokenRecord;
use tower_service_token::wire::TokenInfo;

use crate::secret::SecretText;

/// A token with a new secret.
pub(crate) struct Issued {
    pub(crate) secret: SecretText,
    pub(crate) token: TokenInfo,
    /// The time after which every node sees the change, at the latest.
    pub(crate) effective_within: Duration,
}

/// A token after a change.
pub(crate) struct Changed {
    pub(crate) token: TokenInfo,
    /// The time after which every node sees the change, at the latest.
    pub(crate) effective_within: Duration,
}

pub(super) fn info(record: &TokenRecord) -> TokenInfo {
    TokenInfo::new(record, SystemTime::now())
}

impl From<IssuedToken> for Issued {
    fn from(issued: IssuedToken) -> Self {
        Self {
            secret: SecretText::new(issued.expose_secret()),
            token: info(issued.record()),
            effective_within: issued.effective_within(),
        }
    }
}

impl From<IssuedTokenInfo> for Issued {
    fn from(issued: IssuedTokenInfo) -> Self {
        Self {
            secret: SecretText::new(issued.expose_secret()),
            token: issued.token().clone(),
            effective_within: issued.effective_within(),
        }
    }
}

impl From<ChangedToken> for Changed {
    fn from(changed: ChangedToken) -> Self {
        Self {
            token: info(&changed.record),
            effective_within: changed.effective_within,
        }
    }
}

impl From<ChangedTokenInfo> for Changed {
    fn from(changed: ChangedTokenInfo) -> Self {
        Self {
            token: changed.token,
            effective_within: changed.effective_within,
        }
    }
}
