use axum::Router;
use axum::extract::DefaultBodyLimit;

use super::body::MAX_BODY_BYTES;
use super::error::{ApiError, ErrorFormat};
use super::request_log::LogFailuresLayer;
use crate::authorize::RequireScopesLayer;
use crate::middleware::ServiceTokenLayer;
use crate::principal::Requirement;
use crate::store::{ADMIN_SCOPE, READ_SCOPE};

/// The scopes that read tokens. A call needs one of them.
const READ_SCOPES: [&str; 2] = [READ_SCOPE, ADMIN_SCOPE];

/// The scopes that change tokens. A call needs one of them.
const WRITE_SCOPES: [&str; 2] = ["service-tokens:write", ADMIN_SCOPE];

/// Returns what a call that reads tokens needs.
pub(super) fn read_requirement() -> Requirement {
    Requirement::any_scope(READ_SCOPES)
}

/// Returns what a call that changes tokens needs.
pub(super) fn write_requirement() -> Requirement {
    Requirement::any_scope(WRITE_SCOPES)
}

/// The routes of an API that manages tokens, by what a caller needs.
pub(super) struct Routes<S> {
    /// A scope that reads tokens.
    pub(super) readers: Router<S>,
    /// A scope that changes tokens.
    pub(super) writers: Router<S>,
    /// A valid token.
    pub(super) others: Router<S>,
}

/// Puts the layer, the guards and the log in front of the routes, with errors in the format `F`.
pub(super) fn guarded<F, S>(layer: ServiceTokenLayer, routes: Routes<S>) -> Router<S>
where
    F: ErrorFormat,
    S: Clone + Send + Sync + 'static,
{
    let guard = |scopes: [&'static str; 2]| {
        let guard = RequireScopesLayer::any_of(scopes);
        guard.with_rejection_response(F::reject)
    };
    let readers = routes.readers.route_layer(guard(READ_SCOPES));
    let writers = routes.writers.route_layer(guard(WRITE_SCOPES));
    let routes = routes.others.merge(readers).merge(writers);
    routes
        .route_layer(LogFailuresLayer)
        .route_layer(layer.with_rejection_response(F::reject))
        .method_not_allowed_fallback(async || ApiError::<F>::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}
