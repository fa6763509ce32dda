//! Introspection responses (RFC 7662), and the forms that the endpoint accepts.

use std::io;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use http::Request;
use serde_json::json;
use tower_service_token::api::forward_auth::ForwardAuth;
use tower_service_token::api::oauth::OAuthEndpoints;
use tower_service_token::audit::AuditAction;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::registry::LastUsed;
use tower_service_token::store::{DenialKind, TokenRecord};
use tower_service_token::testing::Fault;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

use crate::endpoints::server::{
    FORM, HOUR, INACTIVE, INVALID_REQUEST, SECOND, Server, form, insert, start,
};

#[tokio::test]
async fn returns_the_fields_of_active_tokens() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| {
        record
            .with_name("nightly build")
            .with_subject("team-a")
            .with_roles(["deployer", "auditor"])
            .with_scopes(["projects:write", "audit:**"])
            .with_label("workspace", "w1")
            .with_created_at(start() - HOUR)
            .with_not_before(start() - SECOND)
            .with_expires_at(start() + HOUR)
    });
    let server = Server::with_store(store).await;
    let response = server.introspect(&token).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), "application/json");
    assert_eq!(response.header("cache-control"), "no-store");
    assert_eq!(response.header("pragma"), "no-cache");
    let id = &token["svctok-".len()..][..10];
    let expected = json!({
        "active": true,
        "scope": "projects:write audit:**",
        "client_id": id,
        "sub": "team-a",
        "exp": 1_800_003_600,
        "iat": 1_799_996_400,
        "nbf": 1_799_999_999,
        "jti": id,
        "token_type": "Bearer",
        "roles": ["deployer", "auditor"],
        "name": "nightly build",
        "labels": {"workspace": "w1"},
    });
    assert_eq!(response.json(), expected);
}

#[tokio::test]
async fn missing_values_are_omitted() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| record);
    let server = Server::with_store(store).await;
    let id = &token["svctok-".len()..][..10];
    let expected = json!({
        "active": true, "client_id": id, "jti": id, "token_type": "Bearer", "roles": [],
    });
    assert_eq!(server.introspect(&token).await.json(), expected);
}

#[tokio::test]
async fn returns_the_configured_issuer_and_audience() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| record);
    let mut server = Server::with_store(store.clone()).await;
    let endpoints = OAuthEndpoints::new(server.tokens.clone(), ServiceTokenLayer::new(store))
        .with_issuer("https://tokens.example")
        .with_audience("projects");
    server.app = Router::new().nest("/oauth", endpoints.into_router());
    let (mut parts, body) = server
        .introspection()
        .body(form(&[("token", &token)]))
        .unwrap()
        .into_parts();
    parts.uri = "/oauth/introspect".parse().unwrap();
    let response = server.send(Request::from_parts(parts, body)).await.json();
    assert_eq!(response["iss"], "https://tokens.example");
    assert_eq!(response["aud"], "projects");
}

#[tokio::test]
async fn rounds_expiries_down() {
    let store = MemoryStore::new();
    let fraction = SECOND * 999 / 1000;
    let token = insert(&store, |record| {
        record.with_expires_at(start() + SECOND + fraction)
    });
    let server = Server::with_store(store).await;
    let exp = server.introspect(&token).await.json()["exp"].clone();
    assert_eq!(exp, 1_800_000_001);
    server.clock.advance(SECOND + fraction);
    assert_eq!(server.introspect(&token).await.body, INACTIVE);
}

#[tokio::test]
async fn previous_secrets_expire_with_the_grace_period() {
    for (expiry, exp) in [("2h", 1_800_003_600_u64), ("30m", 1_800_001_800)] {
        let server = Server::in_memory().await;
        let new = NewToken::new("ci").with_expiry(expiry.parse().unwrap());
        let first = server.create(new).await;
        let id = first.record().id();
        let second = server.tokens.rotate(id, HOUR).await.unwrap();
        let first_response = server.introspect(first.expose_secret()).await.json();
        assert_eq!(first_response["exp"], exp, "{expiry}");
        let second_response = server.introspect(second.expose_secret()).await.json();
        let expected = if expiry == "2h" { 1_800_007_200 } else { exp };
        assert_eq!(second_response["exp"], expected);
        assert_eq!(first_response["jti"], second_response["jti"]);
    }
}

