use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::IntoResponse;

use super::actor::{ActorSource, RequestActor, insert_actor};
use super::body::MAX_BODY_BYTES;
use super::error::{ApiError, ErrorFormat};
use super::request_log::LogFailuresLayer;
use crate::authorize::RequireScopesLayer;
use crate::lifecycle::Actor;
use crate::middleware::ServiceTokenLayer;
use crate::principal::Requirement;
use crate::reject::{Rejection, RejectionReason};
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
    let routes = routes
        .route_layer(LogFailuresLayer)
        .route_layer(layer.with_rejection_response(F::reject));
    with_limits::<F, _>(routes)
}

/// As [`guarded`], for actors that the application determines.
pub(super) fn guarded_by_application<F, S>(actors: ActorSource, routes: Routes<S>) -> Router<S>
where
    F: ErrorFormat,
    S: Clone + Send + Sync + 'static,
{
    let readers = with_requirement::<F, S>(routes.readers, read_requirement());
    let writers = with_requirement::<F, S>(routes.writers, write_requirement());
    let routes = routes.others.merge(readers).merge(writers);
    let routes = routes
        .route_layer(LogFailuresLayer)
        .route_layer(from_fn_with_state(actors, insert_actor));
    with_limits::<F, _>(routes)
}

fn with_limits<F, S>(routes: Router<S>) -> Router<S>
where
    F: ErrorFormat,
    S: Clone + Send + Sync + 'static,
{
    routes
        .method_not_allowed_fallback(async || ApiError::<F>::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

/// Rejects actors that do not meet the requirement.
fn with_requirement<F, S>(routes: Router<S>, requirement: Requirement) -> Router<S>
where
    F: ErrorFormat,
    S: Clone + Send + Sync + 'static,
{
    let requirement = Arc::new(requirement);
    routes.route_layer(from_fn(move |request: Request, next: Next| {
        let actor = request.extensions().get::<RequestActor>();
        let checked = match actor {
            Some(RequestActor(actor)) => check_requirement(actor, &requirement),
            None => Err(Rejection::new(RejectionReason::MissingLayer)),
        };
        async move {
            match checked {
                Ok(()) => next.run(request).await,
                Err(rejection) => ApiError::<F>::from(rejection).into_response(),
            }
        }
    }))
}

/// Checks what the holder of a token needs, as for tokens that the API reads itself. An owner needs
/// only what its actor requires. A
/// [possession](Actor::possession) is no authority over other tokens.
fn check_requirement(actor: &Actor, requirement: &Arc<Requirement>) -> Result<(), Rejection> {
    if actor.is_possession() {
        return Err(Rejection::unmet_requirements(vec![Arc::clone(requirement)]));
    }
    if let Some(principal) = actor.principal() {
        return principal.require(Arc::clone(actor.requirement().unwrap_or(requirement)));
    }
    match (actor.acting_owner(), actor.requirement()) {
        (Some(owner), Some(own)) if !own.is_met_by_rights(owner.roles(), owner.scopes()) => {
            Err(Rejection::unmet_requirements(vec![Arc::clone(own)]))
        }
        _ => Ok(()),
    }
}
