//! Rejected responses, and text that errors do not contain.

use http::StatusCode;
use tower_service_token::client::{ClientError, ClientErrorKind, ServiceTokensClient};
use tower_service_token::lifecycle::{NewToken, Page};
use tower_service_token::registry::TokenFilter;
use tower_service_token::token::TokenId;

use super::faulty_server::{FaultyServer, problem, response_bytes};
use super::{HOUR, TOKEN, TOKEN_JSON, id};

use ClientErrorKind::UnexpectedResponse;

const JSON: (&str, &str) = ("content-type", "application/json");

/// Returns a client of a server that always responds with these bytes.
async fn client_for(bytes: Vec<u8>) -> (FaultyServer, ServiceTokensClient) {
    let faulty_server = FaultyServer::responding(bytes).await;
    let client = ServiceTokensClient::builder(format!("http://{}", faulty_server.address));
    let client = client.with_token(TOKEN).with_max_retries(0).build();
    (faulty_server, client.unwrap())
}

async fn get(bytes: Vec<u8>) -> Result<(), ClientError> {
    let (_faulty_server, client) = client_for(bytes).await;
    client.get(id()).await.map(drop)
}

fn json(body: &str) -> Vec<u8> {
    response_bytes(200, &[JSON], body)
}

#[tokio::test]
async fn rejects_responses_with_an_unexpected_format() {
    assert!(get(json(TOKEN_JSON)).await.is_ok());
    let html = "<html>please log in</html>";
    let twice = TOKEN_JSON.replacen('{', r#"{"state":"revoked","#, 1);
    let other = TOKEN_JSON.replace("7Hq2mX9bTe", "0000000000");
    let long = format!("{TOKEN_JSON}{}", " ".repeat(1024 * 1024));
    for bytes in [
        response_bytes(200, &[("content-type", "text/html")], html),
        response_bytes(200, &[("content-type", "text/html")], TOKEN_JSON),
        response_bytes(
            200,
            &[("content-type", "application/problem+json")],
            TOKEN_JSON,
        ),
        response_bytes(200, &[JSON, ("content-type", "text/html")], TOKEN_JSON),
        response_bytes(200, &[], TOKEN_JSON),
        response_bytes(201, &[JSON], TOKEN_JSON),
        response_bytes(204, &[JSON], ""),
        json(""),
        json(html),
        json("[]"),
        json("{}"),
        json(&TOKEN_JSON[1..]),
        json(&format!("{TOKEN_JSON}{TOKEN_JSON}")),
        json(&TOKEN_JSON.replace("active", "fine")),
        json(&twice),
        json(&other),
        json(&long),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        let error = get(bytes).await.expect_err(&shown);
        assert_eq!(error.kind(), UnexpectedResponse, "{shown}");
        assert!(!format!("{error} {error:?}").contains("log in"), "{error}");
    }
}

#[tokio::test]
async fn does_not_follow_redirects() {
    for status in [301, 302, 303, 307, 308] {
        let (target, _) = client_for(json(TOKEN_JSON)).await;
        let to = format!("http://{}/service-tokens/7Hq2mX9bTe", target.address);
        let error = get(response_bytes(status, &[("location", &to)], ""))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), UnexpectedResponse);
        assert_eq!(error.status().unwrap().as_u16(), status);
        assert!(target.lines().is_empty());
    }
}