#[tokio::test]
async fn inactive_tokens_get_identical_responses() {
    for server in [
        Server::in_memory().await,
        Server::with_faulty_store().await.0,
    ] {
        for (name, token) in server.bad_tokens().await {
            let response = server.introspect(&token).await;
            assert_eq!(response.status, 200, "{name}");
            assert_eq!(response.body, INACTIVE, "{name}");
            let headers: Vec<_> = response.headers.iter().collect();
            let unknown = server.introspect("svctok-unknown").await;
            let same: Vec<_> = unknown.headers.iter().collect();
            assert_eq!(headers, same, "{name}");
        }
    }
}

#[tokio::test]
async fn store_failures_are_503_and_never_inactive() {
    let (server, store) = Server::with_faulty_store().await;
    let token = server.create(NewToken::new("ci")).await;
    let tokens = ServiceTokens::new(MemoryStore::new());
    let caller = tokens.create(NewToken::new("billing").with_scopes(["introspect"]));
    let caller = caller.await.unwrap();
    store.inject(Fault::Error);
    let response = server.introspect(token.expose_secret()).await;
    response.assert_problem(503, "auth_unavailable");
    assert_eq!(response.header("retry-after"), "1");
    assert_eq!(response.challenges(), [""; 0]);

    // The caller's record is in memory; the introspected token is in the failing store.
    let memory = MemoryStore::new();
    let record = TokenRecord::from(caller.secret()).with_scopes(["introspect"]);
    memory.insert(record).unwrap();
    let chain = tower_service_token::store::ChainStore::new(memory).then(store.clone());
    let endpoints = OAuthEndpoints::new(tokens, ServiceTokenLayer::new(chain));
    let server = Server {
        app: endpoints.into_router(),
        caller: caller.into(),
        ..server
    };
    let response = server.introspect(token.expose_secret()).await;
    response.assert_problem(503, "auth_unavailable");
    assert_eq!(response.header("retry-after"), "1");
    store.clear_fault();
    let response = server.introspect(token.expose_secret()).await;
    assert_eq!(response.json()["active"], true);
}

