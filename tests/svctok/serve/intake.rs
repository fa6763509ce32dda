//! Credential headers as raw bytes: unusual bytes, schemes and whitespace.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http1::{self, HttpRequest, HttpResponse};
use crate::node::Node;
use crate::store_fixture::StoreFixture;

/// Header lines, with the placeholder `TOKEN` for a valid token, and the status and error code of the
/// response. The code is empty if the request succeeds or is not valid HTTP.
const HEADER_LINES: &[(&[u8], u16, &str)] = &[
    (b"X-API-Key: TOKEN", 200, ""),
    (b"x-api-key:TOKEN", 200, ""),
    (b"X-API-KEY: \t TOKEN \t", 200, ""),
    (b"Authorization: ApiKey TOKEN", 200, ""),
    (b"Authorization: aPIkEY    TOKEN  ", 200, ""),
    (b"Authorization: \tBEARER TOKEN", 200, ""),
    (b"Authorization: Bearer TOKEN\r\nX-API-Key: TOKEN", 200, ""),
    // Bytes that are not allowed in a token.
    (b"X-API-Key: TOKEN\xff", 400, "invalid_request"),
    (b"X-API-Key: \xa0TOKEN", 400, "invalid_request"),
    (b"X-API-Key: \xef\xbb\xbfTOKEN", 400, "invalid_request"),
    (b"X-API-Key: TOKEN x", 400, "invalid_request"),
    (b"X-API-Key: ApiKey TOKEN", 400, "invalid_request"),
    (b"X-API-Key:", 400, "invalid_request"),
    (b"X-API-Key: \"TOKEN\"", 401, "invalid_token"),
    (b"X-API-Key: TOKEN,TOKEN", 401, "invalid_token"),
    // Bytes that are not allowed in a header.
    (b"X-API-Key: \x00TOKEN", 400, ""),
    (b"X-API-Key: TOKEN\x7f", 400, ""),
    (b"X-API-Key: TOKEN\x0b", 400, ""),
    (b"X-API-Key : TOKEN", 400, ""),
    (b"X-API-Key: TOKEN\r\n x", 400, ""),
    (b"X-API-Key: TOKEN\rx: y", 400, ""),
    // Supported schemes, malformed.
    (b"Authorization: ApiKey\tTOKEN", 400, "invalid_request"),
    (b"Authorization: ApiKey \tTOKEN", 400, "invalid_request"),
    (b"Authorization: ApiKey\xa0TOKEN", 400, "invalid_request"),
    (b"Authorization: ApiKey=TOKEN", 400, "invalid_request"),
    (b"Authorization: ApiKey: TOKEN", 400, "invalid_request"),
    (b"Authorization: ApiKey, TOKEN", 400, "invalid_request"),
    (
        b"Authorization: ApiKey TOKEN, Basic dTpw",
        400,
        "invalid_request",
    ),
    (b"Authorization: ApiKey TOKEN x=1", 400, "invalid_request"),
    (b"Authorization: ApiKey TOKEN\xff", 400, "invalid_request"),
    (b"Authorization: ApiKey", 400, "invalid_request"),
    (b"Authorization: Bearer  ", 400, "invalid_request"),
    (b"Authorization:", 400, "invalid_request"),
    (b"Authorization: \xffApiKey TOKEN", 400, "invalid_request"),
    (b"Authorization: ApiKey token=TOKEN", 401, "invalid_token"),
    // Other schemes and headers.
    (b"Authorization: ApiKeyTOKEN", 401, "missing_token"),
    (b"Authorization: Api-Key TOKEN", 401, "missing_token"),
    (b"Authorization: Token TOKEN", 401, "missing_token"),
    (b"Authorization: TOKEN", 401, "missing_token"),
    (
        b"Authorization: Basic dTpw, ApiKey TOKEN",
        401,
        "missing_token",
    ),
    (
        b"Authorization: Digest username=\"TOKEN\"",
        401,
        "missing_token",
    ),
    (b"Authorization: Negotiate YII=", 401, "missing_token"),
    (b"Proxy-Authorization: ApiKey TOKEN", 401, "missing_token"),
    (b"Cookie: X-API-Key=TOKEN", 401, "missing_token"),
    (b"X_API_Key: TOKEN", 401, "missing_token"),
    // Repeated and conflicting.
    (
        b"X-API-Key: TOKEN\r\nX-API-Key: TOKEN",
        400,
        "invalid_request",
    ),
    (
        b"Authorization: Bearer TOKEN\r\nX-API-Key: x",
        400,
        "invalid_request",
    ),
    (
        b"Authorization: Basic dTpw\r\nAuthorization: ApiKey TOKEN",
        400,
        "invalid_request",
    ),
];

pub(crate) async fn unusual_credential_headers_get_the_expected_status(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    for (line, status, code) in HEADER_LINES {
        let line: Vec<u8> = replace_placeholders(line, token.as_bytes());
        let head = b"GET /service-tokens/self HTTP/1.1\r\nhost: svctok.test\r\n";
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream
            .write_all(&[head, &*line, b"\r\n\r\n"].concat())
            .await
            .unwrap();
        let response = http1::read_response(&mut stream).await.unwrap();
        let line = String::from_utf8_lossy(&line);
        assert_eq!(response.status, *status, "{line}: {response:?}");
        if !code.is_empty() {
            assert_eq!(response.text("/code"), *code, "{line}");
        }
    }
    node.stop().await;
}

/// Replaces each placeholder in a line with the token.
fn replace_placeholders(line: &[u8], token: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line;
    while let Some(index) = rest.windows(5).position(|part| part == b"TOKEN") {
        bytes.extend_from_slice(&rest[..index]);
        bytes.extend_from_slice(token);
        rest = &rest[index + 5..];
    }
    bytes.extend_from_slice(rest);
    bytes
}

/// The server never parses the unread body of a rejected request as the next request.
pub(crate) async fn unread_body_is_never_parsed_as_a_request(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let smuggled = HttpRequest::new("DELETE", "/service-tokens/self?last_admin=true");
    let smuggled = smuggled.with_key(&token);
    let smuggled = String::from_utf8(smuggled.bytes()).unwrap();
    for (target, key, media_type) in [
        ("/service-tokens", "unknown", "application/json"),
        ("/service-tokens", token.as_str(), "text/plain"),
        ("/service-tokens", token.as_str(), "application/json"),
        (
            "/service-tokens/0000000000/rotate",
            token.as_str(),
            "application/json",
        ),
        (
            "/introspect",
            "unknown",
            "application/x-www-form-urlencoded",
        ),
        ("/revoke", "unknown", "text/plain"),
        (
            "/api/v1/service-account-tokens",
            "unknown",
            "application/json",
        ),
        ("/nowhere", "unknown", "application/json"),
        ("/verify", token.as_str(), "application/json"),
        ("/healthz", "unknown", "application/json"),
    ] {
        let request = HttpRequest::new("POST", target);
        let request = request.with("content-type", media_type).with_key(key);
        let request = request.with_body(&smuggled).bytes();
        let next = HttpRequest::get("/openapi.json").bytes();
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(&[request, next].concat()).await.unwrap();
        http1::read_response(&mut stream).await.unwrap();
        // The server responds to the next request or closes the connection.
        let next: Result<HttpResponse, _> = http1::read_response(&mut stream).await;
        if let Ok(next) = next {
            assert!(next.assert(200).body.contains("openapi"), "{target}");
        }
        let get_self = HttpRequest::get("/service-tokens/self").with_key(&token);
        node.send(&get_self).await.assert(200);
    }
    node.stop().await;
}
