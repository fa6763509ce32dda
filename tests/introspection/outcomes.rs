//! The status of a request for each response of the authorization server, as the documented table
//! lists them.

use std::error::Error;

use http::StatusCode;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use serde_json::json;
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::ServiceTokenLayer;
use tower_service_token::authorize::RequireScopesLayer;
use tower_service_token::store::StoreErrorKind;

use crate::protected_service::{
    Accepted, Kind, Outcome, PROTOCOL, ProtectedService, Rejected, TRANSIENT, Unavailable, cause,
    clock,
};
use crate::upstream::{MockResponse, Upstream, active_with};

const CREDENTIALS: Outcome = Unavailable(Kind::Credentials);

/// Each status of the server with the outcome of the request and the number of calls.
const STATUSES: [(u16, Outcome, usize); 32] = [
    (201, PROTOCOL, 1),
    (202, PROTOCOL, 1),
    (203, PROTOCOL, 1),
    (204, PROTOCOL, 1),
    (206, PROTOCOL, 1),
    (300, PROTOCOL, 1),
    (301, PROTOCOL, 1),
    (302, PROTOCOL, 1),
    (303, PROTOCOL, 1),
    (304, PROTOCOL, 1),
    (307, PROTOCOL, 1),
    (308, PROTOCOL, 1),
    (400, PROTOCOL, 1),
    (401, CREDENTIALS, 1),
    (402, PROTOCOL, 1),
    (403, CREDENTIALS, 1),
    (404, PROTOCOL, 1),
    (405, PROTOCOL, 1),
    (406, PROTOCOL, 1),
    (409, PROTOCOL, 1),
    (410, PROTOCOL, 1),
    (413, PROTOCOL, 1),
    (415, PROTOCOL, 1),
    (418, PROTOCOL, 1),
    (429, TRANSIENT, 1),
    (500, TRANSIENT, 1),
    (501, TRANSIENT, 1),
    (502, TRANSIENT, 2),
    (503, TRANSIENT, 2),
    (504, TRANSIENT, 2),
    (511, TRANSIENT, 1),
    (599, TRANSIENT, 1),
];

