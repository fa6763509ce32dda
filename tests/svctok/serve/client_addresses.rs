//! The client to which a failure is attributed, behind a proxy and without one.

use tower_service_token::token::TokenFormat;

use crate::http1::HttpRequest;
use crate::node::{Node, NodeProcess};
use crate::store_fixture::StoreFixture;

/// A call of each group of routes that authenticates its caller.
const PATHS: [&str; 7] = [
    "/verify",
    "/service-tokens",
    "/service-tokens/self",
    "/api/server/info",
    "/api/security/tokens",
    "/api/v1/service-account-tokens",
    "/workspace",
];

/// A token with a wrong checksum.
fn damaged() -> String {
    let token = TokenFormat::default().mint().unwrap();
    let token = token.expose_secret();
    let last = if token.ends_with('0') { "1" } else { "0" };
    format!("{}{last}", &token[..token.len() - 1])
}

/// The status of an unusable token that comes through a proxy which wrote this header.
async fn status(node: &Node, path: &str, header: &str, value: &str) -> u16 {
    let call = HttpRequest::get(path)
        .with_key(&damaged())
        .with(header, value);
    node.send(&call).await.status
}

/// Returns how many failures it took.
async fn spend_budget(node: &Node, path: &str, header: &str, value: &str) -> usize {
    for sent in 0..5_000 {
        if status(node, path, header, value).await == 429 {
            return sent;
        }
    }
    panic!("there is no budget");
}

pub(crate) async fn clients_behind_a_trusted_proxy_have_separate_budgets(fixture: StoreFixture) {
    let proxies = ["--trusted-proxy", "10.0.0.0/8,127.0.0.1"];
    for (more, header, prefix) in [
        (&[][..], "x-forwarded-for", ""),
        (
            &["--client-address-header", "Forwarded"],
            "forwarded",
            "for=",
        ),
        (&["--client-address-header", "x-real-ip"], "x-real-ip", ""),
    ] {
        let more = [&proxies, more].concat();
        let node = Node::start(&fixture, &more).await;
        let client = |last: u8| format!("{prefix}198.51.100.7, {prefix}192.0.2.{last}");
        assert!(spend_budget(&node, "/verify", header, &client(1)).await >= 100);
        for path in PATHS {
            let others = status(&node, path, header, &client(2)).await;
            assert_eq!(others, 401, "{path}");
            // One budget for all endpoints, which may have grown by a few failures meanwhile.
            assert!(
                spend_budget(&node, path, header, &client(1)).await < 100,
                "{path}"
            );
        }
        let ended = node.stop().await;
        for part in [" client=192.0.2.1", " client=192.0.2.2"] {
            let lines = ended.stderr.lines().filter(|line| line.contains(part));
            let of_requests = lines
                .clone()
                .filter(|line| line.contains("svctok::request"));
            let refusals = lines.filter(|line| line.contains("request rejected"));
            assert!(of_requests.count() >= PATHS.len(), "{part}");
            assert!(refusals.count() >= PATHS.len(), "{part}");
        }
        assert!(!ended.stderr.contains("198.51.100.7"));
    }
}

pub(crate) async fn headers_are_ignored_without_a_trusted_proxy(fixture: StoreFixture) {
    let node = Node::start(&fixture, &[]).await;
    for header in ["x-forwarded-for", "x-real-ip", "forwarded"] {
        let mut statuses = Vec::new();
        for number in 0..250 {
            let forged = format!("192.0.2.{number}");
            statuses.push(status(&node, "/verify", header, &forged).await);
        }
        assert!(statuses.contains(&429), "{header}");
    }
    let ended = node.stop().await;
    assert!(ended.stderr.contains("client=127.0.0.1"));
    assert!(!ended.stderr.contains("192.0.2."));
}

pub(crate) async fn invalid_proxy_network_is_a_usage_error(fixture: StoreFixture) {
    for (flag, value) in [
        ("--trusted-proxy", "proxy.internal"),
        // Without a trusted proxy, the header would not be read.
        ("--client-address-header", "X-Real-IP"),
        ("--trusted-proxy", "10.0.0.0/8,10.0.0.0/33"),
        ("--client-address-header", "X Real IP"),
    ] {
        let ended = NodeProcess::start(&fixture, &[flag, value]).wait().await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(flag), "{ended:?}");
    }
}
