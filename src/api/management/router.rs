use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use http::StatusCode;
use http::request::Parts;
use tower_http::csrf::{CsrfLayer, ProtectionError};
use utoipa::Modify;
use utoipa::openapi::OpenApi;

use super::document::Document;
use super::problem::Problem;
use super::state::{HandlerState, SharedHandlerState};
use super::{bulk, create, document, list, openapi, token};
use crate::api::actor::ActorSource;
use crate::api::body;
use crate::api::guard::{Routes, guarded, guarded_by_application};
use crate::lifecycle::{Actor, ServiceTokens};
use crate::middleware::ServiceTokenLayer;
use crate::openapi::SecuritySchemes;
use crate::wire;

type Modifier = Arc<dyn Modify + Send + Sync>;

/// Builds the router of the management API.
///
/// See the [module](super) for the calls and an example.
#[derive(Clone)]
#[must_use]
pub struct ManagementApi {
    tokens: ServiceTokens,
    callers: Callers,
    allows_cross_site: bool,
    modifier: Option<Modifier>,
}

/// How the API authenticates its callers.
#[derive(Clone, Debug)]
enum Callers {
    Tokens(ServiceTokenLayer),
    Application(ActorSource),
}

impl ManagementApi {
    /// Creates an API that manages `tokens` for callers that `layer` accepts.
    ///
    /// If the tokens of callers are in another store than the managed tokens, declare it with
    /// [`with_actor_store`](ServiceTokens::with_actor_store). Otherwise their changes are rejected.
    pub fn new(tokens: ServiceTokens, layer: ServiceTokenLayer) -> Self {
        Self::with_callers(tokens, Callers::Tokens(layer))
    }

    /// Creates an API that manages `tokens` for the users of your application.
    ///
    /// `actor` returns the actor of a request, such as an [`Owner`](crate::lifecycle::Owner), or the
    /// response to a request without one, such as 401. It runs before the body is read. Give the owner a
    /// [check](crate::lifecycle::Owner::with_check), so that a session that ends meanwhile changes nothing.
    /// See [the module](super#callers-that-the-application-authenticates) for the rules.
    ///
    /// The future cannot borrow the parts: clone what it needs and return an `async move` block; an
    /// `async` closure over `&Parts` does not compile. Write the error type, as in
    /// `Ok::<_, StatusCode>(owner)`.
    ///
    /// ```
    /// use axum::Router;
    /// use http::{StatusCode, request::Parts};
    /// use tower_service_token::api::management::ManagementApi;
    /// use tower_service_token::lifecycle::Owner;
    /// use tower_service_token::{MemoryStore, ServiceTokens};
    ///
    /// /// Inserted by the session middleware of the application.
    /// #[derive(Clone)]
    /// struct User {
    ///     id: u64,
    /// }
    ///
    /// let tokens = ServiceTokens::new(MemoryStore::new());
    /// let api = ManagementApi::with_actor(tokens, |parts: &Parts| {
    ///     let user = parts.extensions.get::<User>().cloned();
    ///     async move {
    ///         let user = user.ok_or(StatusCode::UNAUTHORIZED)?;
    ///         Ok::<_, StatusCode>(Owner::new(format!("user:{}", user.id)).with_scopes(["projects:*"]))
    ///     }
    /// });
    /// let app: Router = Router::new().nest("/account", api.into_router());
    /// ```
    pub fn with_actor<F, R, A, E>(tokens: ServiceTokens, actor: F) -> Self
    where
        F: Fn(&Parts) -> R + Send + Sync + 'static,
        R: Future<Output = Result<A, E>> + Send + 'static,
        A: Into<Actor>,
        E: IntoResponse,
    {
        Self::with_callers(tokens, Callers::Application(ActorSource::function(actor)))
    }

