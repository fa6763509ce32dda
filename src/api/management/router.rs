use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use http::request::Parts;
use utoipa::Modify;
use utoipa::openapi::OpenApi;

use super::cross_site::reject_cross_site;
use super::document::Document;
use super::openapi::Description;
use super::problem::Problem;
use super::state::{HandlerState, SharedHandlerState};
use super::{bulk, create, document, list, token};
use crate::api::actor::ActorSource;
use crate::api::guard::{Routes, guarded, guarded_by_application};
use crate::lifecycle::{Actor, ServiceTokens};
use crate::middleware::{Checker, ServiceTokenLayer};
use crate::origin::Origin;
use crate::wire;

/// Builds the router of the management API.
///
/// See the [module](super) for the calls and an example.
#[derive(Clone)]
#[must_use]
pub struct ManagementApi {
    tokens: ServiceTokens,
    callers: Callers,
    allows_cross_site: bool,
    trusted_origins: Vec<Origin>,
    description: Description,
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
        let description = Description::for_tokens(layer.sources());
        Self::with_callers(tokens, Callers::Tokens(layer), description)
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
    /// let api = ManagementApi::for_actor(tokens, |parts: &Parts| {
    ///     let user = parts.extensions.get::<User>().cloned();
    ///     async move {
    ///         let user = user.ok_or(StatusCode::UNAUTHORIZED)?;
    ///         Ok::<_, StatusCode>(Owner::new(format!("user:{}", user.id)).with_scopes(["projects:*"]))
    ///     }
    /// });
    /// let app: Router = Router::new().nest("/account", api.into_router());
    /// ```
    pub fn for_actor<F, R, A, E>(tokens: ServiceTokens, actor: F) -> Self
    where
        F: Fn(&Parts) -> R + Send + Sync + 'static,
        R: Future<Output = Result<A, E>> + Send + 'static,
        A: Into<Actor>,
        E: IntoResponse,
    {
        Self::with_actors(tokens, ActorSource::function(actor))
    }

    /// As [`for_actor`](Self::for_actor), with an extractor of your application, which runs with
    /// `state`. Its rejection is the response to a request without an actor.
    ///
    /// ```
    /// use std::future::ready;
    /// use std::time::SystemTime;
    ///
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
    ///     expiry: SystemTime,
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
    ///         let owner = Owner::new(format!("user:{}", user.id)).with_scopes(["projects:*"]);
    ///         let current = owner.clone();
    ///         // A check of a session reads it again.
    ///         let check = move || {
    ///             let is_valid = SystemTime::now() < user.expiry;
    ///             ready(Ok(is_valid.then(|| current.clone())))
    ///         };
    ///         owner.with_check(check).into()
    ///     }
    /// }
    ///
    /// let tokens = ServiceTokens::new(MemoryStore::new());
    /// let api = ManagementApi::for_actor_extractor::<User, _>(tokens, AppState);
    /// let app: Router<AppState> = Router::new().nest("/account", api.into_router());
    /// ```
    pub fn for_actor_extractor<E, S>(tokens: ServiceTokens, state: S) -> Self
    where
        E: FromRequestParts<S> + Into<Actor>,
        S: Send + Sync + 'static,
    {
        Self::with_actors(tokens, ActorSource::extractor::<E, S>(state))
    }

    fn with_actors(tokens: ServiceTokens, actors: ActorSource) -> Self {
        let callers = Callers::Application(actors);
        Self::with_callers(tokens, callers, Description::for_actors())
    }

    fn with_callers(tokens: ServiceTokens, callers: Callers, description: Description) -> Self {
        Self {
            tokens,
            callers,
            allows_cross_site: false,
            trusted_origins: Vec::new(),
            description,
        }
    }

    /// Accepts changes that pages of this origin request with the credentials of a user, beside those
    /// of the API's own origin. Repeated calls add origins.
    ///
    /// Use it for a single-page application on another origin, or behind a proxy that changes `Host`.
    /// A page of another origin also needs a CORS layer around the router. Has no effect on an API whose
    /// callers present service tokens.
    ///
    /// ```
    /// use http::{StatusCode, request::Parts};
    /// use tower_service_token::api::management::ManagementApi;
    /// use tower_service_token::lifecycle::Owner;
    /// use tower_service_token::origin::Origin;
    /// use tower_service_token::{MemoryStore, ServiceTokens};
    ///
    /// # let actor = |_: &Parts| async { Err::<Owner, _>(StatusCode::UNAUTHORIZED) };
    /// let tokens = ServiceTokens::new(MemoryStore::new());
    /// let api = ManagementApi::for_actor(tokens, actor)
    ///     .with_trusted_origin(Origin::new("https://app.example")?)
    ///     .with_trusted_origin(Origin::new("http://localhost:5173")?);
    /// # Ok::<_, tower_service_token::origin::OriginError>(())
    /// ```
    pub fn with_trusted_origin(mut self, origin: Origin) -> Self {
        self.trusted_origins.push(origin);
        self
    }

