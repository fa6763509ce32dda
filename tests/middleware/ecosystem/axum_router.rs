use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY, WWW_AUTHENTICATE};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_service_token::authorize::{
    AccessPolicy, Authorized, RequireRolesLayer, RequireScopesLayer,
};
use tower_service_token::principal::Requirement;
use tower_service_token::reject::{Realm, Rejection, RejectionReason};
use tower_service_token::token::MintedToken;
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer};

use crate::ecosystem::{Log, UnavailableStore, UncachedStore, mint, store_with_token};

async fn name(principal: Principal) -> String {
    principal.name().to_owned()
}

async fn name_or_anonymous(principal: Option<Principal>) -> String {
    principal.map_or("anonymous".to_owned(), |principal| {
        principal.name().to_owned()
    })
}

async fn send_get(app: &Router, path: &str, token: Option<&MintedToken>) -> Response {
    let mut request = Request::get(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("ApiKey {}", token.expose_secret()));
    }
    let request = request.body(Body::empty()).unwrap();
    app.clone().oneshot(request).await.unwrap()
}

async fn status(app: &Router, path: &str, token: Option<&MintedToken>) -> StatusCode {
    send_get(app, path, token).await.status()
}

async fn text(response: Response) -> String {
    let body = to_bytes(response.into_body(), 4096).await.unwrap();
    String::from_utf8(body.into()).unwrap()
}

async fn problem(response: Response) -> Value {
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    serde_json::from_str(&text(response).await).unwrap()
}

#[tokio::test]
async fn router_layer_protects_known_and_unknown_paths() {
    let (store, token) = store_with_token();
    let app = Router::new()
        .route("/name", get(name))
        .layer(ServiceTokenLayer::new(store));

    assert_eq!(status(&app, "/name", None).await, 401);
    assert_eq!(status(&app, "/name", Some(&mint())).await, 401);
    assert_eq!(status(&app, "/unknown", None).await, 401);
    assert_eq!(status(&app, "/unknown", Some(&token)).await, 404);

    let response = send_get(&app, "/name", Some(&token)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[CACHE_CONTROL], "private");
    let vary = response.headers()[VARY].to_str().unwrap().to_lowercase();
    assert_eq!(vary, "authorization, x-api-key");
    assert_eq!(text(response).await, "ci");
}

#[tokio::test]
async fn route_layer_leaves_404_to_the_router() {
    let (store, token) = store_with_token();
    let app = Router::new()
        .route("/name", get(name))
        .route_layer(ServiceTokenLayer::new(store));

    assert_eq!(status(&app, "/name", None).await, 401);
    assert_eq!(status(&app, "/name", Some(&token)).await, 200);
    assert_eq!(status(&app, "/unknown", None).await, 404);
}

#[tokio::test]
async fn routes_added_after_the_layer_are_unprotected() {
    let (store, _) = store_with_token();
    let app = Router::new()
        .route("/name", get(name))
        .layer(ServiceTokenLayer::new(store))
        .route("/health", get(async || "ok"));

    assert_eq!(status(&app, "/name", None).await, 401);
    assert_eq!(text(send_get(&app, "/health", None).await).await, "ok");
}

#[tokio::test]
async fn nested_router_layer_protects_only_that_router() {
    let (store, token) = store_with_token();
    let api = Router::new()
        .route("/name", get(name))
        .layer(ServiceTokenLayer::new(store));
    let app = Router::new()
        .route("/", get(async || "welcome"))
        .nest("/api", api);

    assert_eq!(text(send_get(&app, "/", None).await).await, "welcome");
    assert_eq!(status(&app, "/api/name", None).await, 401);
    assert_eq!(
        text(send_get(&app, "/api/name", Some(&token)).await).await,
        "ci"
    );
}

#[tokio::test]
async fn nested_routers_use_separate_stores() {
    let (first_store, first_token) = store_with_token();
    let (second_store, second_token) = store_with_token();
    let protected = |store: MemoryStore| {
        Router::new()
            .route("/name", get(name))
            .route_layer(ServiceTokenLayer::new(store))
    };
    let app = Router::new()
        .nest("/first", protected(first_store))
        .nest("/second", protected(second_store));

    assert_eq!(status(&app, "/first/name", Some(&first_token)).await, 200);
    assert_eq!(status(&app, "/first/name", Some(&second_token)).await, 401);
    assert_eq!(status(&app, "/second/name", Some(&first_token)).await, 401);
    assert_eq!(status(&app, "/second/name", Some(&second_token)).await, 200);
}

