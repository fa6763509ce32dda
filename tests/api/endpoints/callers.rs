//! Authentication and authorization of introspection callers.

use axum::Router;
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tower_service_token::api::forward_auth::ForwardAuth;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::api::oauth::OAuthEndpoints;
use tower_service_token::api::pipeops::PipeOpsApi;
use tower_service_token::api::stackstate::StackStateApi;
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::testing::Fault;
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

use crate::endpoints::server::{DAMAGED, FORM, Server, TestResponse, UNKNOWN, form, insert};

/// Introspects the caller's own token with these headers.
async fn introspect_own(server: &Server, headers: &[(&str, &str)]) -> TestResponse {
    let mut all = HeaderMap::new();
    all.insert("content-type", HeaderValue::from_static(FORM));
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        all.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let body = form(&[("token", server.caller.expose_secret())]);
    let mut request = Request::post("/introspect").body(body).unwrap();
    *request.headers_mut() = all;
    server.send(request).await
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[tokio::test]
async fn accepts_every_credential_source() {
    for server in [
        Server::in_memory().await,
        Server::with_faulty_store().await.0,
    ] {
        let token = server.caller.expose_secret().to_owned();
        let id = server.caller.record().id().to_string();
        let dashes = token.replace('-', "%2D").replace('_', "%5f");
        let unpadded = basic(&id, &token).replace('=', "");
        for (name, value) in [
            ("authorization", format!("ApiKey {token}")),
            ("authorization", format!("Bearer {token}")),
            ("authorization", format!("bearer   {token}")),
            ("x-api-key", token.clone()),
            ("authorization", basic(&id, &token)),
            (
                "authorization",
                basic(&id, &token).replace("Basic", "bAsIc  "),
            ),
            (
                "authorization",
                basic(
                    &id.replace(&id[..1], &format!("%{:x}", id.as_bytes()[0])),
                    &dashes,
                ),
            ),
            ("authorization", unpadded),
        ] {
            let response = introspect_own(&server, &[(name, &value)]).await;
            assert_eq!(response.status, 200, "{value}");
            assert_eq!(response.json()["active"], true, "{value}");
        }
        let both = [
            ("authorization", &*basic(&id, &token)),
            ("x-api-key", &token),
        ];
        assert_eq!(introspect_own(&server, &both).await.status, 200);
    }
}

#[tokio::test]
async fn basic_accepts_tokens_of_any_format() {
    let server = Server::in_memory().await;
    let plain = "abc+d/e=:f!";
    let new = NewToken::new("old").with_scopes(["introspect"]);
    let record = server.tokens.import(new, TokenDigest::of(plain)).await;
    let id = record.unwrap().id().to_string();
    for password in [
        plain,
        "abc%2Bd%2Fe%3D%3Af%21",
        "abc+d%2fe=:f!",
        // A token from a file may end with a line break.
        "abc+d/e=:f!\n",
        "abc+d/e=:f!%0D%0A",
    ] {
        let response = introspect_own(&server, &[("authorization", &basic(&id, password))]).await;
        assert_eq!(response.status, 200, "{password}");
    }
}

#[tokio::test]
async fn rejections_have_a_challenge_for_every_scheme() {
    let server = Server::in_memory().await;
    let id = server.caller.record().id().to_string();
    let other = server
        .create(NewToken::new("other").with_scopes(["introspect"]))
        .await;
    let api_key = |token: &str| ("authorization", format!("ApiKey {token}"));
    let basic = |user: &str, token: &str| ("authorization", basic(user, token));
    for (name, header, code) in [
        ("nothing", ("accept", "*/*".to_owned()), "missing_token"),
        (
            "another scheme",
            ("authorization", "Digest x".to_owned()),
            "missing_token",
        ),
        ("unknown", api_key(UNKNOWN), "invalid_token"),
        ("damaged", api_key(DAMAGED), "invalid_token"),
        ("basic, unknown", basic(&id, UNKNOWN), "invalid_token"),
        (
            "basic, another's id",
            basic(&id, other.expose_secret()),
            "invalid_token",
        ),
        (
            "basic, no id",
            basic("billing", other.expose_secret()),
            "invalid_token",
        ),
        (
            "basic, bad UTF-8",
            basic("%ff", other.expose_secret()),
            "invalid_token",
        ),
        (
            "basic, empty user",
            basic("", other.expose_secret()),
            "invalid_token",
        ),
    ] {
        let response = introspect_own(&server, &[(header.0, &header.1)]).await;
        response.assert_problem(401, code);
        assert_eq!(
            response.challenges(),
            ["ApiKey", "Bearer", "Basic"],
            "{name}"
        );
        assert_eq!(response.header("pragma"), "no-cache", "{name}");
        assert!(!response.body.contains("active"), "{name}");
    }
}

#[tokio::test]
async fn malformed_credentials_are_400() {
    let server = Server::in_memory().await;
    let token = server.caller.expose_secret();
    let id = server.caller.record().id().to_string();
    let good = basic(&id, token);
    let api_key = format!("ApiKey {token}");
    let no_colon = format!("Basic {}", STANDARD.encode(token));
    let control = format!(
        "Basic {}",
        STANDARD.encode(format!("{id}:a%0d%0aX-Api-Key: b"))
    );
    for (name, headers) in [
        (
            "two tokens",
            vec![("authorization", &*good), ("x-api-key", UNKNOWN)],
        ),
        (
            "two values",
            vec![("authorization", &*good), ("authorization", &*good)],
        ),
        (
            "two schemes",
            vec![("authorization", &*good), ("authorization", &*api_key)],
        ),
        ("no base64", vec![("authorization", "Basic !!!")]),
        ("no credentials", vec![("authorization", "Basic")]),
        ("no colon", vec![("authorization", &*no_colon)]),
        (
            "no password",
            vec![("authorization", "Basic N0hxMm1YOWJUZTo=")],
        ),
        ("a line break", vec![("authorization", &*control)]),
        ("trailing text", vec![("authorization", "ApiKey a b")]),
        ("not ASCII", vec![("authorization", "Basic \u{ff}")]),
    ] {
        let response = introspect_own(&server, &headers).await;
        assert_eq!(response.status, 400, "{name}");
        response.assert_problem(400, "invalid_request");
    }
}

#[tokio::test]
async fn introspection_requires_its_scope_or_a_wildcard() {
    let server = Server::in_memory().await;
    for (scopes, status) in [
        (&["introspect"][..], 200),
        (&["*"], 200),
        (&["**"], 200),
        (&["introspect:all"], 403),
        (&["projects:**", "Introspect"], 403),
        (&[], 403),
    ] {
        let new = NewToken::new("c").with_scopes(scopes.iter().copied());
        let caller = server.create(new.with_roles(["introspect"])).await;
        let key = caller.expose_secret();
        let response = introspect_own(&server, &[("x-api-key", key)]).await;
        assert_eq!(response.status, status, "{scopes:?}");
        if status == 403 {
            response.assert_problem(403, "insufficient_scope");
            assert_eq!(response.json()["required"]["scopes"][0], "introspect");
            assert_eq!(response.challenges(), ["ApiKey", "Bearer", "Basic"]);
        }
    }
}

#[tokio::test]
async fn ignores_credentials_in_the_form_and_the_query() {
    let server = Server::in_memory().await;
    let (id, token) = (
        server.caller.record().id().to_string(),
        server.caller.expose_secret(),
    );
    let pairs = [
        ("token", token),
        ("client_id", &*id),
        ("client_secret", token),
    ];
    let uri = format!("/introspect?access_token={token}");
    let request = Request::post(uri).header("content-type", FORM);
    let response = server.send(request.body(form(&pairs)).unwrap()).await;
    response.assert_problem(401, "missing_token");
}

#[tokio::test]
async fn authenticates_callers_before_reading_the_body() {
    let server = Server::in_memory().await;
    let body = Body::from_stream(futures::stream::once(async {
        panic!("the body was read");
        #[expect(unreachable_code, reason = "gives the stream its item type")]
        Ok::<String, std::io::Error>(String::new())
    }));
    let request = Request::post("/introspect").header("content-type", FORM);
    let response = server.send(request.body(body).unwrap()).await;
    response.assert_problem(401, "missing_token");
}

#[tokio::test]
async fn store_failures_during_the_caller_lookup_are_503() {
    let (server, store) = Server::with_faulty_store().await;
    store.inject(Fault::Error);
    let response = introspect_own(&server, &[("x-api-key", server.caller.expose_secret())]).await;
    response.assert_problem(503, "auth_unavailable");
    assert_eq!(response.header("retry-after"), "1");
}

/// Nothing else authenticates the callers of these endpoints, so no bearer token counts as absent.
#[tokio::test]
async fn endpoints_read_bearer_tokens_that_the_layer_leaves_to_others() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| record);
    let tokens = ServiceTokens::new(store.clone());
    let other_format = TokenFormat::new("acme_").unwrap();
    let layer = ServiceTokenLayer::new(store).accept_bearer_of(other_format);
    let app = Router::new()
        .merge(ManagementApi::new(tokens.clone(), layer.clone()).into_router())
        .merge(PipeOpsApi::new(tokens.clone(), layer.clone()).into_router())
        .merge(OAuthEndpoints::new(tokens, layer.clone()).into_router())
        .merge(ForwardAuth::new(layer).into_router());
    let server = Server {
        app,
        ..Server::in_memory().await
    };
    for (method, path, status) in [
        ("GET", "/verify", 200),
        ("POST", "/introspect", 403),
        ("GET", "/api/v1/service-account-tokens", 403),
        // The management API reads what the layer reads.
        ("GET", "/service-tokens", 401),
    ] {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {token}"));
        let response = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status, status, "{method} {path}");
    }
}