    /// Accepts changes that pages of all other sites request with the credentials of a user. By default,
    /// the response is 403 `cross_site_request`.
    ///
    /// Use it only if the application reads no cookies to determine the actor, or checks the origin of
    /// requests itself. To accept some origins, use
    /// [`with_trusted_origin`](Self::with_trusted_origin). Has no effect on an API whose callers present
    /// service tokens.
    pub fn allow_cross_site_requests(mut self) -> Self {
        self.allows_cross_site = true;
        self
    }

    /// Sets a modifier of the [document](Self::openapi), for example one that adds the security schemes
    /// of the application.
    ///
    /// A security requirement that it sets for the whole document becomes that of each operation without
    /// one, because merging documents would apply it to the operations of the other one.
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
    /// let api = ManagementApi::for_actor(tokens, actor).with_openapi_modifier(SessionCookie);
    /// ```
    pub fn with_openapi_modifier(mut self, modifier: impl Modify + Send + Sync + 'static) -> Self {
        self.description.modifier = Some(Arc::new(modifier));
        self
    }

    /// Sets what precedes each operation id of the [document](Self::openapi), such as `account_`. The
    /// default is nothing.
    ///
    /// Operation ids are unique within a document, so a host that nests two management APIs sets a
    /// prefix for at least one of them. The prefix is part of the name of each function that a generator
    /// of clients creates.
    pub fn with_operation_id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.description.operation_id_prefix = prefix.into();
        self
    }

    /// Returns the OpenAPI 3.1 document of this API, to merge into the document of your service.
    ///
    /// 1. It is the document that the router serves at `/openapi.json`, without `servers`.
    /// 2. It declares and requires only the [security schemes](crate::openapi) that the layer accepts.
    ///    For an API [with actors](Self::for_actor), only a [modifier](Self::with_openapi_modifier)
    ///    declares schemes. Without one, the operations have no `security`, so that of your document
    ///    applies.
    /// 3. The names of its components have the prefix `ServiceToken`. Two APIs that differ, nested into
    ///    one document, share only equal components.
    ///
    /// Nest it where the router is nested: the page [`openapi`](crate::guide::openapi) of the guide has a
    /// service that does so.
    ///
    /// ```
    /// use axum::Router;
    /// use tower_service_token::api::management::ManagementApi;
    /// use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};
    /// use utoipa::openapi::{Info, OpenApi, Paths};
    ///
    /// let store = MemoryStore::new();
    /// let layer = ServiceTokenLayer::new(store.clone());
    /// let api = ManagementApi::new(ServiceTokens::new(store), layer);
    /// let document = OpenApi::new(Info::new("Projects", "1.0.0"), Paths::new());
    /// let document = document.nest("/admin", api.openapi());
    /// assert!(document.paths.paths.contains_key("/admin/service-tokens/{id}/rotate"));
    /// let app: Router = Router::new().nest("/admin", api.into_router());
    /// ```
    pub fn openapi(&self) -> OpenApi {
        self.description.document()
    }

    /// Builds the router, for an app with any state. Do not put a `ServiceTokenLayer` in front of it,
    /// except for an API [with actors](Self::for_actor).
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let routes = match self.callers {
            Callers::Tokens(layer) => {
                let layer = layer.for_api();
                let state = HandlerState::shared(self.tokens, layer.checker());
                let routes = guarded::<Box<wire::Problem>, _>(layer, routes().with_own());
                routes.with_state(state)
            }
            Callers::Application(actors) => {
                let checker = Checker::without_credentials(self.tokens.clock());
                let state = HandlerState::shared(self.tokens, Arc::new(checker));
                let routes = guarded_by_application::<Box<wire::Problem>, _>(actors, routes());
                let routes = if self.allows_cross_site {
                    routes
                } else {
                    let trusted: Arc<[Origin]> = self.trusted_origins.into();
                    routes.route_layer(from_fn_with_state(trusted, reject_cross_site))
                };
                routes.with_state(state)
            }
        };
        let document = Document::new(move || self.description.document());
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
            .field("trusted_origins", &self.trusted_origins)
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