#[tokio::test]
async fn extractors_work_with_state_and_an_uncached_store() {
    async fn both(State(greeting): State<&'static str>, principal: Principal) -> String {
        format!("{greeting}, {}", principal.name())
    }

    let (store, token) = store_with_token();
    let app = Router::new()
        .route("/", get(both))
        .layer(ServiceTokenLayer::new(UncachedStore(store)))
        .with_state("hello");

    assert_eq!(
        text(send_get(&app, "/", Some(&token)).await).await,
        "hello, ci"
    );
    assert_eq!(status(&app, "/", Some(&mint())).await, 401);
}

#[tokio::test]
async fn outage_is_503_with_retry_after_and_no_store_details() {
    let app = Router::new()
        .route("/", get(name))
        .layer(ServiceTokenLayer::new(UnavailableStore));

    let response = send_get(&app, "/", Some(&mint())).await;
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    assert!(!response.headers().contains_key(WWW_AUTHENTICATE));
    let problem = problem(response).await;
    assert_eq!(problem["code"], "auth_unavailable");
    assert!(!problem.to_string().contains("10.0.0.7"), "{problem}");
}

#[tokio::test]
async fn optional_layer_rejects_invalid_tokens() {
    let (store, token) = store_with_token();
    let app = Router::new()
        .route("/", get(name_or_anonymous))
        .layer(ServiceTokenLayer::new(store).optional());

    assert_eq!(text(send_get(&app, "/", None).await).await, "anonymous");
    assert_eq!(text(send_get(&app, "/", Some(&token)).await).await, "ci");
    assert_eq!(status(&app, "/", Some(&mint())).await, 401);
}

