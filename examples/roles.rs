//! Requires roles and scopes in four ways: a layer on a route, an extractor with a policy,
//! `require` in a handler, and a caller that may be absent.
//!
//! `cargo run --example roles` sends the requests itself and prints the responses.

use std::error::Error;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Path;
use axum::routing::{delete, get, post};
use http::Request;
use tower::ServiceExt;
use tower_service_token::authorize::{AccessPolicy, Authorized, RequireRolesLayer};
use tower_service_token::principal::Requirement;
use tower_service_token::reject::Rejection;
use tower_service_token::store::TokenRecord;
use tower_service_token::token::{MintedToken, TokenFormat};
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer};

fn app(store: &MemoryStore) -> Router {
    let releasers = RequireRolesLayer::any_of(["releaser", "admin"]);
    let with_token = Router::new()
        .route("/releases", post(release).layer(releasers))
        .route("/projects", get(list_projects))
        .route("/projects/{project}", delete(delete_project))
        .route_layer(ServiceTokenLayer::new(store.clone()));
    let with_or_without = Router::new()
        .route("/greeting", get(greet))
        .route_layer(ServiceTokenLayer::new(store.clone()).optional());
    with_token.merge(with_or_without)
}

/// The layer on this route has checked the role.
async fn release(principal: Principal) -> String {
    format!("released by {}", principal.name())
}

struct ReadProjects;

impl AccessPolicy for ReadProjects {
    fn requirement() -> Requirement {
        Requirement::all_scopes(["projects:read"])
    }
}

/// The extractor in the signature checks the scopes.
async fn list_projects(principal: Authorized<ReadProjects>) -> String {
    format!("the projects {} may see", principal.name())
}

/// The required scope depends on the request.
async fn delete_project(
    Path(project): Path<String>,
    principal: Principal,
) -> Result<String, Rejection> {
    principal.require(Requirement::all_scopes([format!(
        "projects:delete:{project}"
    )]))?;
    Ok(format!("{project} deleted by {}", principal.name()))
}

async fn greet(principal: Option<Principal>) -> String {
    let name = principal
        .as_ref()
        .map_or("anonymous caller", Principal::name);
    format!("hello, {name}")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let robot = mint(&store, |robot| {
        robot
            .with_name("robot")
            .with_roles(["releaser"])
            .with_scopes(["projects:read", "projects:delete:sandbox"])
    })?;
    let guest = mint(&store, |guest| guest.with_name("guest"))?;

    let app = app(&store);
    for (who, token) in [
        ("robot", Some(&robot)),
        ("guest", Some(&guest)),
        ("-", None),
    ] {
        for (method, path) in [
            ("POST", "/releases"),
            ("GET", "/projects"),
            ("DELETE", "/projects/sandbox"),
            ("DELETE", "/projects/website"),
            ("GET", "/greeting"),
        ] {
            let mut request = Request::builder().method(method).uri(path);
            if let Some(token) = token {
                request = request.header("x-api-key", token.expose_secret());
            }
            let response = app.clone().oneshot(request.body(Body::empty())?).await?;
            let status = response.status().as_u16();
            let body = to_bytes(response.into_body(), 4096).await?;
            let body = String::from_utf8_lossy(&body);
            println!("{who:5} {method:6} {path:17} {status} {body}");
        }
    }
    Ok(())
}

fn mint(
    store: &MemoryStore,
    describe: impl FnOnce(TokenRecord) -> TokenRecord,
) -> Result<MintedToken, Box<dyn Error>> {
    let token = TokenFormat::default().mint()?;
    store.insert(describe(TokenRecord::from(&token)))?;
    Ok(token)
}
