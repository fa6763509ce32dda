#[cfg(not(feature = "tokio"))]
use std::convert::Infallible as LookupPermit;
use std::time::Duration;

use super::client::Client;
#[cfg(feature = "tokio")]
use super::failure_limit::{FailureLimit, LookupPermit};
use crate::digest::TokenDigest;

/// The failure limit of a layer or an endpoint, if it has one. Without the feature `tokio` it has
/// none.
#[derive(Clone, Debug, Default)]
pub(crate) struct OptionalFailureLimit {
    #[cfg(feature = "tokio")]
    limit: Option<FailureLimit>,
    /// Whether the user set `limit`.
    #[cfg(feature = "api")]
    is_set: bool,
}

#[cfg(feature = "tokio")]
impl OptionalFailureLimit {
    pub(crate) fn new(limit: Option<FailureLimit>) -> Self {
        Self {
            limit,
            #[cfg(feature = "api")]
            is_set: true,
        }
    }

    /// Returns the limit that the user set, or else this one.
    #[cfg(feature = "api")]
    pub(crate) fn or_else(self, limit: impl FnOnce() -> Option<FailureLimit>) -> Self {
        if self.is_set {
            self
        } else {
            Self::new(limit())
        }
    }

    #[cfg(feature = "api")]
    pub(crate) fn limit(&self) -> Option<&FailureLimit> {
        self.limit.as_ref()
    }
}

#[cfg_attr(
    not(feature = "tokio"),
    expect(
        clippy::unnecessary_wraps,
        clippy::unused_async,
        clippy::unused_self,
        reason = "there is no limit"
    )
)]
impl OptionalFailureLimit {
    /// Waits until a lookup of this token may run. Returns its permit, `None` if it needs none, or
    /// when to retry.
    pub(crate) async fn admit(
        &self,
        digest: &TokenDigest,
        client: Client,
    ) -> Result<Option<LookupPermit>, Duration> {
        #[cfg(feature = "tokio")]
        if let Some(limit) = &self.limit {
            return limit.admit(digest, client).await;
        }
        let _ = (digest, client);
        Ok(None)
    }

    /// Records that a lookup accepted this token.
    pub(crate) fn accepted(&self, digest: &TokenDigest) {
        #[cfg(feature = "tokio")]
        if let Some(limit) = &self.limit {
            limit.lookups.remember(digest);
        }
        let _ = digest;
    }

    /// Records that a lookup did not accept this token.
    pub(crate) fn rejected(&self, digest: &TokenDigest) {
        #[cfg(feature = "tokio")]
        if let Some(limit) = &self.limit {
            limit.lookups.forget(digest);
        }
        let _ = digest;
    }

    /// Counts a failure. Returns when to retry if the budget of the client is exhausted.
    pub(crate) fn count_failure(&self, client: Client) -> Result<(), Duration> {
        #[cfg(feature = "tokio")]
        if let Some(limit) = &self.limit {
            return limit.count(client);
        }
        let _ = client;
        Ok(())
    }
}
