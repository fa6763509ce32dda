//! A TCP server of the management API.

use std::fs;
use std::future::ready;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::body::{Body, to_bytes};
use axum::middleware::{map_request, map_response};
use axum::response::{IntoResponse, Response};
use axum::{Router, extract::Request};
use http::header::{CONTENT_TYPE, COOKIE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::lifecycle::{IssuedToken, NewToken, Owner, Page};
use tower_service_token::registry::TokenFilter;
use tower_service_token::store::TokenRecord;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};
use utoipa::Modify;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};

pub(crate) const USER: &str = "user:1";
pub(crate) const OTHER_USER: &str = "user:2";

/// The id of the user's session.
const SESSION: &str = "2a5f1c0e";

/// Serves until it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    /// A temporary directory for the caller's files, removed on drop.
    pub(crate) folder: PathBuf,
    secret: String,
    runtime: Runtime,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(|app, _| app)
    }

    /// Starts a server that omits the roles of created tokens.
    pub(crate) fn start_without_roles() -> Self {
        Self::with(|app, _| app.layer(map_response(without_roles)))
    }

    /// Starts a server that accepts every caller as the administrator.
    pub(crate) fn start_without_guard() -> Self {
        Self::with(|app, admin| {
            let token = HeaderValue::try_from(admin.expose_secret()).unwrap();
            app.layer(map_request(move |mut request: Request| {
                request.headers_mut().remove("authorization");
                request.headers_mut().insert("x-api-key", token.clone());
                ready(request)
            }))
        })
    }

    fn with(customize: impl FnOnce(Router, &IssuedToken) -> Router) -> Self {
        let runtime = Runtime::new().unwrap();
        let (admin, app) = runtime.block_on(app());
        let app = customize(app, &admin);
        Self::serve(runtime, app, admin.expose_secret().to_owned())
    }

    /// Starts a server for the users of an application, who have sessions. Also returns the tokens.
    pub(crate) fn start_for_users() -> (Self, ServiceTokens) {
        let runtime = Runtime::new().unwrap();
        let tokens = ServiceTokens::new(MemoryStore::new());
        let foreign = NewToken::new("foreign").with_owner(OTHER_USER);
        drop(runtime.block_on(tokens.create(foreign)).unwrap());
        let api = ManagementApi::for_actor(tokens.clone(), |parts| ready(user(parts)))
            .with_openapi_modifier(SessionCookie);
        let app = Router::new().nest("/api", api.into_router());
        (Self::serve(runtime, app, SESSION.to_owned()), tokens)
    }

    /// Returns the tokens of this owner.
    pub(crate) fn tokens_of(&self, tokens: &ServiceTokens, owner: &str) -> Vec<TokenRecord> {
        let filter = TokenFilter::new().with_owner(owner);
        let page = tokens.list(filter, Page::with_limit(1000));
        self.runtime.block_on(page).unwrap().records
    }

    fn serve(runtime: Runtime, app: Router, secret: String) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/api", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self {
            url,
            folder: folder(),
            secret,
            runtime,
        }
    }

    /// Returns the caller's token, or the id of its session.
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }
}

/// Returns the user whose session is in the cookie.
fn user(parts: &Parts) -> Result<Owner, impl IntoResponse + use<>> {
    let mut cookies = parts.headers.get_all(COOKIE).iter();
    let session = format!("session={SESSION}");
    if cookies.any(|cookie| cookie.as_bytes() == session.as_bytes()) {
        return Ok(Owner::new(USER).with_scopes(["**"]));
    }
    let problem = json!({
        "type": "about:blank", "title": "Unauthorized", "status": 401,
        "code": "no_session", "detail": "log in first",
    });
    let media_type = [(CONTENT_TYPE, "application/problem+json")];
    Err((StatusCode::UNAUTHORIZED, media_type, problem.to_string()))
}

/// Documents the cookie.
struct SessionCookie;

impl Modify for SessionCookie {
    fn modify(&self, openapi: &mut OpenApi) {
        let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new("session")));
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("session", cookie);
        openapi.security = Some(vec![SecurityRequirement::new("session", [""; 0])]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns an app whose administrator is in a separate store, so that changes of the managed token
/// with the same ID do not affect it.
async fn app() -> (IssuedToken, Router) {
    let (callers, store) = (MemoryStore::new(), MemoryStore::new());
    let new = NewToken::new("admin").with_scopes(["service-tokens:admin"]);
    let admin = ServiceTokens::new(callers.clone()).create(new).await;
    let admin = admin.unwrap();
    store.insert(admin.record().clone()).unwrap();
    let tokens = ServiceTokens::new(store);
    let api = ManagementApi::new(tokens, ServiceTokenLayer::new(callers));
    (admin, Router::new().nest("/api", api.into_router()))
}

async fn without_roles(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let Ok(mut json) = serde_json::from_slice::<Value>(&body) else {
        return Response::from_parts(parts, body.into());
    };
    if let Some(token) = json["service_token"].as_object_mut() {
        token.remove("roles");
    }
    parts.headers.remove("content-length");
    Response::from_parts(parts, Body::from(json.to_string()))
}

fn folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("svctok-openapi-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}