#[tokio::test]
async fn optional_layer_extractor_responds_with_its_challenge() {
    let (store, token) = store_with_token();
    let layer = ServiceTokenLayer::new(store).optional().accept_bearer();
    let app = Router::new()
        .route("/principal", get(name))
        .route("/authorized", get(build))
        .layer(layer.with_realm(Realm::new("builds").unwrap()));

    for path in ["/principal", "/authorized"] {
        let response = send_get(&app, path, None).await;
        assert_eq!(response.status(), 401);
        let challenges: Vec<_> = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .collect();
        let expected = [r#"ApiKey realm="builds""#, r#"Bearer realm="builds""#];
        assert_eq!(challenges, expected);
        assert_eq!(problem(response).await["code"], "missing_token");
        assert_eq!(status(&app, path, Some(&token)).await, 200);
    }
}

struct Build;

impl AccessPolicy for Build {
    fn requirement() -> Requirement {
        Requirement::any_role(["builder"])
    }
}

struct Deploy;

impl AccessPolicy for Deploy {
    fn requirement() -> Requirement {
        Requirement::all_scopes(["health:check", "deployments:create"])
    }
}

async fn build(principal: Authorized<Build>) -> String {
    principal.into_principal().name().to_owned()
}

async fn deploy(principal: Authorized<Deploy>) -> String {
    principal.name().to_owned()
}

#[tokio::test]
async fn authorized_enforces_its_policy_and_names_the_requirement() {
    let (store, token) = store_with_token();
    let app = Router::new()
        .route("/build", get(build))
        .route("/deploy", get(deploy))
        .layer(ServiceTokenLayer::new(store));

    assert_eq!(
        text(send_get(&app, "/build", Some(&token)).await).await,
        "ci"
    );
    let response = send_get(&app, "/deploy", Some(&token)).await;
    assert_eq!(response.status(), 403);
    assert_eq!(
        response.headers()[WWW_AUTHENTICATE],
        r#"ApiKey realm="api", error="insufficient_scope", scope="health:check deployments:create""#
    );
    let problem = problem(response).await;
    assert_eq!(problem["code"], "insufficient_scope");
    assert_eq!(problem["token_id"], token.id().to_string());
    assert_eq!(
        problem["required"],
        json!({ "match": "all", "scopes": ["health:check", "deployments:create"] })
    );
}

#[tokio::test]
async fn guard_layers_require_roles_and_scopes() {
    let (store, token) = store_with_token();
    let app = Router::new()
        .route(
            "/build",
            get(name).layer(RequireRolesLayer::any_of(["builder", "admin"])),
        )
        .route(
            "/admin",
            get(name).layer(RequireRolesLayer::all_of(["builder", "admin"])),
        )
        .route(
            "/check",
            get(name).layer(RequireScopesLayer::any_of(["health:check"])),
        )
        .route(
            "/fix",
            get(name).layer(RequireScopesLayer::any_of(["health:fix"])),
        )
        .layer(ServiceTokenLayer::new(store));

    for (path, expected) in [
        ("/build", 200),
        ("/admin", 403),
        ("/check", 200),
        ("/fix", 403),
    ] {
        assert_eq!(status(&app, path, Some(&token)).await, expected, "{path}");
        assert_eq!(status(&app, path, None).await, 401, "{path}");
    }
}

#[tokio::test]
async fn requirement_from_the_path_is_escaped_in_the_challenge() {
    async fn delete(Path(name): Path<String>, caller: Principal) -> Result<(), Rejection> {
        caller.require(Requirement::all_scopes(["health:check".to_owned(), name]))
    }

    let (store, token) = store_with_token();
    let app = Router::new()
        .route("/{name}", get(delete))
        .layer(ServiceTokenLayer::new(store));

    assert_eq!(status(&app, "/health:check", Some(&token)).await, 200);
    for path in [
        "/a%22,%20Basic%20realm=%22b",
        "/a%0d%0aset-cookie:%20b",
        "/%C3%A9",
    ] {
        let response = send_get(&app, path, Some(&token)).await;
        assert_eq!(response.status(), 403, "{path}");
        assert!(!response.headers().contains_key("set-cookie"), "{path}");
        assert_eq!(
            response.headers()[WWW_AUTHENTICATE],
            r#"ApiKey realm="api", error="insufficient_scope", scope="health:check""#,
            "{path}"
        );
    }
}

#[tokio::test]
async fn missing_layer_is_500_and_logged() {
    let app = Router::new()
        .route("/principal", get(name))
        .route("/option", get(name_or_anonymous))
        .route("/authorized", get(build))
        .route(
            "/guard",
            get(async || "open").layer(RequireRolesLayer::any_of(["builder"])),
        );

    for path in ["/principal", "/option", "/authorized", "/guard"] {
        let log = Log::capture();
        let response = send_get(&app, path, Some(&mint())).await;
        assert_eq!(response.status(), 500, "{path}");
        assert!(!response.headers().contains_key(WWW_AUTHENTICATE), "{path}");
        let problem = problem(response).await;
        assert_eq!(problem["code"], "internal");
        assert!(!problem.to_string().contains("Layer"), "{problem}");

        if cfg!(feature = "tracing") {
            let log = log.text();
            assert!(
                log.contains("ERROR tower_service_token: request rejected"),
                "{log}"
            );
            assert!(log.contains(r#"reason="missing_layer""#), "{log}");
            assert!(
                log.contains("no ServiceTokenLayer in front of the guard"),
                "{log}"
            );
        }
    }
}

#[tokio::test]
async fn outer_layers_see_the_rejection_extension() {
    let (store, token) = store_with_token();
    let app = Router::new()
        .route("/layer", get(name))
        .route(
            "/guard",
            get(name).layer(RequireRolesLayer::any_of(["admin"])),
        )
        .route("/handler", get(deploy))
        .layer(ServiceTokenLayer::new(store));

    for (path, token, reason, id) in [
        ("/layer", None, RejectionReason::MissingToken, None),
        ("/layer", Some(&mint()), RejectionReason::UnknownToken, None),
        (
            "/guard",
            Some(&token),
            RejectionReason::InsufficientScope,
            Some(token.id()),
        ),
        (
            "/handler",
            Some(&token),
            RejectionReason::InsufficientScope,
            Some(token.id()),
        ),
    ] {
        let response = send_get(&app, path, token).await;
        let rejection = response.extensions().get::<Rejection>().unwrap();
        assert_eq!(rejection.reason(), reason, "{path}");
        assert_eq!(rejection.token_id(), id, "{path}");
    }
}
