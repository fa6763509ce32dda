use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;

use super::super::FailureLimit;
use super::super::inspector::Inspector;
use super::{introspect, revoke};
use crate::lifecycle::ServiceTokens;
use crate::middleware::ServiceTokenLayer;

const MAX_BODY: usize = 64 * 1024;

/// Makes the router of `/introspect` and `/revoke`.
///
/// See the [module](super) for the rules and an example.
#[derive(Clone)]
#[must_use]
pub struct OAuthEndpoints {
    tokens: ServiceTokens,
    layer: ServiceTokenLayer,
    limit: Option<FailureLimit>,
    service_limit: Option<FailureLimit>,
    issuer: Option<Box<str>>,
    audience: Option<Box<str>>,
}

impl OAuthEndpoints {
    /// Checks tokens as `layer` does, and revokes them in `tokens`, which should be of the same
    /// store.
    ///
    /// The layer's way of presenting a token holds for the callers, with `ApiKey` and `Bearer` in
    /// any case. Whether it is optional and its response builder mean nothing here.
    pub fn new(tokens: ServiceTokens, layer: ServiceTokenLayer) -> Self {
        Self {
            tokens,
            layer,
            limit: Some(FailureLimit::new()),
            service_limit: Some(FailureLimit::of_services()),
            issuer: None,
            audience: None,
        }
    }

    /// The `iss` of active tokens: who issued them, as a URL by custom. Default: absent.
    pub fn with_issuer(mut self, issuer: impl Into<Box<str>>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// The `aud` of active tokens: for whom they are meant. Default: absent.
    pub fn with_audience(mut self, audience: impl Into<Box<str>>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// How many unknown tokens a client may present as its own: to revoke them, or to be let in to
    /// introspect. Default: [`FailureLimit::new`]; `None` for any number.
    pub fn with_failure_limit(mut self, limit: impl Into<Option<FailureLimit>>) -> Self {
        self.limit = limit.into();
        self
    }

    /// How many unknown tokens a service may ask about, which it was sent by clients of its own.
    /// Default: 1,000 at once, and one more each millisecond; `None` for any number.
    ///
    /// Beyond, the service gets 429 for what is not in memory, and may take that for an outage: its
    /// clients must not be able to bring that about.
    pub fn with_service_failure_limit(mut self, limit: impl Into<Option<FailureLimit>>) -> Self {
        self.service_limit = limit.into();
        self
    }

    /// The router, for an app with any state.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let checker = self.layer.into_checker(true);
        let shared = Arc::new(Shared {
            for_services: Inspector {
                checker: Arc::clone(&checker),
                limit: self.service_limit,
            },
            inspector: Inspector {
                checker,
                limit: self.limit,
            },
            tokens: self.tokens,
            issuer: self.issuer,
            audience: self.audience,
        });
        Router::new()
            .route("/introspect", post(introspect::handle))
            .route("/revoke", post(revoke::handle))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(shared)
    }
}

impl fmt::Debug for OAuthEndpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthEndpoints")
            .field("layer", &self.layer)
            .field("limit", &self.limit)
            .field("service_limit", &self.service_limit)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// What both endpoints work with.
pub(super) struct Shared {
    /// Of tokens that are presented by whoever sends them.
    pub(super) inspector: Inspector,
    /// Of tokens that a service asks about.
    pub(super) for_services: Inspector,
    pub(super) tokens: ServiceTokens,
    pub(super) issuer: Option<Box<str>>,
    pub(super) audience: Option<Box<str>>,
}