    /// As [`with_actor`](Self::with_actor), with an extractor of your application, which runs with
    /// `state`. Its rejection is the response to a request without an actor.
    ///
    /// ```
    /// use axum::Router;
    /// use axum::extract::FromRequestParts;
    /// use http::{StatusCode, request::Parts};
    /// use tower_service_token::api::management::ManagementApi;
    /// use tower_service_token::lifecycle::{Actor, Owner};
    /// use tower_service_token::{MemoryStore, ServiceTokens};
    ///
    /// #[derive(Clone)]
    /// struct AppState;
    ///
    /// struct User {
    ///     id: u64,
    /// }
    ///
    /// impl FromRequestParts<AppState> for User {
    ///     type Rejection = StatusCode;
    ///
    ///     async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, StatusCode> {
    /// #       let _ = parts;
    ///         // Read the session or the JWT of the request.
    ///         Err(StatusCode::UNAUTHORIZED)
    ///     }
    /// }
    ///
    /// impl From<User> for Actor {
    ///     fn from(user: User) -> Self {
    ///         Owner::new(format!("user:{}", user.id)).with_scopes(["projects:*"]).into()
    ///     }
    /// }
    ///
    /// let tokens = ServiceTokens::new(MemoryStore::new());
    /// let api = ManagementApi::with_actor_extractor::<User, _>(tokens, AppState);
    /// let app: Router<AppState> = Router::new().nest("/account", api.into_router());
    /// ```
    pub fn with_actor_extractor<E, S>(tokens: ServiceTokens, state: S) -> Self
    where
        E: FromRequestParts<S> + Into<Actor>,
        S: Send + Sync + 'static,
    {
        let actors = ActorSource::extractor::<E, S>(state);
        Self::with_callers(tokens, Callers::Application(actors))
    }

    fn with_callers(tokens: ServiceTokens, callers: Callers) -> Self {
        Self {
            tokens,
            callers,
            allows_cross_site: false,
            modifier: None,
        }
    }

    /// Accepts changes that pages of other sites request with the credentials of a user. By default,
    /// the response is 403 `cross_site_request`.
    ///
    /// Use it only if the application reads no cookies to determine the actor, or checks the origin of
    /// requests itself. Has no effect on an API whose callers present service tokens.
    pub fn allow_cross_site_requests(mut self) -> Self {
        self.allows_cross_site = true;
        self
    }

    /// Sets a modifier of the document at `/openapi.json`, for example one that adds the security
    /// schemes of the application.
    ///
    /// ```
    /// use http::{StatusCode, request::Parts};
    /// use tower_service_token::api::management::ManagementApi;
    /// use tower_service_token::lifecycle::Owner;
    /// use tower_service_token::{MemoryStore, ServiceTokens};
    /// use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
    /// use utoipa::openapi::{Components, OpenApi};
    ///
    /// struct SessionCookie;
    ///
    /// impl utoipa::Modify for SessionCookie {
    ///     fn modify(&self, openapi: &mut OpenApi) {
    ///         let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new("id")));
    ///         let components = openapi.components.get_or_insert_with(Components::new);
    ///         components.add_security_scheme("session", cookie);
    ///         openapi.security = Some(vec![SecurityRequirement::new("session", [""; 0])]);
    ///     }
    /// }
    ///
    /// # let actor = |_: &Parts| async { Err::<Owner, _>(StatusCode::UNAUTHORIZED) };
    /// let tokens = ServiceTokens::new(MemoryStore::new());
    /// let api = ManagementApi::with_actor(tokens, actor).with_openapi_modifier(SessionCookie);
    /// ```
    pub fn with_openapi_modifier(mut self, modifier: impl Modify + Send + Sync + 'static) -> Self {
        self.modifier = Some(Arc::new(modifier));
        self
    }

    /// Returns the OpenAPI 3.1 document of an API behind `layer`, to merge into the document of your
    /// service.
    ///
    /// It declares and requires only the [security schemes](crate::openapi) of the layer. Its components
    /// have the prefix `ServiceToken`, and it has no `servers`. Nest it where the router is nested: the
    /// page [`openapi`](crate::guide::openapi) of the guide has a service that does so.
    ///
    /// ```
    /// use tower_service_token::api::management::ManagementApi;
    /// use tower_service_token::{MemoryStore, ServiceTokenLayer};
    /// use utoipa::openapi::{Info, OpenApi, Paths};
    ///
    /// let layer = ServiceTokenLayer::new(MemoryStore::new());
    /// let document = OpenApi::new(Info::new("Projects", "1.0.0"), Paths::new());
    /// let document = document.nest("/admin", ManagementApi::openapi_for_layer(&layer));
    /// assert!(document.paths.paths.contains_key("/admin/service-tokens/{id}/rotate"));
    /// ```
    pub fn openapi_for_layer<R>(layer: &ServiceTokenLayer<R>) -> OpenApi {
        openapi::document(layer.sources())
    }

