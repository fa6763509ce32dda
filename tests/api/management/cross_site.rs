//! Changes that pages of other sites request in the browser of a user.

use std::future::ready;

use axum::Router;
use http::StatusCode;
use http::request::{Builder, Parts};
use tests::api_fixture::ApiResponse;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::lifecycle::Owner;
use tower_service_token::origin::Origin;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

use crate::management::ManagementResponse;
use crate::management::actors::{CHANGES, Server, Session, owner};

/// The headers of a request, and whether changes are accepted with them.
const ORIGINS: [(&[(&str, &str)], bool); 24] = [
    (&[], true),
    (&[("sec-fetch-site", "same-origin")], true),
    (&[("sec-fetch-site", "none")], true),
    (&[("sec-fetch-site", "same-site")], false),
    (&[("sec-fetch-site", "cross-site")], false),
    (&[("sec-fetch-site", "Same-Origin")], false),
    (&[("origin", "https://app.example")], true),
    (&[("origin", "https://app.example.evil.example")], false),
    (&[("origin", "https://evil.example")], false),
    (&[("origin", "https://app.example:8443")], false),
    (&[("origin", "https://app.example@evil.example")], false),
    (&[("origin", "null")], false),
    (
        &[
            ("sec-fetch-site", "same-origin"),
            ("origin", "https://evil.example"),
        ],
        true,
    ),
    (
        &[
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://app.example"),
        ],
        false,
    ),
    (&[("referer", "https://app.example/")], true),
    (&[("referer", "https://app.example")], true),
    (&[("referer", "https://app.example/tokens?a=|#b")], true),
    (&[("referer", "https://evil.example/")], false),
    (
        &[("referer", "https://evil.example/https://app.example/")],
        false,
    ),
    (&[("referer", "https://app.example.evil.example/")], false),
    (&[("referer", "https://app.example:8443/")], false),
    (&[("referer", "https://app.example@evil.example/")], false),
    (
        &[
            ("origin", "https://evil.example"),
            ("referer", "https://app.example/"),
        ],
        false,
    ),
    (
        &[
            ("origin", "https://app.example"),
            ("referer", "https://evil.example/"),
        ],
        true,
    ),
];

/// The headers of a request to an API that trusts `https://web.example`, `http://localhost:5173` and
/// `https://[::ffff:7f00:1]`, and whether changes are accepted with them.
const TRUSTED: [(&[(&str, &str)], bool); 14] = [
    (&[("origin", "https://web.example")], true),
    (&[("origin", "http://localhost:5173")], true),
    (&[("origin", "https://app.example")], true),
    (&[("referer", "https://web.example/tokens")], true),
    (
        &[
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://web.example"),
        ],
        true,
    ),
    (
        &[
            ("sec-fetch-site", "same-site"),
            ("origin", "http://localhost:5173"),
        ],
        true,
    ),
    (&[("origin", "https://[::ffff:7f00:1]")], true),
    (
        &[
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://[::ffff:7f00:1]"),
        ],
        true,
    ),
    (&[("origin", "http://web.example")], false),
    (&[("origin", "https://localhost:5173")], false),
    (&[("origin", "http://localhost")], false),
    (&[("origin", "https://web.example.evil.example")], false),
    (
        &[
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://evil.example"),
        ],
        false,
    ),
    (
        &[
            ("sec-fetch-site", "cross-site"),
            ("referer", "https://web.example/"),
        ],
        false,
    ),
];

#[tokio::test]
async fn rejects_changes_that_other_sites_request() {
    for (headers, is_accepted) in ORIGINS {
        let build = |request: Builder| {
            let request = request
                .header("user", "user:1")
                .header("host", "app.example");
            let headers = headers.iter();
            headers.fold(request, |request, (name, value)| {
                request.header(*name, *value)
            })
        };
        for (call, body) in CHANGES {
            let server = Server::new().await;
            let call = call.replace("{id}", &server.own.record().id().to_string());
            let response = server.send(&call, build, body).await;
            if is_accepted {
                assert!(response.status < 300, "{call} {headers:?}: {response:?}");
            } else {
                response.assert_error(403, "cross_site_request");
                server.assert_unchanged(&call).await;
            }
        }
        let server = Server::new().await;
        let response = server.send("GET /service-tokens", build, "").await;
        assert_eq!(response.status, 200, "{headers:?}");
    }
}