#[tokio::test]
async fn rejects_responses_about_another_token() {
    let issued = format!(r#"{{"token":"{TOKEN}","service_token":{TOKEN_JSON}}}"#);
    let without_secret = issued.replace(&format!("\"{TOKEN}\""), "null");
    let two_words = issued.replace(TOKEN, "two words");
    for (bytes, is_accepted) in [
        (response_bytes(201, &[JSON], &issued), true),
        (response_bytes(200, &[JSON], &issued), false),
        (response_bytes(201, &[JSON], &without_secret), false),
        (response_bytes(201, &[JSON], &two_words), false),
        (response_bytes(201, &[JSON], TOKEN_JSON), false),
    ] {
        let (_faulty_server, client) = client_for(bytes).await;
        let created = client.create(NewToken::new("ci")).await;
        assert_eq!(created.is_ok(), is_accepted, "{created:?}");
    }
    let (_faulty_server, client) = client_for(json(&issued)).await;
    assert!(client.rotate(id(), HOUR).await.is_ok());
    let other = TokenId::from_i64(7).unwrap();
    let error = client.rotate(other, HOUR).await.unwrap_err();
    assert_eq!(error.kind(), UnexpectedResponse);

    for (body, is_revoked) in [
        (
            r#"{"ids":["7Hq2mX9bTe"],"remaining":1,"dry_run":false}"#,
            true,
        ),
        (
            r#"{"ids":["7Hq2mX9bTe"],"remaining":1,"dry_run":true}"#,
            false,
        ),
        (r#"{"ids":["7Hq2mX9bTe"],"remaining":1}"#, false),
        (r#"{"ids":["7Hq2mX9bTe"],"dry_run":false}"#, false),
        (
            r#"{"ids":["7Hq2mX9bTe"],"remaining":-1,"dry_run":false}"#,
            false,
        ),
        (r#"{"ids":["x"],"remaining":0,"dry_run":false}"#, false),
    ] {
        let (_faulty_server, client) = client_for(json(body)).await;
        let filter = TokenFilter::new().with_name("ci");
        let revoked = client.revoke_where(filter, None).await;
        assert_eq!(revoked.is_ok(), is_revoked, "{body}");
    }
    let cursor = r#"{"service_tokens":[],"next_cursor":"!"}"#;
    let (_faulty_server, client) = client_for(json(cursor)).await;
    let listed = client.list(TokenFilter::new(), Page::default()).await;
    assert_eq!(listed.unwrap_err().kind(), UnexpectedResponse);
    assert!(client.revoke(id()).await.is_err());
}

#[tokio::test]
async fn trusts_errors_only_as_problem_json() {
    use ClientErrorKind as Kind;
    for (status, code, kind, kind_without_code) in [
        (400, "invalid_request", Kind::Invalid, UnexpectedResponse),
        (
            401,
            "invalid_token",
            Kind::Unauthenticated,
            Kind::Unauthenticated,
        ),
        (403, "insufficient_scope", Kind::Forbidden, Kind::Forbidden),
        (
            403,
            "escalation_denied",
            Kind::EscalationDenied,
            Kind::Forbidden,
        ),
        (404, "not_found", Kind::NotFound, UnexpectedResponse),
        (404, "no_route", UnexpectedResponse, UnexpectedResponse),
        (405, "not_found", UnexpectedResponse, UnexpectedResponse),
        (409, "name_taken", Kind::Conflict, UnexpectedResponse),
        (409, "rotated_meanwhile", Kind::Conflict, UnexpectedResponse),
        (409, "last_admin", Kind::LastAdmin, UnexpectedResponse),
        (
            428,
            "precondition_required",
            Kind::RevisionRequired,
            UnexpectedResponse,
        ),
        (403, "unknown_actor", Kind::Forbidden, Kind::Forbidden),
        (
            412,
            "precondition_failed",
            Kind::RevisionMismatch,
            UnexpectedResponse,
        ),
        (413, "too_large", Kind::Invalid, UnexpectedResponse),
        (
            415,
            "unsupported_media_type",
            Kind::Invalid,
            UnexpectedResponse,
        ),
        (422, "invalid_fields", Kind::Invalid, UnexpectedResponse),
        (
            422,
            "idempotency_key_reused",
            Kind::Conflict,
            UnexpectedResponse,
        ),
        (429, "rate_limited", Kind::RateLimited, Kind::RateLimited),
        (500, "internal", Kind::Server, Kind::Server),
        (503, "auth_unavailable", Kind::Server, Kind::Server),
        (503, "change_failed", Kind::Server, Kind::Server),
    ] {
        let body = format!(r#"{{"code":"{code}","detail":"reason"}}"#);
        let error = get(problem(status, &body)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status} {code}");
        assert_eq!(error.status(), StatusCode::from_u16(status).ok());
        assert_eq!(error.code(), Some(code));
        let text = error.to_string();
        assert_eq!(text == "reason", kind != UnexpectedResponse, "{text}");
        let error = get(response_bytes(status, &[JSON], &body))
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (kind_without_code, None),
            "{status}"
        );
    }
}

#[tokio::test]
async fn truncates_and_sanitizes_server_messages() {
    let detail = r"\u0007a\u001b[31mb\r\nc\u202ed\u0000\u009b";
    let body = format!(r#"{{"code":"not_found","detail":"{detail}"}}"#);
    let error = get(problem(404, &body)).await.unwrap_err();
    let escaped = r"\u{7}a\u{1b}[31mb\u{d}\u{a}c\u{202e}d\u{0}\u{9b}";
    assert_eq!(error.to_string(), escaped);

    let echo = format!("token {TOKEN} is bad ");
    let entry = format!(r#"{{"pointer":"/{TOKEN}","detail":"\u001b{echo}"}}"#);
    let entries = vec![entry; 200].join(",");
    let long = echo.repeat(100);
    let body = format!(
        r#"{{"code":"Not {TOKEN}\u001b","detail":"{long}","errors":[{entries}],"missing":["{echo}"]}}"#
    );
    let error = get(problem(422, &body)).await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::Invalid);
    assert_eq!(error.code(), None);
    assert_eq!(error.problems().len(), 100);
    assert_eq!(error.problems()[0].pointer, "/***");
    assert_eq!(error.problems()[0].detail, r"\u{1b}token *** is bad");
    assert_eq!(error.missing(), ["token *** is bad"]);
    let shown = format!("{error} {error:?} {error:#?}");
    assert!(!shown.contains("Zk3vN8pR"), "{shown}");
    assert!(!shown.contains('\u{1b}'));
    let first = error.to_string();
    let first = first.split(": /").next().unwrap();
    assert_eq!(first.chars().count(), 500, "{first}");
}

#[tokio::test]
async fn malformed_responses_do_not_leak_secrets() {
    for body in [
        format!(r#"{{"token":["{TOKEN}"],"service_token":{TOKEN_JSON}}}"#),
        format!(r#"{{"token":"{TOKEN} x","service_token":{TOKEN_JSON}}}"#),
        format!(r#"{{"token":"{TOKEN}","service_token":"{TOKEN}"}}"#),
        format!(r#"{{"token":"{TOKEN}","service_token":{{"id":"{TOKEN}"}}}}"#),
    ] {
        let (_faulty_server, client) = client_for(response_bytes(201, &[JSON], &body)).await;
        let error = client.create(NewToken::new("ci")).await.unwrap_err();
        assert_eq!(error.kind(), UnexpectedResponse);
        let shown = format!("{error} {error:?} {error:#?}");
        assert!(!shown.contains("Zk3vN8pR"), "{shown}");
    }
}

#[tokio::test]
async fn sends_the_token_in_one_header() {
    let (faulty_server, client) = client_for(json(TOKEN_JSON)).await;
    client.get(id()).await.unwrap();
    let received = faulty_server.requests().remove(0);
    assert_eq!(received.line, "GET /service-tokens/7Hq2mX9bTe");
    assert_eq!(received.headers["authorization"], format!("ApiKey {TOKEN}"));
    let accepted = &received.headers["accept"];
    assert_eq!(accepted, "application/json, application/problem+json");
    assert_eq!(received.headers.len(), 4, "{:?}", received.headers);
}
