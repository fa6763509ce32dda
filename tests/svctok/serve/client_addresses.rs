//! The client address that a failure counts against, with and without a trusted proxy.

use tower_service_token::token::TokenFormat;

use crate::http1::HttpRequest;
use crate::node::{Node, NodeProcess};
use crate::store_fixture::StoreFixture;

/// One path of each route group that authenticates the caller.
const PATHS: [&str; 7] = [
    "/verify",
    "/service-tokens",
    "/service-tokens/self",
    "/api/server/info",
    "/api/security/tokens",
    "/api/v1/service-account-tokens",
    "/workspace",
];

/// Returns a token with a wrong checksum.
fn token_with_wrong_checksum() -> String {
    let token = TokenFormat::default().mint().unwrap();
    let token = token.expose_secret();
    let last = if token.ends_with('0') { "1" } else { "0" };
    format!("{}{last}", &token[..token.len() - 1])
}

/// Sends an invalid token with this header, as a proxy does, and returns the status.
async fn send_invalid_token(node: &Node, path: &str, header: &str, value: &str) -> u16 {
    let request = HttpRequest::get(path)
        .with_key(&token_with_wrong_checksum())
        .with(header, value);
    node.send(&request).await.status
}

/// Sends invalid tokens until the status is 429. Returns the number of requests before.
async fn exhaust_budget(node: &Node, path: &str, header: &str, value: &str) -> usize {
    for sent in 0..5_000 {
        if send_invalid_token(node, path, header, value).await == 429 {
            return sent;
        }
    }
    panic!("the failure budget is not exhausted");
}

pub(crate) async fn clients_behind_a_trusted_proxy_have_separate_budgets(fixture: StoreFixture) {
    let proxies = ["--trusted-proxy", "10.0.0.0/8,127.0.0.1"];
    for (flags, header, prefix) in [
        (&[][..], "x-forwarded-for", ""),
        (
            &["--client-address-header", "Forwarded"],
            "forwarded",
            "for=",
        ),
        (&["--client-address-header", "x-real-ip"], "x-real-ip", ""),
    ] {
        let flags = [&proxies, flags].concat();
        let node = Node::start(&fixture, &flags).await;
        let client = |last: u8| format!("{prefix}198.51.100.7, {prefix}192.0.2.{last}");
        assert!(exhaust_budget(&node, "/verify", header, &client(1)).await >= 100);
        for path in PATHS {
            let status = send_invalid_token(&node, path, header, &client(2)).await;
            assert_eq!(status, 401, "{path}");
            // All endpoints share one budget, which may have refilled by a few failures in the meantime.
            assert!(
                exhaust_budget(&node, path, header, &client(1)).await < 100,
                "{path}"
            );
        }
        let output = node.stop().await;
        for part in [" client=192.0.2.1", " client=192.0.2.2"] {
            let lines = output.stderr.lines().filter(|line| line.contains(part));
            let request_lines = lines
                .clone()
                .filter(|line| line.contains("svctok::request"));
            let rejections = lines.filter(|line| line.contains("request rejected"));
            assert!(request_lines.count() >= PATHS.len(), "{part}");
            assert!(rejections.count() >= PATHS.len(), "{part}");
        }
        assert!(!output.stderr.contains("198.51.100.7"));
    }
}

pub(crate) async fn headers_are_ignored_without_a_trusted_proxy(fixture: StoreFixture) {
    let node = Node::start(&fixture, &[]).await;
    for header in ["x-forwarded-for", "x-real-ip", "forwarded"] {
        let mut statuses = Vec::new();
        for number in 0..250 {
            let forged = format!("192.0.2.{number}");
            statuses.push(send_invalid_token(&node, "/verify", header, &forged).await);
        }
        assert!(statuses.contains(&429), "{header}");
    }
    let output = node.stop().await;
    assert!(output.stderr.contains("client=127.0.0.1"));
    assert!(!output.stderr.contains("192.0.2."));
}

pub(crate) async fn invalid_proxy_network_is_a_usage_error(fixture: StoreFixture) {
    for (flag, value) in [
        ("--trusted-proxy", "proxy.internal"),
        // The header has no effect without a trusted proxy.
        ("--client-address-header", "X-Real-IP"),
        ("--trusted-proxy", "10.0.0.0/8,10.0.0.0/33"),
        ("--client-address-header", "X Real IP"),
    ] {
        let output = NodeProcess::start(&fixture, &[flag, value]).wait().await;
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.contains(flag), "{output:?}");
    }
}
