//! Replays the requests of two existing clients, byte for byte, against the whole service.

use std::fmt::Write as _;

use tokio::net::TcpStream;

use crate::http1::{self, HttpResponse};
use crate::node::Node;
use crate::store_fixture::StoreFixture;

/// A client that sends all requests on one connection.
struct ClientConnection {
    stream: TcpStream,
    host: String,
}

impl ClientConnection {
    async fn open(node: &Node) -> Self {
        Self {
            stream: TcpStream::connect(node.address).await.unwrap(),
            host: node.address.to_string(),
        }
    }

    /// Sends a request line, a `Host` header, these header lines and the body with its `Content-Length`.
    async fn send(
        &mut self,
        request_line: &str,
        lines: &[&str],
        body: Option<&str>,
    ) -> HttpResponse {
        let mut text = format!("{request_line} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for line in lines {
            text.push_str(line);
            text.push_str("\r\n");
        }
        if let Some(body) = body {
            write!(text, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        text.push_str("Accept-Encoding: gzip\r\n\r\n");
        text.push_str(body.unwrap_or_default());
        http1::exchange(&mut self.stream, text.as_bytes())
            .await
            .unwrap()
    }
}

pub(crate) async fn serves_the_sts_tool(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let mut sts = ClientConnection::open(&node).await;
    let key = format!("X-Api-Key: {token}");
    let agent = "User-Agent: OpenAPI-Generator/1.0.0/go";
    let read = [agent, "Accept: application/json", &key];
    let write = [
        agent,
        "Accept: application/json",
        "Content-Type: application/json",
        &key,
    ];

    let info = sts
        .send("GET /api/server/info", &read, None)
        .await
        .assert(200);
    let version = &info.json()["version"];
    assert!(version["major"].as_i64().unwrap() >= 5);
    assert_eq!(
        (&version["diff"], &version["commit"]),
        (&"".into(), &"".into())
    );

    // 2199-12-31 at 00:00 UTC.
    let body = r#"{"dedicatedSubject":"","expiryDate":7258032000000,"name":"ci","roles":["stackstate-power-user"]}"#;
    let created = sts
        .send("POST /api/security/tokens", &write, Some(body))
        .await;
    assert!([200, 201].contains(&created.status), "{created:?}");
    assert_eq!(created.header("content-type"), Some("application/json"));
    let minted = created.text("/token");
    assert!(minted.starts_with("svctok-"));
    assert_eq!(created.json()["name"], "ci");

    let listed = sts
        .send("GET /api/security/tokens", &read, None)
        .await
        .assert(200)
        .json();
    let listed = listed.as_array().unwrap();
    let ci = listed.iter().find(|it| it["name"] == "ci").unwrap();
    // The API returns noon UTC of that day, so that clients in other time zones display the same day.
    assert_eq!(ci["expiration"], 7_258_075_200_000_i64);
    let id = ci["id"].as_i64().unwrap();

    let past = r#"{"dedicatedSubject":"","expiryDate":1577836800000,"name":"past","roles":[]}"#;
    let rejected = sts
        .send("POST /api/security/tokens", &write, Some(past))
        .await
        .assert(400);
    assert_eq!(rejected.header("content-type"), Some("application/json"));
    assert!(
        rejected.body.contains("ServiceTokenInvalidExpiryError"),
        "{}",
        rejected.body
    );

    // The created token is valid and has no rights here.
    let minted_key = format!("X-Api-Key: {minted}");
    let minted_headers = [agent, "Accept: application/json", &minted_key];
    sts.send("GET /api/server/info", &minted_headers, None)
        .await
        .assert(200);
    sts.send("GET /api/security/tokens", &minted_headers, None)
        .await
        .assert(403);

    let target = format!("DELETE /api/security/tokens/{id}");
    let deleted = sts.send(&target, &read, None).await;
    assert!((200..300).contains(&deleted.status), "{deleted:?}");
    let rejected = sts
        .send("GET /api/server/info", &minted_headers, None)
        .await
        .assert(401);
    assert_eq!(rejected.header("content-type"), Some("application/json"));
    assert!(rejected.json()["errors"][0]["message"].is_string());
    let tracking_key = rejected.text("/trackingKey");
    assert_eq!(rejected.header("x-request-id"), Some(tracking_key.as_str()));
    sts.send("DELETE /api/security/tokens/1", &read, None)
        .await
        .assert(404);
    node.stop().await;
}

pub(crate) async fn serves_the_go_sdk(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let mut sdk = ClientConnection::open(&node).await;
    let bearer = format!("Authorization: Bearer {token}");
    let agent = "User-Agent: pipeops-go-sdk";
    let read = [agent, "Accept: application/json", &bearer];
    let write = [
        agent,
        "Accept: application/json",
        &bearer,
        "Content-Type: application/json",
    ];

    let workspace = sdk.send("GET /workspace", &read, None).await.assert(200);
    let workspace = workspace.text("/data/0/uuid");
    let base = "/api/v1/service-account-tokens";
    let target = format!("POST {base}?workspace_uuid={workspace}");
    let body = r#"{"name":"ci","description":"builds","permissions":["projects:read"],"expires_at":"2199-12-31T00:00:00Z"}"#;
    let created = sdk.send(&target, &write, Some(body)).await;
    assert!([200, 201].contains(&created.status), "{created:?}");
    assert_eq!(created.json()["success"], true);
    let (minted, uuid) = (
        created.text("/data/token/token"),
        created.text("/data/token/uuid"),
    );
    assert_eq!(created.text("/data/token/id"), uuid);
    assert_eq!(created.text("/data/token/workspace_id"), workspace);

    let target = format!("GET {base}?workspace_uuid={workspace}");
    let listed = sdk.send(&target, &read, None).await.assert(200).json();
    let listed = listed["data"]["tokens"].as_array().unwrap();
    let listed_token = listed.iter().find(|it| it["uuid"] == *uuid).unwrap();
    assert_eq!(
        listed_token["permissions"],
        serde_json::json!(["projects:read"])
    );
    assert!(
        listed_token["token"]
            .as_str()
            .unwrap_or_default()
            .is_empty(),
        "the secret is returned only once"
    );

    let request_line = |method: &str| format!("{method} {base}/{uuid}");
    let found = sdk
        .send(&request_line("GET"), &read, None)
        .await
        .assert(200);
    assert_eq!(found.text("/data/token/name"), "ci");
    let minted_bearer = format!("Authorization: Bearer {minted}");
    let minted_headers = [agent, &minted_bearer];
    sdk.send("GET /verify?scope=projects:read", &minted_headers, None)
        .await
        .assert(200);
    for (body, status) in [
        (r#"{"is_active":false}"#, 401),
        (r#"{"is_active":true}"#, 200),
    ] {
        let changed = sdk
            .send(&request_line("PATCH"), &write, Some(body))
            .await
            .assert(200);
        assert_eq!(changed.json()["data"]["token"]["is_active"], status == 200);
        sdk.send("GET /verify", &minted_headers, None)
            .await
            .assert(status);
    }
    let revoked = sdk.send(&request_line("DELETE"), &read, None).await;
    assert!([200, 204].contains(&revoked.status), "{revoked:?}");
    sdk.send("GET /verify", &minted_headers, None)
        .await
        .assert(401);
    let rejected = sdk.send(&target, &minted_headers, None).await.assert(401);
    assert_eq!(rejected.json()["success"], false);
    assert!(rejected.json()["message"].is_string());
    // All requests used one connection, which is still open.
    sdk.send(&target, &read, None).await.assert(200);
    node.stop().await;
}
