//! Whether a node reports that it is ready.

use std::time::{Duration, Instant};

use serde_json::json;
use test_support::postgres::Stop;
use test_support::stall::Stopwatch;

use crate::disk::Disk;
use crate::http1::HttpRequest;
use crate::node::{NODE_TIMEOUT, Node, poll_interval};
use crate::store_fixture::StoreFixture;

/// The maximum duration of `/readyz` on a busy machine.
const BOUND: Duration = Duration::from_secs(5);

async fn becomes(node: &Node, status: u16) {
    becomes_at(node, "/readyz", status).await;
}

pub(crate) async fn becomes_at(node: &Node, target: &str, status: u16) {
    let begun = Instant::now();
    loop {
        let asked = Stopwatch::start();
        let answer = node.send(&HttpRequest::get(target)).await;
        let took = asked.elapsed_without_stalls();
        assert!(took < BOUND, "{took:?}");
        node.send(&HttpRequest::get("/healthz")).await.assert(200);
        if answer.status == status {
            return;
        }
        assert!(begun.elapsed() < NODE_TIMEOUT, "{}", answer.status);
        poll_interval().await;
    }
}

pub(crate) async fn readiness_follows_the_store(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    node.send(&HttpRequest::get("/readyz")).await.assert(200);
    fixture.server().stop(Stop::Fast);
    becomes(&node, 503).await;
    let create = HttpRequest::post("/service-tokens", r#"{"name":"ci"}"#).with_key(&token);
    let answer = node.send(&create).await.assert(503);
    assert!(answer.header("retry-after").is_some());
    fixture.server().start();
    becomes(&node, 200).await;
    node.send(&create).await.assert(201);

    fixture.server().suspend();
    becomes(&node, 503).await;
    fixture.server().resume();
    becomes(&node, 200).await;
    node.stop().await;
}

/// The log lines about the store and its feed, in order.
fn said(log: &str) -> Vec<&str> {
    let lines = [
        "the store is unreachable",
        "the store is reachable again",
        "the store does not accept changes",
        "the store accepts changes again",
        "change feed lost",
        "change feed restored",
    ];
    let said = |line: &str| lines.into_iter().find(|it| line.contains(it));
    log.lines().filter_map(said).collect()
}

async fn gauge(node: &Node, name: &str) -> Option<String> {
    let metrics = node
        .send(&HttpRequest::get("/metrics"))
        .await
        .assert(200)
        .body;
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map(str::to_owned)
}

async fn gauge_becomes(node: &Node, name: &str, value: &str) {
    let begun = Instant::now();
    while gauge(node, name).await.as_deref() != Some(value) {
        assert!(
            begun.elapsed() < NODE_TIMEOUT,
            "{name} does not become {value}"
        );
        poll_interval().await;
    }
}

pub(crate) async fn readiness_reports_reads_and_writes(fixture: StoreFixture) {
    let node = Node::start(&fixture, &[]).await;
    for (target, status) in [
        ("/readyz", 200),
        ("/readyz?write", 200),
        ("/readyz?write=1&any", 200),
        ("/readyz?any=write", 200),
    ] {
        let answer = node.send(&HttpRequest::get(target)).await.assert(status);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let body = answer.json();
        assert_eq!(body["status"], "ready", "{body}");
        assert_eq!(body["reads"], "ok", "{body}");
        assert_ne!(body["writes"], "failing", "{body}");
        assert!(body["feed"].is_string(), "{body}");
        if target.starts_with("/readyz?write") {
            assert_eq!(body["writes"], "ok");
        }
    }
    assert_eq!(gauge(&node, "svctok_store_readable").await.unwrap(), "1");
    assert_eq!(gauge(&node, "svctok_store_writable").await.unwrap(), "1");
    let log = node.stop().await.stderr;
    assert_eq!(said(&log), [""; 0], "{log}");
}

pub(crate) async fn token_file_node_is_ready_for_reads_only(mut fixture: StoreFixture) {
    let file = fixture.file("tokens.toml", Some("tokens = []"));
    fixture.store = format!("file:{file}");
    let node = Node::start(&fixture, &[]).await;
    let body = node
        .send(&HttpRequest::get("/readyz"))
        .await
        .assert(200)
        .json();
    let expected = json!({
        "status": "ready", "reads": "ok", "writes": "read_only", "feed": "not_used"
    });
    assert_eq!(body, expected);
    node.send(&HttpRequest::get("/readyz?write"))
        .await
        .assert(503);
    node.stop().await;
}

pub(crate) async fn outage_is_logged_once_without_requests(fixture: StoreFixture) {
    let (mut node, _) = Node::bootstrap(&fixture, &[]).await;
    gauge_becomes(&node, "svctok_store_readable", "1").await;
    fixture.server().stop(Stop::Fast);
    node.wait_for_log("the store is unreachable").await;
    gauge_becomes(&node, "svctok_store_readable", "0").await;
    fixture.server().start();
    node.wait_for_log("the store is reachable again").await;
    gauge_becomes(&node, "svctok_store_readable", "1").await;
    let log = node.stop().await.stderr;
    let reads = said(&log).into_iter().filter(|it| it.contains("reachable"));
    let reads: Vec<_> = reads.collect();
    assert_eq!(
        reads,
        ["the store is unreachable", "the store is reachable again"]
    );
}

pub(crate) async fn full_disk_makes_writes_unready(mut fixture: StoreFixture) {
    let disk = Disk::mount(&fixture.folder.join("disk"), "1m").unwrap();
    let path = disk.path().join("tokens.db");
    fixture.store = format!("sqlite:{}", path.display());
    let (mut node, administrator) = Node::bootstrap(&fixture, &[]).await;
    node.send(&HttpRequest::get("/readyz?write"))
        .await
        .assert(200);
    disk.fill();
    becomes_at(&node, "/readyz?write", 503).await;
    let body = node
        .send(&HttpRequest::get("/readyz"))
        .await
        .assert(200)
        .json();
    assert_eq!(
        (&body["reads"], &body["writes"]),
        (&json!("ok"), &json!("failing"))
    );
    gauge_becomes(&node, "svctok_store_writable", "0").await;
    let create = HttpRequest::post("/service-tokens", r#"{"name":"ci"}"#).with_key(&administrator);
    node.send(&create).await.assert(503);
    node.wait_for_log("does not accept changes").await;
    disk.empty();
    becomes_at(&node, "/readyz?write", 200).await;
    node.send(&create).await.assert(201);
    let log = node.stop().await.stderr;
    assert_eq!(
        said(&log),
        [
            "the store does not accept changes",
            "the store accepts changes again"
        ]
    );
}

pub(crate) async fn shutdown_on_a_full_disk_fails(mut fixture: StoreFixture) {
    let disk = Disk::mount(&fixture.folder.join("disk"), "600k").unwrap();
    let path = disk.path().join("tokens.db");
    fixture.store = format!("sqlite:{}", path.display());
    let (node, administrator) = Node::bootstrap(&fixture, &[]).await;
    let create = HttpRequest::post("/service-tokens", r#"{"name":"ci"}"#).with_key(&administrator);
    node.send(&create).await.assert(201);
    disk.fill();
    node.signal("TERM");
    let ended = node.wait().await;
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("cannot close the store"),
        "{}",
        ended.stderr
    );
    disk.empty();
    let node = Node::start(&fixture, &[]).await;
    let names = node
        .send(&HttpRequest::get("/service-tokens").with_key(&administrator))
        .await;
    assert_eq!(
        names.assert(200).json()["service_tokens"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    node.stop().await;
}

/// Runs a command in the server's data directory and restarts the server. With a file
/// `standby.signal` there, it is a standby that follows no server: it is read-only.
async fn restart(fixture: &StoreFixture, command: &str) {
    let copy = format!("COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; {command}'");
    fixture.server().run(&copy).await;
    fixture.server().stop(Stop::Fast);
    fixture.server().start();
}

pub(crate) async fn read_only_server_makes_writes_unready(fixture: StoreFixture) {
    let (node, administrator) = Node::bootstrap(&fixture, &[]).await;
    node.send(&HttpRequest::get("/readyz?write"))
        .await
        .assert(200);
    restart(&fixture, "touch standby.signal").await;
    becomes(&node, 200).await;
    becomes_at(&node, "/readyz?write", 503).await;
    let body = node
        .send(&HttpRequest::get("/readyz"))
        .await
        .assert(200)
        .json();
    let found = (&body["reads"], &body["writes"]);
    assert_eq!(found, (&json!("ok"), &json!("failing")));
    let create = HttpRequest::post("/service-tokens", r#"{"name":"ci"}"#).with_key(&administrator);
    node.send(&create).await.assert(503);
    restart(&fixture, "rm standby.signal").await;
    becomes_at(&node, "/readyz?write", 200).await;
    node.send(&create).await.assert(201);
    let log = node.stop().await.stderr;
    let writes = said(&log).into_iter().filter(|it| it.contains("changes"));
    let expected = [
        "the store does not accept changes",
        "the store accepts changes again",
    ];
    assert_eq!(writes.collect::<Vec<_>>(), expected);
}

pub(crate) async fn lost_feed_is_reported_and_leaves_the_node_ready(fixture: StoreFixture) {
    let (mut node, _) = Node::bootstrap(&fixture, &[]).await;
    gauge_becomes(&node, "svctok_change_feed_connected", "1").await;
    fixture.server().suspend();
    node.wait_for_log("change feed lost").await;
    gauge_becomes(&node, "svctok_change_feed_connected", "0").await;
    let body = node.send(&HttpRequest::get("/readyz")).await.json();
    assert_eq!(body["feed"], "lost");
    fixture.server().resume();
    node.wait_for_log("change feed restored").await;
    gauge_becomes(&node, "svctok_change_feed_connected", "1").await;
    becomes(&node, 200).await;
    let log = node.stop().await.stderr;
    let feed = said(&log).into_iter().filter(|it| it.contains("feed"));
    assert_eq!(
        feed.collect::<Vec<_>>(),
        ["change feed lost", "change feed restored"]
    );
}
