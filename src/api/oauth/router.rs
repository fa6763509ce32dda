use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::map_response;
use axum::routing::post;

use super::state::OAuthState;
use super::{form, introspect, revoke};
use crate::api::body;
use crate::api::inspector::Inspector;
use crate::api::request_log::LogFailuresLayer;
use crate::lifecycle::ServiceTokens;
use crate::limits::{FailureLimit, OptionalFailureLimit};
use crate::middleware::{Checker, ServiceTokenLayer};

/// Builds the router of `/introspect` and `/revoke`.
///
/// See the [module](super) for the rules and an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct OAuthEndpoints {
    tokens: ServiceTokens,
    layer: ServiceTokenLayer,
    service_failures: OptionalFailureLimit,
    issuer: Option<Box<str>>,
    audience: Option<Box<str>>,
}

impl OAuthEndpoints {
    /// Creates endpoints that check tokens as `layer` does, and revoke them in `tokens`. Both should
    /// use the same store.
    ///
    /// Callers send their token as the layer accepts it, or by `ApiKey` or `Bearer`. The endpoints
    /// ignore the layer's response builder and whether it is optional.
    pub fn new(tokens: ServiceTokens, layer: ServiceTokenLayer) -> Self {
        Self {
            tokens,
            layer,
            service_failures: OptionalFailureLimit::default(),
            issuer: None,
            audience: None,
        }
    }

    /// Sets the `iss` of active tokens: the issuer, usually a URL. By default it is absent.
    pub fn with_issuer(mut self, issuer: impl Into<Box<str>>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Sets the `aud` of active tokens: the intended audience. By default it is absent.
    pub fn with_audience(mut self, audience: impl Into<Box<str>>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Limits the unknown tokens that a client presents as its own: to revoke them, or to introspect
    /// others. `None` sets no limit. The default is the limit of the layer, or else
    /// [`FailureLimit::new`].
    pub fn with_failure_limit(mut self, limit: impl Into<Option<FailureLimit>>) -> Self {
        self.layer = self.layer.with_failure_limit(limit);
        self
    }

    /// Limits the unknown tokens that a service introspects for its own clients. `None` sets no
    /// limit.
    ///
    /// By default each service has a budget of 1,000 failures, which regains one per millisecond.
    /// The token that the service authenticates with identifies it. Its lookups share the bound of
    /// the [other limit](Self::with_failure_limit), or have their own if that is `None`. A service
    /// beyond its budget waits; other services do not.
    pub fn with_service_failure_limit(mut self, limit: impl Into<Option<FailureLimit>>) -> Self {
        self.service_failures = OptionalFailureLimit::new(limit.into());
        self
    }

    /// Builds the router, for an app with any state.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let checker = self.layer.into_checker(true);
        let limit = || {
            let limit = checker.failures.limit().cloned();
            Some(limit.unwrap_or_default().for_services())
        };
        let mut service_checker = Checker::clone(&checker);
        service_checker.failures = self.service_failures.or_else(limit);
        let state = Arc::new(OAuthState {
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
            .route_layer(map_response(form::forbid_storing))
            .route_layer(LogFailuresLayer)
            .layer(DefaultBodyLimit::max(body::MAX_BODY_BYTES))
            .with_state(state)
    }
}