/// A gRPC error has the HTTP status 200, which nginx's `auth_request` and other proxies take for
/// access.
#[tokio::test]
async fn grpc_content_types_do_not_change_rejections() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| record);
    let (tokens, layer) = (
        ServiceTokens::new(store.clone()),
        ServiceTokenLayer::new(store),
    );
    let server = Server::in_memory().await;
    let app = Router::new()
        .merge(ManagementApi::new(tokens.clone(), layer.clone()).into_router())
        .merge(PipeOpsApi::new(tokens.clone(), layer.clone()).into_router())
        .nest(
            "/api",
            StackStateApi::new(tokens.clone(), layer.clone()).into_router(),
        )
        .merge(OAuthEndpoints::new(tokens, layer.clone()).into_router())
        .merge(ForwardAuth::new(layer).into_router());
    let server = Server { app, ..server };
    for content_type in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc-web",
    ] {
        for (method, path) in [
            ("GET", "/service-tokens"),
            ("POST", "/service-tokens"),
            ("DELETE", "/service-tokens/7Hq2mX9bTe"),
            ("GET", "/api/security/tokens"),
            ("GET", "/api/v1/service-account-tokens"),
            ("POST", "/introspect"),
            ("GET", "/verify?role=a"),
            ("POST", "/verify?role=a"),
        ] {
            for (key, status) in [(None, 401), (Some("two words"), 400), (Some(&*token), 403)] {
                let mut request = Request::builder().method(method).uri(path);
                if let Some(key) = key {
                    request = request.header("x-api-key", key);
                }
                let request = request.header("content-type", content_type);
                let response = server.send(request.body(Body::empty()).unwrap()).await;
                assert_eq!(response.status, status, "{method} {path} {content_type}");
                assert_eq!(response.header("grpc-status"), "", "{path}");
                assert!(response.header("content-type").contains("json"), "{path}");
            }
        }
    }
}