#[tokio::test]
async fn rejects_forms_without_exactly_one_token() {
    let server = Server::in_memory().await;
    let caller = server.caller.expose_secret().to_owned();
    for (name, body) in [
        ("no body", String::new()),
        ("no token", "token_type_hint=access_token".to_owned()),
        ("an empty token", "token=".to_owned()),
        ("a name alone", "token".to_owned()),
        ("another case", format!("Token={caller}")),
        ("twice", format!("token={caller}&token={caller}")),
        ("twice, once empty", format!("token=&token={caller}")),
        ("JSON", format!(r#"{{"token":"{caller}"}}"#)),
    ] {
        let request = server.introspection().body(Body::from(body)).unwrap();
        let response = server.send(request).await;
        assert_eq!(response.status, 400, "{name}");
        assert_eq!(response.body, INVALID_REQUEST, "{name}");
        assert_eq!(response.header("content-type"), "application/json");
        assert_eq!(response.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn accepts_only_the_form_content_type() {
    let server = Server::in_memory().await;
    let caller = server.caller.expose_secret().to_owned();
    for (content_type, status) in [
        (FORM, 200),
        ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", 200),
        ("application/json", 400),
        ("application/x-www-form-urlencoded-too", 400),
        ("text/plain; application/x-www-form-urlencoded", 400),
        ("", 400),
    ] {
        let request = Request::post("/introspect")
            .header("x-api-key", &caller)
            .header("content-type", content_type)
            .body(form(&[("token", &caller)]));
        let response = server.send(request.unwrap()).await;
        assert_eq!(response.status, status, "{content_type}");
    }
    for (name, request) in [
        ("no content type", Request::post("/introspect")),
        (
            "in the query",
            Request::post(format!("/introspect?token={caller}")).header("content-type", FORM),
        ),
        (
            "two content types",
            Request::post("/introspect")
                .header("content-type", FORM)
                .header("content-type", FORM),
        ),
    ] {
        let body = if name == "in the query" {
            ""
        } else {
            "token=x"
        };
        let request = request.header("x-api-key", &caller).body(body.into());
        let response = server.send(request.unwrap()).await;
        assert_eq!(response.status, 400, "{name}");
        assert_eq!(response.body, INVALID_REQUEST, "{name}");
    }
}

#[tokio::test]
async fn limits_bodies_to_64_kib() {
    let server = Server::in_memory().await;
    let exact = format!("token=x&pad={}", "x".repeat(64 * 1024 - 12));
    assert_eq!(exact.len(), 64 * 1024);
    for (body, status) in [(exact.clone(), 200), (exact + "x", 413)] {
        let request = server.introspection().body(Body::from(body)).unwrap();
        let response = server.send(request).await;
        assert_eq!(response.status, status);
        assert_eq!(response.header("cache-control"), "no-store");
    }
}

/// A chunked body declares no length, so the limit applies while the body is read.
#[tokio::test]
async fn limits_chunked_bodies_and_rejects_aborted_ones() {
    let server = Server::in_memory().await;
    let connection_error = || io::Error::other("connection reset");
    for (pieces, status) in [
        (vec![Ok("token="), Ok("x")], 200),
        ((0..16 * 1024).map(|_| Ok("token=x")).collect(), 413),
        (vec![Ok("token=x"), Err(connection_error())], 400),
    ] {
        let body = Body::from_stream(futures::stream::iter(pieces));
        let response = server
            .send(server.introspection().body(body).unwrap())
            .await;
        assert_eq!(response.status, status);
    }
}

#[tokio::test]
async fn routers_merge_into_apps_with_any_state() {
    let server = Server::in_memory().await;
    let layer = ServiceTokenLayer::new(MemoryStore::new());
    let endpoints = OAuthEndpoints::new(server.tokens.clone(), layer.clone());
    let app: Router<String> = Router::new()
        .nest("/oauth", endpoints.into_router())
        .merge(ForwardAuth::new(layer).into_router())
        .route("/", get(|State(state): State<String>| async { state }));
    let app = app.with_state("a state".to_owned());
    let server = Server { app, ..server };
    for (path, status) in [("/", 200), ("/verify", 401), ("/oauth/introspect", 405)] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(server.send(request).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn ignores_hints_and_other_parameters() {
    let server = Server::in_memory().await;
    let caller = server.caller.expose_secret();
    let encoded: Vec<_> = caller.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let encoded = encoded.concat();
    for body in [
        format!("token={caller}&token_type_hint=refresh_token"),
        format!("token_type_hint=nonsense&token={caller}&x=y&x=z"),
        format!("token={encoded}"),
        format!("%74oken={caller}&"),
    ] {
        let request = server.introspection().body(Body::from(body.clone()));
        let response = server.send(request.unwrap()).await;
        assert_eq!(response.json()["active"], true, "{body}");
    }
    // Incomplete percent-encoding, and bytes that no token contains.
    for body in ["token=%ff%fe", "token=%", "token=a%00b", "token=a+b"] {
        let request = server.introspection().body(Body::from(body));
        let response = server.send(request.unwrap()).await;
        assert_eq!(response.body, INACTIVE, "{body}");
    }
}

#[tokio::test]
async fn rejects_other_methods() {
    let server = Server::in_memory().await;
    for path in ["/introspect", "/revoke"] {
        for method in ["GET", "PUT", "DELETE"] {
            let request = Request::builder().method(method).uri(path);
            let response = server.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(response.status, 405, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn introspection_records_uses_and_audits_rejections() {
    let server = Server::in_memory().await;
    let store = MemoryStore::new();
    let token = insert(&store, |record| record);
    let record = TokenRecord::from(server.caller.secret()).with_scopes(["introspect"]);
    store.insert(record).unwrap();
    let last_used = LastUsed::new(store.clone());
    let layer = ServiceTokenLayer::new(store.clone())
        .with_clock(server.clock.clone())
        .with_last_used(last_used.clone())
        .with_audit_sink(server.events.clone());
    let endpoints = OAuthEndpoints::new(ServiceTokens::new(store.clone()), layer);
    let app = endpoints.into_router();
    let server = Server { app, ..server };
    assert_eq!(server.introspect(&token).await.json()["active"], true);
    last_used.flush().await.unwrap();
    let id = token["svctok-".len()..][..10].parse().unwrap();
    assert_eq!(store.get(id).unwrap().last_used_at(), Some(start()));

    store.revoke(id).unwrap();
    assert_eq!(server.introspect(&token).await.body, INACTIVE);
    let rejections = server.events.of(AuditAction::Rejected(DenialKind::Revoked));
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].token_id(), id);
}
