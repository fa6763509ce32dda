//! The response of forward authentication to a proxy.

use axum::body::Body;
use http::{HeaderValue, Method, Request};
use tower_service_token::MemoryStore;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::testing::Fault;

use crate::endpoints::server::{DAMAGED, Server, UNKNOWN, insert};

const HEADERS: [&str; 5] = [
    "x-service-token-id",
    "x-service-token-name",
    "x-service-token-subject",
    "x-service-token-roles",
    "x-service-token-scopes",
];

#[tokio::test]
async fn valid_tokens_get_204_and_identity_headers() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| {
        record
            .with_name("nightly build")
            .with_subject("team-a")
            .with_roles(["deployer", "auditor"])
            .with_scopes(["projects:write", "audit:**"])
    });
    let server = Server::with_store(store).await;
    for method in [Method::GET, Method::HEAD, Method::POST] {
        for (header, value) in [
            ("authorization", format!("ApiKey {token}")),
            ("authorization", format!("Bearer {token}")),
            ("x-api-key", token.clone()),
        ] {
            let request = Request::builder()
                .method(&method)
                .uri("/verify")
                .header(header, value);
            let answer = server.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(
                (answer.status.as_u16(), &*answer.body),
                (204, ""),
                "{method}"
            );
            let values = HEADERS.map(|name| answer.header(name));
            let id = &token["svctok-".len()..][..10];
            let expected = [
                id,
                "nightly%20build",
                "team-a",
                "deployer,auditor",
                "projects:write audit:**",
            ];
            assert_eq!(values, expected);
            assert_eq!(answer.header("cache-control"), "no-store");
        }
    }
    for method in ["PUT", "DELETE", "OPTIONS", "PATCH"] {
        let request = Request::builder()
            .method(method)
            .uri("/verify")
            .header("x-api-key", &token);
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 405);
        assert_eq!(answer.header("x-service-token-id"), "");
    }
}

#[tokio::test]
async fn missing_values_are_empty_headers() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| record);
    let server = Server::with_store(store).await;
    let answer = server.verify("", &token).await;
    for name in HEADERS {
        assert!(answer.response.headers().contains_key(name), "{name}");
    }
    assert_eq!(
        HEADERS[1..]
            .iter()
            .map(|name| answer.header(name))
            .collect::<String>(),
        ""
    );
}

#[tokio::test]
async fn names_cannot_inject_headers() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| {
        record
            .with_name("a\r\nX-Service-Token-Roles: admin")
            .with_subject("\u{e9}t\u{e9} 100%\0")
            .with_roles(["a,admin", "b c", "\u{1f511}"])
            .with_scopes(["x,y", "100%"])
    });
    let server = Server::with_store(store).await;
    let answer = server.verify("", &token).await;
    let values = HEADERS.map(|name| answer.header(name));
    assert_eq!(
        values[1..],
        [
            "a%0D%0AX-Service-Token-Roles:%20admin",
            "%C3%A9t%C3%A9%20100%25%00",
            "a%2Cadmin,b%20c,%F0%9F%94%91",
            "x%2Cy 100%25",
        ]
    );
}

#[tokio::test]
async fn requires_every_role_and_scope_of_the_query() {
    let server = Server::in_memory().await;
    let new = NewToken::new("ci")
        .with_roles(["deployer", "night shift", "a&b"])
        .with_scopes(["projects:*"]);
    let token = server.create(new).await;
    for (query, status) in [
        ("", 204),
        ("?", 204),
        ("?role=deployer", 204),
        ("?role=deployer&role=night%20shift&role=a%26b", 204),
        ("?role=night+shift&scope=projects:write", 204),
        ("?scope=projects:write&scope=projects%3Aread", 204),
        ("?role=admin", 403),
        ("?role=deployer&role=admin", 403),
        ("?role=deployer,night%20shift", 403),
        ("?role=Deployer", 403),
        ("?role=deployer%0Aadmin", 403),
        ("?scope=projects:write&scope=audit:read", 403),
        ("?scope=projects:write%20projects:read", 403),
        ("?role=admin&scope=projects:write", 403),
        ("?roles=deployer", 400),
        ("?role=deployer&scopes=x", 400),
        ("?role=", 400),
        ("?role", 400),
        ("?Role=deployer", 400),
        ("?role%20=deployer", 400),
        ("?x-api-key=a", 400),
    ] {
        let answer = server.verify(query, token.expose_secret()).await;
        assert_eq!(answer.status, status, "{query}");
        assert_eq!(answer.header("cache-control"), "no-store", "{query}");
        if status == 204 {
            continue;
        }
        for name in HEADERS {
            assert_eq!(answer.header(name), "", "{query}");
        }
        match status {
            403 => {
                answer.assert_problem(403, "insufficient_scope");
                assert_eq!(answer.challenges(), ["ApiKey", "Bearer"], "{query}");
            }
            _ => answer.assert_problem(400, "invalid_request"),
        }
    }
}

