//! What a client without a valid token can make the service read.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::authority::service::{TestService, call_with_body};
use crate::http1::{self, HttpRequest};

const UNKNOWN: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";

const PIPEOPS: &str = "/api/v1/service-account-tokens";

fn announcing(method: &str, target: &str, key: Option<&str>, length: usize) -> HttpRequest {
    let media_type = match target {
        "/introspect" => "application/x-www-form-urlencoded",
        _ => "application/json",
    };
    let call = HttpRequest::new(method, target).with("content-type", media_type);
    let call = call.with("content-length", &length.to_string());
    match key {
        Some(key) => call.with_key(key),
        None => call,
    }
}

pub(crate) async fn does_not_read_body_of_unauthenticated_request(service: Arc<TestService>) {
    let powerless = service.holder(&["builds:read"]).await;
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
        for key in [None, Some(UNKNOWN), Some(powerless.secret.as_str())] {
            let needs_scope = !target.ends_with("/self/rotate");
            let status = match key {
                Some(key) if key == powerless.secret && needs_scope => 403,
                Some(key) if key == powerless.secret => continue,
                _ => 401,
            };
            // Nothing of the body is sent.
            let call = announcing(method, target, key, 60_000);
            let answer = call.send(service.address).await;
            assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
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
        let head = announcing(method, &target, Some(UNKNOWN), MAX).bytes();
        stream.write_all(&head).await.unwrap();
        let refused = http1::exchange(&mut stream, &vec![b' '; MAX])
            .await
            .unwrap();
        refused.assert(401);
        let list = call_with_body(&service.admin.secret, &format!("GET {PIPEOPS}"), None);
        let listed = http1::exchange(&mut stream, &list.bytes()).await.unwrap();
        listed.assert(200);

        let head = announcing(method, &target, Some(UNKNOWN), 100 * MAX).bytes();
        stream.write_all(&head).await.unwrap();
        let refused = http1::exchange(&mut stream, &vec![b' '; MAX + 1])
            .await
            .unwrap();
        refused.assert(401);
        let mut rest = Vec::new();
        // Closed, or reset because of unread bytes.
        let _ = stream.read_to_end(&mut rest).await;
        assert_eq!(rest, b"");
    }
}
