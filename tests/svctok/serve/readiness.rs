//! The readiness check of a node.

use std::time::{Duration, Instant};

use serde_json::json;
use test_support::postgres::Stop;
use test_support::stall::Stopwatch;

use crate::disk::Disk;
use crate::http1::HttpRequest;
use crate::node::{NODE_TIMEOUT, Node, poll_interval};
use crate::store_fixture::StoreFixture;

/// The maximum duration of `/readyz` on a busy machine.
const MAX_DURATION: Duration = Duration::from_secs(5);

async fn wait_for_status(node: &Node, status: u16) {
    wait_for_status_at(node, "/readyz", status).await;
}

pub(crate) async fn wait_for_status_at(node: &Node, target: &str, status: u16) {
    let started_at = Instant::now();
    loop {
        let watch = Stopwatch::start();
        let response = node.send(&HttpRequest::get(target)).await;
        let elapsed = watch.elapsed_without_stalls();
        assert!(elapsed < MAX_DURATION, "{elapsed:?}");
        node.send(&HttpRequest::get("/healthz")).await.assert(200);
        if response.status == status {
            return;
        }
        assert!(started_at.elapsed() < NODE_TIMEOUT, "{}", response.status);
        poll_interval().await;
    }
}

pub(crate) async fn readiness_fails_while_the_store_is_unreachable(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    node.send(&HttpRequest::get("/readyz")).await.assert(200);
    fixture.server().stop(Stop::Fast);
    wait_for_status(&node, 503).await;
    let create = HttpRequest::post("/service-tokens", r#"{"name":"ci"}"#).with_key(&token);
    let response = node.send(&create).await.assert(503);
    assert!(response.header("retry-after").is_some());
    fixture.server().start();
    wait_for_status(&node, 200).await;
    node.send(&create).await.assert(201);

    fixture.server().suspend();
    wait_for_status(&node, 503).await;
    fixture.server().resume();
    wait_for_status(&node, 200).await;
    node.stop().await;
}

/// Returns the log messages about the store and its feed, in order.
fn store_messages(log: &str) -> Vec<&str> {
    let lines = [
        "the store is unreachable",
        "the store is reachable again",
        "the store does not accept changes",
        "the store accepts changes again",
        "change feed lost",
        "change feed restored",
    ];
    let message = |line: &str| lines.into_iter().find(|it| line.contains(it));
    log.lines().filter_map(message).collect()
}

/// Returns the value of a gauge from the metrics.
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

/// Waits until a gauge has this value.
pub(crate) async fn wait_for_gauge(node: &Node, name: &str, value: &str) {
    let started_at = Instant::now();
    while gauge(node, name).await.as_deref() != Some(value) {
        assert!(
            started_at.elapsed() < NODE_TIMEOUT,
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
        let response = node.send(&HttpRequest::get(target)).await.assert(status);
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
        let body = response.json();
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
    assert_eq!(store_messages(&log), [""; 0], "{log}");
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
    wait_for_gauge(&node, "svctok_store_readable", "1").await;
    fixture.server().stop(Stop::Fast);
    node.wait_for_log("the store is unreachable").await;
    wait_for_gauge(&node, "svctok_store_readable", "0").await;
    fixture.server().start();
    node.wait_for_log("the store is reachable again").await;
    wait_for_gauge(&node, "svctok_store_readable", "1").await;
    let log = node.stop().await.stderr;
    let reads = store_messages(&log)
        .into_iter()
        .filter(|it| it.contains("reachable"));
    let reads: Vec<_> = reads.collect();
    assert_eq!(
        reads,
        ["the store is unreachable", "the store is reachable again"]
    );
}

pub(crate) async fn full_disk_fails_the_write_readiness_check(mut fixture: StoreFixture) {
    let disk = Disk::mount(&fixture.folder.join("disk"), "1m").unwrap();
    let path = disk.path().join("tokens.db");
    fixture.store = format!("sqlite:{}", path.display());
    let (mut node, administrator) = Node::bootstrap(&fixture, &[]).await;
    node.send(&HttpRequest::get("/readyz?write"))
        .await
        .assert(200);
    disk.fill();
    wait_for_status_at(&node, "/readyz?write", 503).await;
    let body = node
        .send(&HttpRequest::get("/readyz"))
        .await
        .assert(200)
        .json();
    assert_eq!(
        (&body["reads"], &body["writes"]),
        (&json!("ok"), &json!("failing"))
    );
    wait_for_gauge(&node, "svctok_store_writable", "0").await;
    let create = HttpRequest::post("/service-tokens", r#"{"name":"ci"}"#).with_key(&administrator);
    node.send(&create).await.assert(503);
    node.wait_for_log("does not accept changes").await;
    disk.empty();
    wait_for_status_at(&node, "/readyz?write", 200).await;
    node.send(&create).await.assert(201);
    let log = node.stop().await.stderr;
    assert_eq!(
        store_messages(&log),
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
    let output = node.wait().await;
    assert_eq!(output.code, Some(4), "{}", output.stderr);
    assert!(
        output.stderr.contains("cannot close the store"),
        "{}",
        output.stderr
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
/// `standby.signal` there, the server is a standby without a primary and therefore read-only.
async fn restart(fixture: &StoreFixture, command: &str) {
    let copy = format!("COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; {command}'");
    fixture.server().run(&copy).await;
    fixture.server().stop(Stop::Fast);
    fixture.server().start();
}

pub(crate) async fn read_only_database_fails_the_write_readiness_check(fixture: StoreFixture) {
    let (node, administrator) = Node::bootstrap(&fixture, &[]).await;
    node.send(&HttpRequest::get("/readyz?write"))
        .await
        .assert(200);
    restart(&fixture, "touch standby.signal").await;
    wait_for_status(&node, 200).await;
    wait_for_status_at(&node, "/readyz?write", 503).await;
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
    wait_for_status_at(&node, "/readyz?write", 200).await;
    node.send(&create).await.assert(201);
    let log = node.stop().await.stderr;
    let writes = store_messages(&log)
        .into_iter()
        .filter(|it| it.contains("changes"));
    let expected = [
        "the store does not accept changes",
        "the store accepts changes again",
    ];
    assert_eq!(writes.collect::<Vec<_>>(), expected);
}

pub(crate) async fn lost_feed_is_reported_and_leaves_the_node_ready(fixture: StoreFixture) {
    let (mut node, _) = Node::bootstrap(&fixture, &[]).await;
    wait_for_gauge(&node, "svctok_change_feed_connected", "1").await;
    fixture.server().suspend();
    node.wait_for_log("change feed lost").await;
    wait_for_gauge(&node, "svctok_change_feed_connected", "0").await;
    let body = node.send(&HttpRequest::get("/readyz")).await.json();
    assert_eq!(body["feed"], "lost");
    fixture.server().resume();
    node.wait_for_log("change feed restored").await;
    wait_for_gauge(&node, "svctok_change_feed_connected", "1").await;
    wait_for_status(&node, 200).await;
    let log = node.stop().await.stderr;
    let feed = store_messages(&log)
        .into_iter()
        .filter(|it| it.contains("feed"));
    assert_eq!(
        feed.collect::<Vec<_>>(),
        ["change feed lost", "change feed restored"]
    );
}
