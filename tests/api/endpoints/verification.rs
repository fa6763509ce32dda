//! Responses of forward authentication to a proxy.

use axum::body::Body;
use http::{HeaderValue, Request};
use tests::api_fixture::ApiResponse;
use tower_service_token::api::forward_auth::{ForwardAuth, VerifyPrefix};
use tower_service_token::lifecycle::NewToken;
use tower_service_token::principal::Requirement;
use tower_service_token::testing::Fault;
use tower_service_token::{MemoryStore, ServiceTokenLayer};

use crate::endpoints::server::{DAMAGED, Server, UNKNOWN, insert};

/// A proxy may send the method of the original request.
const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "X",
];

const HEADERS: [&str; 6] = [
    "x-service-token-id",
    "x-service-token-name",
    "x-service-token-subject",
    "x-service-token-roles",
    "x-service-token-scopes",
    "x-service-token-truncated",
];

#[tokio::test]
async fn every_method_gets_200_and_identity_headers() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| {
        record
            .with_name("nightly build")
            .with_subject("team-a")
            .with_roles(["deployer", "auditor"])
            .with_scopes(["projects:write", "audit:**"])
    });
    let server = Server::with_store(store).await;
    for method in METHODS {
        for (header, value) in [
            ("authorization", format!("ApiKey {token}")),
            ("authorization", format!("Bearer {token}")),
            ("x-api-key", token.clone()),
        ] {
            let request = Request::builder()
                .method(method)
                .uri("/verify")
                .header(header, value);
            let response = server.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(
                (response.status.as_u16(), &*response.body),
                (200, ""),
                "{method}"
            );
            let values = HEADERS.map(|name| response.header(name));
            let id = &token["svctok-".len()..][..10];
            let expected = [
                id,
                "nightly%20build",
                "team-a",
                "deployer,auditor",
                "projects:write audit:**",
                "",
            ];
            assert_eq!(values, expected);
            assert_eq!(response.header("cache-control"), "no-store");
        }
    }
}

#[tokio::test]
async fn every_method_rejects_missing_tokens_and_requirements() {
    let server = Server::in_memory().await;
    for method in METHODS {
        for (uri, token, status) in [
            ("/verify", None, 401),
            ("/verify", Some(UNKNOWN), 401),
            ("/verify?role=a", Some(server.caller.expose_secret()), 403),
            ("/verify?roles=a", Some(server.caller.expose_secret()), 400),
        ] {
            let mut request = Request::builder().method(method).uri(uri);
            if let Some(token) = token {
                request = request.header("x-api-key", token);
            }
            let response = server.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(response.status, status, "{method} {uri}");
            assert_eq!(response.header("x-service-token-id"), "", "{method} {uri}");
            assert_eq!(response.body.is_empty(), method == "HEAD", "{method} {uri}");
        }
    }
}

#[tokio::test]
async fn status_204_is_configurable() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| record);
    let verify = ForwardAuth::new(ServiceTokenLayer::new(store)).respond_with_no_content();
    let app = verify
        .with_prefix(VerifyPrefix::new("any").unwrap())
        .into_router();
    let server = Server {
        app,
        ..Server::in_memory().await
    };
    for uri in ["", "/any", "/any/x?y"] {
        let response = server.verify(uri, &token).await;
        assert_eq!(response.status, 204, "{uri}");
        assert_eq!(
            response.header("x-service-token-id"),
            &token["svctok-".len()..][..10]
        );
        assert_eq!(server.verify(uri, UNKNOWN).await.status, 401, "{uri}");
    }
}

fn prefixed(store: MemoryStore) -> axum::Router {
    let prefix = |name| VerifyPrefix::new(name).unwrap();
    let deploy = prefix("deploy").with_requirement(Requirement::all_roles(["deployer"]));
    let either = prefix("either").with_requirement(Requirement::any_role(["deployer", "auditor"]));
    let twice = "twice?role=deployer".parse().unwrap();
    let more = "twice?scope=projects:write".parse().unwrap();
    ForwardAuth::new(ServiceTokenLayer::new(store))
        .with_prefix(deploy)
        .with_prefix(either)
        .with_prefix(twice)
        .with_prefix(more)
        .with_prefix(prefix("any"))
        .into_router()
}

