//! Every failure of an endpoint is logged as one event with its cause and its request ID.

use std::error::Error;

use axum::body::Body;
use axum::response::Response;
use http::Request;
use tests::events::{Event, Events, assert_fields};
use tower::ServiceExt;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::reject::{FailureLogged, Rejection};
use tower_service_token::testing::Fault;

use crate::endpoints::server::{FORM, Server, form};

async fn send(server: &Server, request: Request<Body>) -> Response {
    let (mut parts, body) = request.into_parts();
    let id = "req-7".parse().unwrap();
    parts.headers.insert("x-request-id", id);
    let request = Request::from_parts(parts, body);
    server.app.clone().oneshot(request).await.unwrap()
}

#[track_caller]
fn assert_failure(response: &Response, event: &Event, endpoint: &str, token_id: Option<&str>) {
    assert_eq!(response.status(), 503, "{endpoint}");
    let code = if endpoint.ends_with("/revoke") {
        "change_failed"
    } else {
        "auth_unavailable"
    };
    assert!(response.extensions().get::<FailureLogged>().is_some());
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert!(rejection.source().is_some());
    assert_fields(
        event,
        &[
            ("level", "ERROR"),
            ("status", "503"),
            ("code", code),
            ("request_id", "req-7"),
            ("endpoint", endpoint),
        ],
    );
    assert!(event["error"].contains("a fault was injected"), "{event:?}");
    assert_eq!(event.get("token_id").map(String::as_str), token_id);
}

#[tokio::test]
async fn logs_each_failure_once() {
    let (server, store) = Server::with_faulty_store().await;
    let token = server.create(NewToken::new("ci")).await;
    let (secret, id) = (token.expose_secret(), token.record().id().to_string());
    let caller = server.caller.record().id().to_string();
    let verification = || {
        let request = Request::get("/verify").header("x-api-key", secret);
        request.body(Body::empty()).unwrap()
    };
    let introspection = || server.introspection().body(form(&[("token", secret)]));
    let revocation = || {
        let request = Request::post("/revoke").header("content-type", FORM);
        request.body(form(&[("token", secret)])).unwrap()
    };
    let events = Events::default();
    let _guard = events.start();
    for (passes, request, endpoint, token_id) in [
        (0, verification(), "GET /verify", None),
        (0, introspection().unwrap(), "POST /introspect", None),
        // The endpoint looks the caller up before and after it reads the body.
        (1, introspection().unwrap(), "POST /introspect", None),
        (
            2,
            introspection().unwrap(),
            "POST /introspect",
            Some(&caller),
        ),
        (0, revocation(), "POST /revoke", None),
        (1, revocation(), "POST /revoke", Some(&id)),
    ] {
        store.inject_after(passes, Fault::Error);
        let response = send(&server, request).await;
        let token_id = token_id.map(String::as_str);
        assert_failure(&response, &events.only(), endpoint, token_id);
    }
    store.clear_fault();
    let response = send(&server, introspection().unwrap()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(events.take(), []);
}

#[tokio::test]
async fn caller_rejection_is_one_event() {
    let (server, _) = Server::with_faulty_store().await;
    let plain = server.create(NewToken::new("plain")).await;
    let events = Events::default();
    let _guard = events.start();
    let request = Request::post("/introspect")
        .header("x-api-key", plain.expose_secret())
        .header("content-type", FORM);
    let response = send(&server, request.body(form(&[("token", "x")])).unwrap()).await;
    assert_eq!(response.status(), 403);
    assert!(response.extensions().get::<FailureLogged>().is_none());
    let event = events.only();
    assert_fields(
        &event,
        &[("level", "INFO"), ("reason", "insufficient_scope")],
    );
}
