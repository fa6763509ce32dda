use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::routing::{any_service, post};
use tower::Service as _;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::api::oauth::OAuthEndpoints;
use tower_service_token::api::pipeops::PipeOpsApi;
use tower_service_token::api::stackstate::StackStateApi;
use tower_service_token::limits::FailureLimit;
use tower_service_token::registry::{FlushTask, LastUsed, TokenRegistry};
use tower_service_token::store::CachedStore;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens, TokenStore};

use crate::args::ServeArgs;
use crate::store_url::OpenedStore;

/// The time between two writes of the last uses.
const FLUSH_INTERVAL: Duration = Duration::from_secs(60);

/// The routes of a store.
pub(super) struct ServiceParts {
    pub(super) app: Router,
    /// Must be stopped at the end, which writes the last uses.
    pub(super) flush_task: Option<FlushTask>,
}

pub(super) fn build(store: OpenedStore, args: &ServeArgs) -> ServiceParts {
    match store {
        OpenedStore::Registry(registry) => build_for_registry(registry, args),
        OpenedStore::ReadOnly(store) => build_for_file(store, args),
    }
}

fn build_for_registry(registry: Arc<dyn TokenRegistry>, args: &ServeArgs) -> ServiceParts {
    // Requests and changes share the cache, so that changes take effect at once on this node.
    let store = CachedStore::new(registry);
    let last_used = LastUsed::new(store.clone());
    let flush_task = last_used.flush_every(FLUSH_INTERVAL);
    let tokens = ServiceTokens::new(store.clone());
    let layer = ServiceTokenLayer::new(store)
        .accept_bearer()
        .with_failure_limit(FailureLimit::new())
        .with_last_used(last_used);
    let stackstate = StackStateApi::new(tokens.clone(), layer.clone());
    let pipeops = PipeOpsApi::new(tokens.clone(), layer.clone());
    let stackstate: Router = stackstate.into_router();
    let app = Router::new()
        .merge(ManagementApi::new(tokens.clone(), layer.clone()).into_router())
        .merge(OAuthEndpoints::new(tokens, layer.clone()).into_router())
        .merge(args.forward_auth(layer).into_router())
        // `nest` does not match its prefix with a trailing slash.
        .route("/api/", any_service(stackstate.clone()))
        .nest("/api", stackstate)
        .merge(pipeops.into_router());
    let flush_task = Some(flush_task);
    ServiceParts { app, flush_task }
}

/// Serves only the endpoints that read, because the service does not write a token file.
fn build_for_file(store: Arc<dyn TokenStore>, args: &ServeArgs) -> ServiceParts {
    tracing::warn!(
        "a file: store is read-only: /service-tokens, /revoke, /api and /workspace are not served, \
         and last uses are not recorded"
    );
    let layer = ServiceTokenLayer::new(store)
        .accept_bearer()
        .with_failure_limit(FailureLimit::new());
    // The constructor requires a registry; introspection does not read it.
    let none = ServiceTokens::new(MemoryStore::new());
    let oauth: Router = OAuthEndpoints::new(none, layer.clone()).into_router();
    let introspect = post(move |request: Request| {
        let mut oauth = oauth.clone();
        async move { oauth.call(request).await }
    });
    let app = Router::new()
        .route("/introspect", introspect)
        .merge(args.forward_auth(layer).into_router());
    ServiceParts {
        app,
        flush_task: None,
    }
}