#[tokio::test]
async fn prefixes_ignore_the_path_and_query_of_the_original_request() {
    let store = MemoryStore::new();
    let deployer = insert(&store, |record| record.with_roles(["deployer"]));
    let auditor = insert(&store, |record| {
        record.with_roles(["auditor"]).with_scopes(["projects:*"])
    });
    let both = insert(&store, |record| {
        record.with_roles(["deployer"]).with_scopes(["projects:*"])
    });
    let server = Server {
        app: prefixed(store),
        ..Server::in_memory().await
    };
    let originals = [
        "",
        "/",
        "/x",
        "/x/",
        "/x/y?a=b",
        "?a=b",
        "/?role=admin",
        "/x?role=deployer&scope=a:b",
        "//x",
        "/../any/x",
        "/%2e%2e/any",
        "/..%2fany",
        "/any",
        "/verify/any",
        "/x;y",
        "/%ff",
        "/%00",
        "/x?%zz",
        "/{a}",
        "/*",
    ];
    for (name, [of_deployer, of_auditor, of_both]) in [
        ("deploy", [200, 403, 200]),
        ("either", [200, 200, 200]),
        ("twice", [403, 403, 200]),
        ("any", [200, 200, 200]),
    ] {
        for original in originals {
            let uri = format!("/{name}{original}");
            let status = async |token: &str| server.verify(&uri, token).await.status;
            assert_eq!(status(&deployer).await, of_deployer, "{uri}");
            assert_eq!(status(&auditor).await, of_auditor, "{uri}");
            assert_eq!(status(&both).await, of_both, "{uri}");
            let unknown = server.verify(&uri, UNKNOWN).await;
            unknown.assert_problem(401, "invalid_token");
            assert_eq!(unknown.challenges(), ["ApiKey", "Bearer"], "{uri}");
        }
    }
    let response = server.verify("/deploy/x?y", &auditor).await;
    response.assert_problem(403, "insufficient_scope");
    assert_eq!(response.json()["required"]["roles"][0], "deployer");
    assert_eq!(response.challenges(), ["ApiKey", "Bearer"]);
}

#[tokio::test]
async fn other_paths_are_404() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| {
        record.with_roles(["deployer"]).with_scopes(["**"])
    });
    let server = Server {
        app: prefixed(store),
        ..Server::in_memory().await
    };
    for path in [
        "/",
        "/x",
        "/deployer",
        "/Deploy/x",
        "/deploy%2fx",
        "/%64eploy/x",
        "//deploy/x",
        "//any",
        "/./any",
        "/x/../any",
        "deploy",
    ] {
        let response = server.verify(path, &token).await;
        assert_eq!(response.status, 404, "{path}");
        assert_eq!(response.header("x-service-token-id"), "", "{path}");
    }
    // The query of `/verify` itself stays strict.
    assert_eq!(server.verify("?x=y", &token).await.status, 400);
    assert_eq!(server.verify("?role=deployer", &token).await.status, 200);
}

#[tokio::test]
async fn prefixes_accept_every_method() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| record.with_roles(["deployer"]));
    let server = Server {
        app: prefixed(store),
        ..Server::in_memory().await
    };
    for method in METHODS {
        let request = Request::builder().method(method).uri("/verify/deploy/x?y");
        let none = request.body(Body::empty()).unwrap();
        assert_eq!(server.send(none).await.status, 401, "{method}");
        let request = Request::builder().method(method).uri("/verify/deploy/x?y");
        let request = request.header("authorization", format!("Bearer {token}"));
        let response = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(
            (response.status.as_u16(), &*response.body),
            (200, ""),
            "{method}"
        );
        assert_eq!(response.header("x-service-token-roles"), "deployer");
    }
}

#[tokio::test]
async fn long_lists_are_truncated_at_an_entry_and_reported() {
    let store = MemoryStore::new();
    let long = |prefix: &str| -> Vec<String> {
        let names = (0..100).map(|number| format!("{prefix}{number:03}{}", "x".repeat(190)));
        names.collect()
    };
    let short = ["a"].map(str::to_owned).to_vec();
    for (roles, scopes, truncated) in [
        (short.clone(), short.clone(), ""),
        (long("role"), short.clone(), "roles"),
        (short.clone(), long("scope"), "scopes"),
        (long("role"), long("scope"), "roles, scopes"),
    ] {
        let last_role = roles.last().unwrap().clone();
        let token = insert(&store, |record| {
            record.with_roles(roles.clone()).with_scopes(scopes.clone())
        });
        let server = Server::with_store(store.clone()).await;
        // The requirement applies to the whole list.
        let response = server.verify(&format!("?role={last_role}"), &token).await;
        assert_eq!(response.status, 200);
        assert_eq!(response.header("x-service-token-truncated"), truncated);
        for (header, separator, all) in [
            ("x-service-token-roles", ',', &roles),
            ("x-service-token-scopes", ' ', &scopes),
        ] {
            let list = response.header(header);
            assert!(list.len() <= 2048, "{}", list.len());
            let entries: Vec<_> = list.split(separator).collect();
            assert!(entries.iter().all(|entry| all.iter().any(|it| it == entry)));
            let fitting = if all.len() == 1 {
                1
            } else {
                2048 / (all[0].len() + 1)
            };
            assert_eq!(entries.len(), fitting, "{header}");
        }
    }
}

