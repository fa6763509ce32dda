use std::time::Duration;

#[cfg(not(feature = "tokio"))]
use futures::future::BoxFuture;

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
    /// Whether the user chose `limit`.
    #[cfg(feature = "api")]
    is_set: bool,
}

impl OptionalFailureLimit {
    #[cfg(feature = "tokio")]
    pub(crate) fn new(limit: Option<FailureLimit>) -> Self {
        Self {
            limit,
            #[cfg(feature = "api")]
            is_set: true,
        }
    }

    /// The user's choice, or else this limit.
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

#[cfg(feature = "tokio")]
impl OptionalFailureLimit {
    /// Waits until a lookup of this token may run. Returns its permit, `None` if it needs none, or
    /// when to try again.
    pub(crate) async fn admit(
        &self,
        digest: &TokenDigest,
        client: Client,
    ) -> Result<Option<LookupPermit>, Duration> {
        match &self.limit {
            Some(limit) => limit.admit(digest, client).await,
            None => Ok(None),
        }
    }

    /// Notes that a lookup accepted this token.
    pub(crate) fn accepted(&self, digest: &TokenDigest) {
        if let Some(limit) = &self.limit {
            limit.remember(digest);
        }
    }

    /// Notes that a lookup did not accept this token.
    pub(crate) fn rejected(&self, digest: &TokenDigest) {
        if let Some(limit) = &self.limit {
            limit.forget(digest);
        }
    }

    /// Counts a failure. Returns when to try again if the client's budget was spent before.
    pub(crate) fn count_failure(&self, client: Client) -> Result<(), Duration> {
        self.limit
            .as_ref()
            .map_or(Ok(()), |limit| limit.count(client))
    }
}

/// Without the feature `tokio` no lookup has a permit.
#[cfg(not(feature = "tokio"))]
pub(crate) enum LookupPermit {}

#[cfg(not(feature = "tokio"))]
impl LookupPermit {
    pub(crate) fn run<T>(self, _: BoxFuture<'static, T>) -> BoxFuture<'static, T> {
        match self {}
    }
}

#[cfg(not(feature = "tokio"))]
#[expect(
    clippy::unnecessary_wraps,
    clippy::unused_self,
    reason = "there is no limit"
)]
impl OptionalFailureLimit {
    #[expect(clippy::unused_async, reason = "there is nothing to wait for")]
    pub(crate) async fn admit(
        &self,
        _: &TokenDigest,
        _: Client,
    ) -> Result<Option<LookupPermit>, Duration> {
        Ok(None)
    }

    pub(crate) fn accepted(&self, _: &TokenDigest) {}

    pub(crate) fn rejected(&self, _: &TokenDigest) {}

    pub(crate) fn count_failure(&self, _: Client) -> Result<(), Duration> {
        Ok(())
    }
}