    /// Returns the OpenAPI 3.1 document of the API, with all
    /// [security schemes](crate::api::SecuritySchemes).
    ///
    /// See [`openapi_for_layer`](Self::openapi_for_layer) for one without the schemes that a layer does
    /// not accept.
    ///
    /// ```
    /// use tower_service_token::api::management::ManagementApi;
    ///
    /// let document = ManagementApi::openapi();
    /// assert!(document.paths.paths.contains_key("/service-tokens/{id}/rotate"));
    /// ```
    pub fn openapi() -> OpenApi {
        openapi::document(&SecuritySchemes::sources())
    }

    /// As [`openapi`](Self::openapi), for an API [with actors](Self::with_actor) that your application
    /// authenticates.
    ///
    /// It has no security schemes, and its operations have no `security`, so that of your document
    /// applies.
    pub fn openapi_for_actors() -> OpenApi {
        openapi::document_for_actors()
    }

    /// Builds the router, for an app with any state. Do not put a `ServiceTokenLayer` in front of it,
    /// except for an API [with actors](Self::with_actor).
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let (document, routes) = match self.callers {
            Callers::Tokens(layer) => {
                let layer = layer.for_api();
                let checker = layer.checker();
                let sources = checker.sources.clone();
                let state = HandlerState::shared(self.tokens, checker);
                let routes = guarded::<Box<wire::Problem>, _>(layer, routes().with_own());
                let routes = routes.with_state(state);
                let build = move || openapi::document(&sources);
                (Document::new(build, self.modifier), routes)
            }
            Callers::Application(actors) => {
                let layer = ServiceTokenLayer::without_credentials(self.tokens.clock());
                let state = HandlerState::shared(self.tokens, layer.checker());
                let routes = guarded_by_application::<Box<wire::Problem>, _>(actors, routes());
                let routes = if self.allows_cross_site {
                    routes
                } else {
                    routes.route_layer(same_origin_layer())
                };
                let build = openapi::document_for_actors;
                (
                    Document::new(build, self.modifier),
                    routes.with_state(state),
                )
            }
        };
        let document = Router::new()
            .route(document::PATH, get(document::handle))
            .with_state(Arc::new(document));
        routes
            .merge(document)
            .method_not_allowed_fallback(async || Problem::method_not_allowed())
    }
}

impl fmt::Debug for ManagementApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagementApi")
            .field("tokens", &self.tokens)
            .field("callers", &self.callers)
            .field("allows_cross_site", &self.allows_cross_site)
            .finish_non_exhaustive()
    }
}

/// The calls about any token.
fn routes() -> Routes<SharedHandlerState> {
    let readers = Router::new()
        .route("/service-tokens", get(list::handle))
        .route("/service-tokens/{id}", get(token::get));
    let writers = Router::new()
        .route("/service-tokens", post(create::handle))
        .route(
            "/service-tokens/{id}",
            delete(token::revoke).patch(token::update),
        )
        .route("/service-tokens/{id}/rotate", post(token::rotate))
        .route("/service-tokens/{id}/disable", post(token::disable))
        .route("/service-tokens/{id}/enable", post(token::enable))
        .route("/service-tokens/revoke", post(bulk::handle));
    Routes {
        readers,
        writers,
        others: Router::new(),
    }
}

impl Routes<SharedHandlerState> {
    /// Adds the calls about the caller's own token.
    fn with_own(mut self) -> Self {
        self.others = Router::new()
            .route(
                "/service-tokens/self",
                get(token::get_own).delete(token::revoke_own),
            )
            .route("/service-tokens/self/rotate", post(token::rotate_own));
        self
    }
}

type CrossSiteResponse = fn(ProtectionError) -> Response;

/// Rejects changes that a page of another site requests in a browser.
fn same_origin_layer() -> CsrfLayer<CrossSiteResponse> {
    CsrfLayer::new().with_rejection_response(|_| {
        let detail = "changes from pages of other sites are not accepted";
        body::problem_response(StatusCode::FORBIDDEN, "cross_site_request", detail)
    })
}