#[tokio::test]
async fn missing_values_are_empty_headers() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| record);
    let server = Server::with_store(store).await;
    let response = server.verify("", &token).await;
    for name in HEADERS {
        assert!(response.headers.contains_key(name), "{name}");
    }
    assert_eq!(
        HEADERS[1..]
            .iter()
            .map(|name| response.header(name))
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
    let response = server.verify("", &token).await;
    let values = HEADERS.map(|name| response.header(name));
    assert_eq!(
        values[1..5],
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
        ("", 200),
        ("?", 200),
        ("?role=deployer", 200),
        ("?role=deployer&role=night%20shift&role=a%26b", 200),
        ("?role=night+shift&scope=projects:write", 200),
        ("?scope=projects:write&scope=projects%3Aread", 200),
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
        let response = server.verify(query, token.expose_secret()).await;
        assert_eq!(response.status, status, "{query}");
        assert_eq!(response.header("cache-control"), "no-store", "{query}");
        if status == 200 {
            continue;
        }
        for name in HEADERS {
            assert_eq!(response.header(name), "", "{query}");
        }
        match status {
            403 => {
                response.assert_problem(403, "insufficient_scope");
                assert_eq!(response.challenges(), ["ApiKey", "Bearer"], "{query}");
            }
            _ => response.assert_problem(400, "invalid_request"),
        }
    }
}

#[tokio::test]
async fn challenges_name_missing_scopes() {
    let server = Server::in_memory().await;
    let response = server
        .verify("?scope=a:b", server.caller.expose_secret())
        .await;
    let challenge = response.headers["www-authenticate"].to_str().unwrap();
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
        let response = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status, status, "{name}");
        response.assert_problem(status, code);
        assert_eq!(response.challenges(), ["ApiKey", "Bearer"], "{name}");
    }
    let none = Request::get("/verify").body(Body::empty()).unwrap();
    let response = server.send(none).await;
    response.assert_problem(401, "missing_token");
    assert_eq!(response.challenges(), ["ApiKey", "Bearer"]);
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
    let response = server.send(request.body(Body::empty()).unwrap()).await;
    response.assert_problem(400, "invalid_request");
    store.inject(Fault::Error);
    let response = server.verify("", token).await;
    response.assert_problem(503, "auth_unavailable");
    assert_eq!(response.header("retry-after"), "1");
    assert_eq!(response.challenges(), [""; 0]);
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
    let response = server.send(request.body(Body::empty()).unwrap()).await;
    response.assert_problem(403, "insufficient_scope");
}

#[tokio::test]
async fn does_not_read_the_body() {
    let server = Server::in_memory().await;
    let pending = Body::from_stream(futures::stream::pending::<Result<String, std::io::Error>>());
    let request = Request::post("/verify").header("x-api-key", server.caller.expose_secret());
    let response = server.send(request.body(pending).unwrap()).await;
    assert_eq!(response.status, 200);
}

#[tokio::test]
async fn rejections_name_all_unmet_requirements() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| {
        record.with_roles(["a"]).with_scopes(["x:y"])
    });
    let any = Requirement::any_role(["b", "c"]);
    let prefix = VerifyPrefix::new("deploy")
        .unwrap()
        .with_requirement(any)
        .with_requirement(Requirement::all_roles(["a"]))
        .with_requirement(Requirement::all_scopes(["p:q"]))
        .with_requirement(Requirement::all_roles(["d"]));
    let layer = ServiceTokenLayer::new(store);
    let app = ForwardAuth::new(layer).with_prefix(prefix).into_router();
    let names = |matching: &str, roles: Option<&[&str]>, scopes: Option<&[&str]>| {
        let mut names = serde_json::json!({ "match": matching });
        if let Some(roles) = roles {
            names["roles"] = roles.into();
        }
        if let Some(scopes) = scopes {
            names["scopes"] = scopes.into();
        }
        names
    };
    let all = |roles, scopes| names("all", roles, scopes);
    for (path, required, also, scope) in [
        (
            "/verify?role=b&role=a&scope=z:z",
            all(Some(&["b", "a"]), Some(&["z:z"])),
            None,
            Some("z:z"),
        ),
        (
            "/verify?role=a&scope=z:z&scope=x:y",
            all(None, Some(&["z:z", "x:y"])),
            None,
            Some("z:z x:y"),
        ),
        (
            "/verify?role=b&scope=z:z&role=b&scope=z:z",
            all(Some(&["b"]), Some(&["z:z"])),
            None,
            Some("z:z"),
        ),
        ("/verify?scope=a%20b", all(None, Some(&["a b"])), None, None),
        (
            "/verify?role=b&scope=x:y",
            all(Some(&["b"]), None),
            None,
            None,
        ),
        (
            "/verify/deploy",
            names("any", Some(&["b", "c"]), None),
            Some(all(Some(&["d"]), Some(&["p:q"]))),
            Some("p:q"),
        ),
    ] {
        let headers = |request: http::request::Builder| request.header("x-api-key", &token);
        let response = ApiResponse::send(&app, &format!("GET {path}"), headers, "").await;
        assert_eq!(response.status, 403, "{path}: {response:?}");
        let problem = response.json();
        assert_eq!(problem["required"], required, "{path}");
        let also = also.map(|it| serde_json::json!([it]));
        assert_eq!(problem.get("also_required"), also.as_ref(), "{path}");
        let challenge = response.headers["www-authenticate"].to_str().unwrap();
        let scope = scope.map(|scope| format!("scope=\"{scope}\""));
        match scope {
            Some(scope) => assert!(challenge.contains(&scope), "{challenge}"),
            None => assert!(!challenge.contains("scope="), "{challenge}"),
        }
    }
}