#[tokio::test]
async fn challenges_name_missing_scopes() {
    let server = Server::in_memory().await;
    let answer = server
        .verify("?scope=a:b", server.caller.expose_secret())
        .await;
    let challenge = answer.response.headers()["www-authenticate"]
        .to_str()
        .unwrap();
    let expected = r#"ApiKey realm="api", error="insufficient_scope", scope="a:b""#;
    assert_eq!(challenge, expected);
}

#[tokio::test]
async fn invalid_tokens_are_rejected_as_by_the_layer() {
    let server = Server::in_memory().await;
    for (name, token) in server.bad_tokens().await {
        let (status, code) = match name {
            "expired" | "past grace" => (401, "token_expired"),
            "revoked" => (401, "token_revoked"),
            "disabled" => (401, "token_disabled"),
            "not yet valid" => (401, "token_not_yet_valid"),
            // A secret that was rotated without a grace period is unknown.
            "superseded" | "unknown" | "damaged" | "foreign" => (401, "invalid_token"),
            _ => (400, "invalid_request"),
        };
        let Ok(value) = HeaderValue::from_bytes(token.as_bytes()) else {
            continue;
        };
        let request = Request::get("/verify").header("x-api-key", value);
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status, "{name}");
        answer.assert_problem(status, code);
        assert_eq!(answer.challenges(), ["ApiKey", "Bearer"], "{name}");
    }
    let none = Request::get("/verify").body(Body::empty()).unwrap();
    let answer = server.send(none).await;
    answer.assert_problem(401, "missing_token");
    assert_eq!(answer.challenges(), ["ApiKey", "Bearer"]);
    let unknown = server.verify("", UNKNOWN).await;
    assert_eq!(unknown.body, server.verify("", DAMAGED).await.body);
}

#[tokio::test]
async fn two_tokens_are_400_and_store_failures_503() {
    let (server, store) = Server::with_faulty_store().await;
    let token = server.caller.expose_secret();
    let request = Request::get("/verify")
        .header("x-api-key", token)
        .header("authorization", format!("Bearer {UNKNOWN}"));
    let answer = server.send(request.body(Body::empty()).unwrap()).await;
    answer.assert_problem(400, "invalid_request");
    store.inject(Fault::Error);
    let answer = server.verify("", token).await;
    answer.assert_problem(503, "auth_unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.challenges(), [""; 0]);
}

#[tokio::test]
async fn ignores_forwarded_headers() {
    let server = Server::in_memory().await;
    let token = server.create(NewToken::new("ci")).await;
    let request = Request::get("/verify?role=admin")
        .header("x-api-key", token.expose_secret())
        .header("x-service-token-roles", "admin")
        .header("x-original-uri", "/verify")
        .header("x-forwarded-uri", "/verify")
        .header("x-forwarded-method", "OPTIONS")
        .header("cookie", "role=admin");
    let answer = server.send(request.body(Body::empty()).unwrap()).await;
    answer.assert_problem(403, "insufficient_scope");
}

#[tokio::test]
async fn does_not_read_the_body() {
    let server = Server::in_memory().await;
    let never = Body::from_stream(futures::stream::pending::<Result<String, std::io::Error>>());
    let request = Request::post("/verify").header("x-api-key", server.caller.expose_secret());
    let answer = server.send(request.body(never).unwrap()).await;
    assert_eq!(answer.status, 204);
}
