//! How much of a body the service reads if the client has no valid token.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::authority::service::{TestService, request_with_body};
use crate::http1::{self, HttpRequest};

const UNKNOWN: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";

const PIPEOPS: &str = "/api/v1/service-account-tokens";

/// Creates a request with a `Content-Length` and without a body.
fn request_without_body(
    method: &str,
    target: &str,
    key: Option<&str>,
    length: usize,
) -> HttpRequest {
    let media_type = match target {
        "/introspect" => "application/x-www-form-urlencoded",
        _ => "application/json",
    };
    let request = HttpRequest::new(method, target).with("content-type", media_type);
    let request = request.with("content-length", &length.to_string());
    match key {
        Some(key) => request.with_key(key),
        None => request,
    }
}

pub(crate) async fn does_not_read_body_of_unauthenticated_request(service: Arc<TestService>) {
    let unauthorized = service.create_with_scopes(&["builds:read"]).await;
    let id = &service.admin.id;
    for (method, target) in [
        ("POST", "/service-tokens"),
        ("POST", "/service-tokens/revoke"),
        ("PATCH", &format!("/service-tokens/{id}")),
        ("POST", &format!("/service-tokens/{id}/rotate")),
        ("POST", "/service-tokens/self/rotate"),
        ("POST", "/api/security/tokens"),
        ("POST", "/introspect"),
    ] {
        for key in [None, Some(UNKNOWN), Some(unauthorized.secret.as_str())] {
            let needs_scope = !target.ends_with("/self/rotate");
            let status = match key {
                Some(key) if key == unauthorized.secret && needs_scope => 403,
                Some(key) if key == unauthorized.secret => continue,
                _ => 401,
            };
            // The client sends no part of the body.
            let request = request_without_body(method, target, key, 60_000);
            let response = request.send(service.address).await;
            assert_eq!(response.status, status, "{method} {target}: {response:?}");
        }
    }
}

pub(crate) async fn pipeops_api_drains_at_most_64_kib_to_keep_connection(
    service: Arc<TestService>,
) {
    const MAX: usize = 64 * 1024;
    for (method, target) in [
        ("POST", PIPEOPS.to_owned()),
        ("PATCH", format!("{PIPEOPS}/{}", service.admin.id)),
    ] {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        let head = request_without_body(method, &target, Some(UNKNOWN), MAX).bytes();
        stream.write_all(&head).await.unwrap();
        let rejected = http1::exchange(&mut stream, &vec![b' '; MAX])
            .await
            .unwrap();
        rejected.assert(401);
        let list = request_with_body(&service.admin.secret, &format!("GET {PIPEOPS}"), None);
        let listed = http1::exchange(&mut stream, &list.bytes()).await.unwrap();
        listed.assert(200);

        let head = request_without_body(method, &target, Some(UNKNOWN), 100 * MAX).bytes();
        stream.write_all(&head).await.unwrap();
        let rejected = http1::exchange(&mut stream, &vec![b' '; MAX + 1])
            .await
            .unwrap();
        rejected.assert(401);
        let mut rest = Vec::new();
        // The connection is closed, or reset because of unread bytes.
        let _ = stream.read_to_end(&mut rest).await;
        assert_eq!(rest, b"");
    }
}