#[tokio::test]
async fn accepts_changes_from_trusted_origins() {
    for (headers, is_accepted) in TRUSTED {
        let server = Server::with(|tokens| {
            let actor = |parts: &Parts| ready(owner(parts, Session::Open));
            [
                "https://Web.Example:443",
                "http://localhost:5173",
                "https://[::ffff:7f00:1]",
            ]
            .map(|origin| Origin::new(origin).unwrap())
            .into_iter()
            .fold(
                ManagementApi::for_actor(tokens, actor),
                ManagementApi::with_trusted_origin,
            )
        })
        .await;
        let build = |request: Builder| {
            let request = request
                .header("user", "user:1")
                .header("host", "app.example");
            let headers = headers.iter();
            headers.fold(request, |request, (name, value)| {
                request.header(*name, *value)
            })
        };
        let call = format!("DELETE /service-tokens/{}", server.own.record().id());
        let response = server.send(&call, build, "").await;
        if is_accepted {
            assert_eq!(response.status, 204, "{headers:?}: {response:?}");
        } else {
            response.assert_error(403, "cross_site_request");
            server.assert_unchanged(&call).await;
        }
    }
}

/// A proxy and the API may read different ones of two lines.
#[tokio::test]
async fn rejects_changes_with_repeated_headers() {
    for (name, values) in [
        ("sec-fetch-site", ["same-origin", "cross-site"]),
        ("sec-fetch-site", ["cross-site", "same-origin"]),
        ("sec-fetch-site", ["same-origin", "same-origin"]),
        ("origin", ["https://app.example", "https://evil.example"]),
        ("origin", ["https://app.example", "https://app.example"]),
        ("referer", ["https://app.example/", "https://evil.example/"]),
        ("host", ["app.example", "evil.example"]),
    ] {
        let server = Server::new().await;
        let build = |request: Builder| {
            let request = request.header("user", "user:1");
            let request = match name {
                "host" => request.header("origin", "https://app.example"),
                _ => request.header("host", "app.example"),
            };
            let values = values.into_iter();
            values.fold(request, |request, value| request.header(name, value))
        };
        let call = format!("DELETE /service-tokens/{}", server.own.record().id());
        let response = server.send(&call, build, "").await;
        response.assert_error(400, "invalid_request");
        server.assert_unchanged(&call).await;
        let response = server.send("GET /service-tokens", build, "").await;
        assert_eq!(response.status, 200, "{name} {values:?}");
    }
}

/// A session store must not be asked by requests of other sites.
#[tokio::test]
async fn rejects_requests_of_other_sites_before_it_determines_the_actor() {
    let server = Server::with(|tokens| {
        ManagementApi::for_actor(tokens, |_| ready(Err::<Owner, _>(StatusCode::IM_A_TEAPOT)))
    })
    .await;
    let cross_site = |it: Builder| it.header("sec-fetch-site", "cross-site");
    let response = server.send("POST /service-tokens", cross_site, "").await;
    response.assert_error(403, "cross_site_request");
}

#[tokio::test]
async fn requests_of_other_sites_can_be_allowed() {
    let server = Server::with(|tokens| {
        let actor = |parts: &Parts| ready(owner(parts, Session::Open));
        ManagementApi::for_actor(tokens, actor).allow_cross_site_requests()
    })
    .await;
    let headers = |it: Builder| {
        it.header("user", "user:1")
            .header("sec-fetch-site", "cross-site")
    };
    let call = format!("DELETE /service-tokens/{}", server.own.record().id());
    assert_eq!(server.send(&call, headers, "").await.status, 204);
}

/// Browsers send no service token by themselves.
#[tokio::test]
async fn accepts_service_tokens_from_pages_of_other_sites() {
    let server = Server::with(|_| {
        let store = MemoryStore::new();
        let layer = ServiceTokenLayer::new(store.clone());
        ManagementApi::new(ServiceTokens::new(store), layer)
    })
    .await;
    let headers = |it: Builder| it.header("sec-fetch-site", "cross-site");
    let response = server.send("POST /service-tokens", headers, "").await;
    response.assert_error(401, "missing_token");
}

/// As with HTTP/2, which has no `Host`, and below a prefix.
#[tokio::test]
async fn compares_the_origin_with_the_authority_of_the_target() {
    for (origin, expected) in [("https://app.example", 204), ("https://evil.example", 403)] {
        let server = Server::new().await;
        let app = Router::new().nest("/account", server.app.clone());
        let id = server.own.record().id();
        let call = format!("DELETE https://app.example/account/service-tokens/{id}");
        let headers = |it: Builder| it.header("user", "user:1").header("origin", origin);
        let response = ApiResponse::send(&app, &call, headers, "").await;
        assert_eq!(response.status, expected, "{origin}: {response:?}");
    }
}