#[tokio::test(start_paused = true)]
async fn non_200_status_never_rejects_the_token() {
    for (status, expected, calls) in STATUSES {
        // The body does not matter, even if it describes an active token.
        for response in [
            MockResponse::status(status),
            MockResponse::active().with_status(status),
            MockResponse::inactive().with_status(status),
            MockResponse::json("").with_status(status),
        ] {
            let upstream = Upstream::responding(response);
            let service = ProtectedService::new(&upstream, &clock());
            assert_eq!(service.authenticate("token").await, expected, "{status}");
            assert_eq!(upstream.calls(), calls, "{status}");
            let error = service.find("token").await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Unavailable);
            assert_eq!(Unavailable(cause(&error).kind()), expected);
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(cause(&error).status(), Some(status));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn valid_response_is_accepted_or_rejected_after_one_call() {
    let past = json!({ "exp": 1 });
    let future = json!({ "nbf": 4_000_000_000_u64 });
    for (response, expected) in [
        (MockResponse::active(), Accepted),
        (MockResponse::inactive(), Rejected),
        (MockResponse::error(400, "unsupported_token_type"), Rejected),
        (MockResponse::from_json(&active_with(&past)), Rejected),
        (MockResponse::from_json(&active_with(&future)), Rejected),
    ] {
        let upstream = Upstream::responding(response);
        let service = ProtectedService::new(&upstream, &clock());
        assert_eq!(service.authenticate("token").await, expected);
        assert_eq!(upstream.calls(), 1);
        let found = service.find("token").await.unwrap();
        assert_eq!(found.is_some(), expected == Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn only_unsupported_token_type_with_400_rejects_the_token() {
    let error = "unsupported_token_type";
    for (response, expected) in [
        (MockResponse::error(400, "invalid_request"), PROTOCOL),
        (MockResponse::error(400, "UNSUPPORTED_TOKEN_TYPE"), PROTOCOL),
        (
            MockResponse::error(400, "unsupported_token_type "),
            PROTOCOL,
        ),
        (MockResponse::error(200, error), PROTOCOL),
        (MockResponse::error(404, error), PROTOCOL),
        (MockResponse::error(401, error), CREDENTIALS),
        (MockResponse::error(503, error), TRANSIENT),
        (MockResponse::json(error).with_status(400), PROTOCOL),
    ] {
        let service = ProtectedService::new(&Upstream::responding(response), &clock());
        assert_eq!(service.authenticate("token").await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn rejected_client_credentials_are_503() {
    for status in [401, 403] {
        for (content_type, body) in [
            ("text/html", ""),
            ("application/json", "{\"error\":\"invalid_client\"}"),
            ("application/json", "{\"active\":false}"),
            ("application/json", "{"),
        ] {
            let response = MockResponse::text(content_type, body).with_status(status);
            let service = ProtectedService::new(&Upstream::responding(response), &clock());
            assert_eq!(service.authenticate("token").await, CREDENTIALS);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn transport_failure_is_503() {
    for response in [MockResponse::Unreachable, MockResponse::Reset] {
        let upstream = Upstream::responding(response);
        let service = ProtectedService::new(&upstream, &clock());
        assert_eq!(service.authenticate("token").await, TRANSIENT);
        assert_eq!(upstream.calls(), 2, "one retry");
        let error = service.find("token").await.unwrap_err();
        assert_eq!(cause(&error).status(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn forwards_a_bounded_retry_after() {
    for (status, sent, expected) in [
        (429, "7", "7"),
        (503, "120", "120"),
        (500, "3", "3"),
        (429, "0", "1"),
        (429, "99999999", "300"),
        (429, "99999999999999999999999", "1"),
        (429, "-5", "1"),
        (429, "soon", "1"),
        (429, "Fri, 31 Dec 1999 23:59:59 GMT", "1"),
        (401, "7", "1"),
    ] {
        let MockResponse::Http(mut response) = MockResponse::status(status) else {
            unreachable!()
        };
        response
            .headers_mut()
            .insert(RETRY_AFTER, sent.parse().unwrap());
        let service = ProtectedService::new(
            &Upstream::responding(MockResponse::Http(response)),
            &clock(),
        );
        let response = service.send("token").await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], expected, "{status} {sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn does_not_follow_redirects() {
    for status in [301, 302, 303, 307, 308] {
        let MockResponse::Http(mut response) = MockResponse::active().with_status(status) else {
            unreachable!()
        };
        let other_server = "https://other.example/introspect".parse().unwrap();
        response.headers_mut().insert(LOCATION, other_server);
        let upstream = Upstream::responding(MockResponse::Http(response));
        let service = ProtectedService::new(&upstream, &clock());
        assert_eq!(service.authenticate("token").await, PROTOCOL);
        assert_eq!(upstream.calls(), 1);
        assert_eq!(upstream.last_call().uri, crate::protected_service::ENDPOINT);
    }
}

#[tokio::test(start_paused = true)]
async fn accepts_json_content_type_with_parameters() {
    let body = "{\"active\":true,\"sub\":\"ci\"}";
    for (content_type, expected) in [
        ("application/json", Accepted),
        ("application/json; charset=utf-8", Accepted),
        ("application/json;charset=\"UTF-8\"; x=y", Accepted),
        ("Application/JSON ; charset=utf-8", Accepted),
        ("", PROTOCOL),
        ("application", PROTOCOL),
        ("application/jsonp", PROTOCOL),
        ("application/json+x", PROTOCOL),
        ("application/problem+json", PROTOCOL),
        ("application/token-introspection+jwt", PROTOCOL),
        ("text/html", PROTOCOL),
        ("text/html; application/json", PROTOCOL),
        ("text/json", PROTOCOL),
        ("text/plain", PROTOCOL),
        ("charset=utf-8; application/json", PROTOCOL),
    ] {
        let upstream = Upstream::responding(MockResponse::text(content_type, body));
        let service = ProtectedService::new(&upstream, &clock());
        assert_eq!(
            service.authenticate("token").await,
            expected,
            "{content_type}"
        );
        assert_eq!(upstream.calls(), 1);
    }
    let MockResponse::Http(mut response) = MockResponse::active() else {
        unreachable!()
    };
    response.headers_mut().remove(CONTENT_TYPE);
    let service = ProtectedService::new(
        &Upstream::responding(MockResponse::Http(response)),
        &clock(),
    );
    assert_eq!(service.authenticate("token").await, PROTOCOL);
}

#[tokio::test(start_paused = true)]
async fn missing_scope_is_403() {
    let scopes = json!({ "scope": "projects:read" });
    let upstream = Upstream::responding(MockResponse::from_json(&active_with(&scopes)));
    let service = ProtectedService::new(&upstream, &clock());
    for (scope, expected) in [
        ("projects:read", StatusCode::OK),
        ("projects:write", StatusCode::FORBIDDEN),
    ] {
        let inner = service_fn(async |_: http::Request<String>| {
            Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
        });
        let guarded = RequireScopesLayer::all_of([scope]).layer(inner);
        let layer = ServiceTokenLayer::new(service.store.clone()).with_clock(clock());
        let request = http::Request::builder().header("x-api-key", "token");
        let request = request.body(String::new()).unwrap();
        let response = layer.layer(guarded).oneshot(request).await.unwrap();
        assert_eq!(response.status(), expected);
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn error_contains_status_and_escaped_excerpt() {
    let body = format!("line\n\u{1b}[31m\"{}", "so ".repeat(10_000));
    let response = MockResponse::text("text/plain", body).with_status(404);
    let service = ProtectedService::new(&Upstream::responding(response), &clock());
    let error = service.find("token").await.unwrap_err();
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    assert!(text.contains("404"), "{text}");
    assert!(text.contains("line"), "{text}");
    assert!(text.contains("so so so"), "{text}");
    assert!(!text.contains(char::is_control), "{text}");
    assert!(text.len() < 400, "{text}");
}
