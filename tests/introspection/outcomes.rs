//! What each answer of the server means to the caller: the table of outcomes, row by row.

use std::error::Error;

use http::StatusCode;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use serde_json::json;
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::ServiceTokenLayer;
use tower_service_token::authorize::RequireScopesLayer;
use tower_service_token::store::StoreErrorKind;

use crate::node::{
    Accepted, Kind, Node, Outcome, PROTOCOL, Refused, TRANSIENT, Unavailable, cause, clock,
};
use crate::upstream::{Answer, Upstream, active_with};

const CREDENTIALS: Outcome = Unavailable(Kind::Credentials);

/// Each status there is an opinion about, with what is to come of it and after how many calls.
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
async fn a_status_other_than_200_is_never_a_statement_about_the_token() {
    for (status, expected, calls) in STATUSES {
        // Whatever stands in the body, even what would let the token pass.
        for answer in [
            Answer::status(status),
            Answer::active().with_status(status),
            Answer::inactive().with_status(status),
            Answer::json("").with_status(status),
        ] {
            let upstream = Upstream::saying(answer);
            let node = Node::new(&upstream, &clock());
            assert_eq!(node.ask("token").await, expected, "{status}");
            assert_eq!(upstream.calls(), calls, "{status}");
            let error = node.find("token").await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Unavailable);
            assert_eq!(Unavailable(cause(&error).kind()), expected);
            let told = StatusCode::from_u16(status).unwrap();
            assert_eq!(cause(&error).status(), Some(told));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_about_the_token_is_200_or_401_after_one_call() {
    let past = json!({ "exp": 1 });
    let future = json!({ "nbf": 4_000_000_000_u64 });
    for (answer, expected) in [
        (Answer::active(), Accepted),
        (Answer::inactive(), Refused),
        (Answer::error(400, "unsupported_token_type"), Refused),
        (Answer::of(&active_with(&past)), Refused),
        (Answer::of(&active_with(&future)), Refused),
    ] {
        let upstream = Upstream::saying(answer);
        let node = Node::new(&upstream, &clock());
        assert_eq!(node.ask("token").await, expected);
        assert_eq!(upstream.calls(), 1);
        let found = node.find("token").await.unwrap();
        assert_eq!(found.is_some(), expected == Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn only_400_with_that_very_error_says_that_the_token_is_of_another_type() {
    let error = "unsupported_token_type";
    for (answer, expected) in [
        (Answer::error(400, "invalid_request"), PROTOCOL),
        (Answer::error(400, "UNSUPPORTED_TOKEN_TYPE"), PROTOCOL),
        (Answer::error(400, "unsupported_token_type "), PROTOCOL),
        (Answer::error(200, error), PROTOCOL),
        (Answer::error(404, error), PROTOCOL),
        (Answer::error(401, error), CREDENTIALS),
        (Answer::error(503, error), TRANSIENT),
        (Answer::json(error).with_status(400), PROTOCOL),
    ] {
        let node = Node::new(&Upstream::saying(answer), &clock());
        assert_eq!(node.ask("token").await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn our_credentials_rejected_is_503_whatever_the_body() {
    for status in [401, 403] {
        for (content_type, body) in [
            ("text/html", ""),
            ("application/json", "{\"error\":\"invalid_client\"}"),
            ("application/json", "{\"active\":false}"),
            ("application/json", "{"),
        ] {
            let answer = Answer::text(content_type, body).with_status(status);
            let node = Node::new(&Upstream::saying(answer), &clock());
            assert_eq!(node.ask("token").await, CREDENTIALS);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_fails_is_503() {
    for answer in [Answer::Unreachable, Answer::Lost] {
        let upstream = Upstream::saying(answer);
        let node = Node::new(&upstream, &clock());
        assert_eq!(node.ask("token").await, TRANSIENT);
        assert_eq!(upstream.calls(), 2, "it is tried once more");
        let error = node.find("token").await.unwrap_err();
        assert_eq!(cause(&error).status(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_server_wants_to_be_asked_again_the_caller_is_told_within_reason() {
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
        let Answer::Response(mut response) = Answer::status(status) else {
            unreachable!()
        };
        response
            .headers_mut()
            .insert(RETRY_AFTER, sent.parse().unwrap());
        let node = Node::new(&Upstream::saying(Answer::Response(response)), &clock());
        let response = node.send("token").await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], expected, "{status} {sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_with_a_location_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let Answer::Response(mut response) = Answer::active().with_status(status) else {
            unreachable!()
        };
        let elsewhere = "https://elsewhere.example/introspect".parse().unwrap();
        response.headers_mut().insert(LOCATION, elsewhere);
        let upstream = Upstream::saying(Answer::Response(response));
        let node = Node::new(&upstream, &clock());
        assert_eq!(node.ask("token").await, PROTOCOL);
        assert_eq!(upstream.calls(), 1);
        assert_eq!(upstream.last().uri, crate::node::ENDPOINT);
    }
}

#[tokio::test(start_paused = true)]
async fn the_content_type_must_be_json_with_any_parameters() {
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
        let upstream = Upstream::saying(Answer::text(content_type, body));
        let node = Node::new(&upstream, &clock());
        assert_eq!(node.ask("token").await, expected, "{content_type}");
        assert_eq!(upstream.calls(), 1);
    }
    let Answer::Response(mut response) = Answer::active() else {
        unreachable!()
    };
    response.headers_mut().remove(CONTENT_TYPE);
    let node = Node::new(&Upstream::saying(Answer::Response(response)), &clock());
    assert_eq!(node.ask("token").await, PROTOCOL);
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_lacks_is_403_by_the_guard() {
    let scopes = json!({ "scope": "projects:read" });
    let upstream = Upstream::saying(Answer::of(&active_with(&scopes)));
    let node = Node::new(&upstream, &clock());
    for (scope, expected) in [
        ("projects:read", StatusCode::OK),
        ("projects:write", StatusCode::FORBIDDEN),
    ] {
        let inner = service_fn(async |_: http::Request<String>| {
            Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
        });
        let guarded = RequireScopesLayer::all_of([scope]).layer(inner);
        let layer = ServiceTokenLayer::new(node.store.clone()).with_clock(clock());
        let request = http::Request::builder().header("x-api-key", "token");
        let request = request.body(String::new()).unwrap();
        let response = layer.layer(guarded).oneshot(request).await.unwrap();
        assert_eq!(response.status(), expected);
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_tells_its_status_and_a_little_of_the_body_escaped() {
    let body = format!("line\n\u{1b}[31m\"{}", "so ".repeat(10_000));
    let answer = Answer::text("text/plain", body).with_status(404);
    let node = Node::new(&Upstream::saying(answer), &clock());
    let error = node.find("token").await.unwrap_err();
    let mut told = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        told = format!("{told}: {error}");
        next = error.source();
    }
    assert!(told.contains("404"), "{told}");
    assert!(told.contains("line"), "{told}");
    assert!(told.contains("so so so"), "{told}");
    assert!(!told.contains(char::is_control), "{told}");
    assert!(told.len() < 400, "{told}");
}
