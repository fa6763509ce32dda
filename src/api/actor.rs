use std::fmt;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use http::request::Parts;

use crate::lifecycle::Actor;
use crate::limits::{ClientAddress, RequestOrigin};
use crate::principal::Principal;

/// The actor that the application determined, in the extensions of a request.
#[derive(Clone)]
pub(super) struct RequestActor(pub(super) Actor);

/// The actor, or the response of the application to a request without one.
type Determined = Result<Actor, Box<Response>>;

type Determine = dyn for<'a> Fn(&'a mut Parts) -> BoxFuture<'a, Determined> + Send + Sync;

/// Determines the actor of a request from its head, by code of the application.
#[derive(Clone)]
pub(super) struct ActorSource(Arc<Determine>);

impl ActorSource {
    pub(super) fn function<F, R, A, E>(determine: F) -> Self
    where
        F: Fn(&Parts) -> R + Send + Sync + 'static,
        R: Future<Output = Result<A, E>> + Send + 'static,
        A: Into<Actor>,
        E: IntoResponse,
    {
        Self(Arc::new(move |parts| {
            let determined = determine(parts);
            Box::pin(async move { into_actor(determined.await) })
        }))
    }

    pub(super) fn extractor<E, S>(state: S) -> Self
    where
        E: FromRequestParts<S> + Into<Actor>,
        S: Send + Sync + 'static,
    {
        let state = Arc::new(state);
        Self(Arc::new(move |parts| {
            let state = Arc::clone(&state);
            Box::pin(async move { into_actor(E::from_request_parts(parts, &*state).await) })
        }))
    }
}

fn into_actor(determined: Result<impl Into<Actor>, impl IntoResponse>) -> Determined {
    match determined {
        Ok(actor) => Ok(actor.into()),
        Err(error) => Err(Box::new(error.into_response())),
    }
}

impl fmt::Debug for ActorSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorSource").finish_non_exhaustive()
    }
}

/// Inserts the actor into the request, or returns the response of the application. The body is not
/// read before.
pub(super) async fn insert_actor(
    State(ActorSource(determine)): State<ActorSource>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let mut actor = match determine(&mut parts).await {
        Ok(actor) => actor,
        Err(response) => return *response,
    };
    if actor.client_address().is_none() {
        let origin = RequestOrigin::from_extensions(&parts.extensions);
        actor = actor.with_client_address(origin.address.map(ClientAddress::ip));
    }
    // Logs name the caller by its token. A token that is not the actor's is none of the caller.
    parts.extensions.remove::<Principal>();
    if let Some(principal) = actor.principal() {
        parts.extensions.insert(principal.clone());
    }
    parts.extensions.insert(RequestActor(actor));
    next.run(Request::from_parts(parts, body)).await
}
