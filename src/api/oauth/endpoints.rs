use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;

use super::super::inspector::Inspector;
use super::super::request_log::LogFailuresLayer;
use super::{introspect, revoke};
use crate::lifecycle::ServiceTokens;
use crate::limits::{FailureLimit, OptionalFailureLimit};
use crate::middleware::{Checker, ServiceTokenLayer};

const MAX_BODY: usize = 64 * 1024;

/// Makes the router of `/introspect` and `/revoke`.
///
/// See the [module](super) for the rules and an example.
#[derive(Clone)]
#[must_use]
pub struct OAuthEndpoints {
    tokens: ServiceTokens,
    layer: ServiceTokenLayer,
    service_failures: OptionalFailureLimit,
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
            service_failures: OptionalFailureLimit::default(),
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

    /// Sets what unknown tokens may cost that a client presents as its own: to revoke them, or to
    /// introspect others. `None` sets no limit. The default is the limit of the layer, or else
    /// [`FailureLimit::new`].
    pub fn with_failure_limit(mut self, limit: impl Into<Option<FailureLimit>>) -> Self {
        self.layer = self.layer.with_failure_limit(limit);
        self
    }

    /// Sets what unknown tokens may cost that a service introspects, which clients of its own sent.
    /// `None` sets no limit.
    ///
    /// By default each service, by the token that it holds, has a budget of 1,000 failures at once,
    /// and one more each millisecond. Its lookups are under the bound of the
    /// [other limit](Self::with_failure_limit), or of their own if that is `None`; beyond its budget
    /// they wait, and those of other services do not.
    pub fn with_service_failure_limit(mut self, limit: impl Into<Option<FailureLimit>>) -> Self {
        self.service_failures = OptionalFailureLimit::new(limit.into());
        self
    }

    /// The router, for an app with any state.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let checker = self.layer.into_checker(true);
        let limit = || {
            let limit = checker.failures.limit().cloned();
            Some(limit.unwrap_or_default().for_services())
        };
        let mut service_checker = Checker::clone(&checker);
        service_checker.failures = self.service_failures.or_else(limit);
        let state = Arc::new(ApiState {
            service_inspector: Inspector {
                checker: Arc::new(service_checker),
            },
            inspector: Inspector { checker },
            tokens: self.tokens,
            issuer: self.issuer,
            audience: self.audience,
        });
        Router::new()
            .route("/introspect", post(introspect::handle))
            .route("/revoke", post(revoke::handle))
            .route_layer(LogFailuresLayer)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(state)
    }
}

impl fmt::Debug for OAuthEndpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthEndpoints")
            .field("layer", &self.layer)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// What both endpoints work with.
pub(super) struct ApiState {
    /// Of tokens that are presented by whoever sends them.
    pub(super) inspector: Inspector,
    /// Of tokens that a service asks about.
    pub(super) service_inspector: Inspector,
    pub(super) tokens: ServiceTokens,
    pub(super) issuer: Option<Box<str>>,
    pub(super) audience: Option<Box<str>>,
}
