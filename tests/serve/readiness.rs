//! Whether a node says that it can be asked.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::disk::Disk;
use crate::node::{Node, PATIENCE, pause};
use crate::place::Place;
use crate::postgres::Stop;
use crate::stall::Stopwatch;
use crate::wire::Call;

/// What `/readyz` may take at most, on a busy machine.
const BOUND: Duration = Duration::from_secs(5);

async fn becomes(node: &Node, status: u16) {
    becomes_at(node, "/readyz", status).await;
}

pub(crate) async fn becomes_at(node: &Node, target: &str, status: u16) {
    let begun = Instant::now();
    loop {
        let asked = Stopwatch::start();
        let answer = node.send(&Call::get(target)).await;
        let took = asked.unstalled();
        assert!(took < BOUND, "{took:?}");
        node.send(&Call::get("/healthz")).await.assert(200);
        if answer.status == status {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", answer.status);
        pause().await;
    }
}

pub(crate) async fn a_node_is_ready_while_its_store_can_be_asked(place: Place) {
    let (node, token) = Node::administrator(&place, &[]).await;
    node.send(&Call::get("/readyz")).await.assert(200);
    place.server().stop(Stop::Fast);
    becomes(&node, 503).await;
    let create = Call::post("/service-tokens", r#"{"name":"ci"}"#).with_key(&token);
    let answer = node.send(&create).await.assert(503);
    assert!(answer.header("retry-after").is_some());
    place.server().start();
    becomes(&node, 200).await;
    node.send(&create).await.assert(201);

    place.server().freeze();
    becomes(&node, 503).await;
    place.server().thaw();
    becomes(&node, 200).await;
    node.stop().await;
}

/// What the log says of the store and its feed, in order.
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
    let metrics = node.send(&Call::get("/metrics")).await.assert(200).body;
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map(str::to_owned)
}

async fn gauge_becomes(node: &Node, name: &str, value: &str) {
    let begun = Instant::now();
    while gauge(node, name).await.as_deref() != Some(value) {
        assert!(begun.elapsed() < PATIENCE, "{name} does not become {value}");
        pause().await;
    }
}

pub(crate) async fn readiness_says_what_works(place: Place) {
    let node = Node::start(&place, &[]).await;
    for (target, status) in [
        ("/readyz", 200),
        ("/readyz?write", 200),
        ("/readyz?write=1&any", 200),
        ("/readyz?any=write", 200),
    ] {
        let answer = node.send(&Call::get(target)).await.assert(status);
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

pub(crate) async fn a_token_file_is_ready_for_reads_alone(mut place: Place) {
    let file = place.file("tokens.toml", Some("tokens = []"));
    place.store = format!("file:{file}");
    let node = Node::start(&place, &[]).await;
    let body = node.send(&Call::get("/readyz")).await.assert(200).json();
    let expected = json!({
        "status": "ready", "reads": "ok", "writes": "read_only", "feed": "not_used"
    });
    assert_eq!(body, expected);
    node.send(&Call::get("/readyz?write")).await.assert(503);
    node.stop().await;
}

pub(crate) async fn an_outage_is_logged_once_although_nobody_asks(place: Place) {
    let (mut node, _) = Node::administrator(&place, &[]).await;
    gauge_becomes(&node, "svctok_store_readable", "1").await;
    place.server().stop(Stop::Fast);
    node.logged("the store is unreachable").await;
    gauge_becomes(&node, "svctok_store_readable", "0").await;
    place.server().start();
    node.logged("the store is reachable again").await;
    gauge_becomes(&node, "svctok_store_readable", "1").await;
    let log = node.stop().await.stderr;
    let reads = said(&log).into_iter().filter(|it| it.contains("reachable"));
    let reads: Vec<_> = reads.collect();
    assert_eq!(
        reads,
        ["the store is unreachable", "the store is reachable again"]
    );
}

pub(crate) async fn a_full_disk_makes_writes_unready(mut place: Place) {
    let disk = Disk::mount(&place.folder.join("disk"), "1m").unwrap();
    let path = disk.path().join("tokens.db");
    place.store = format!("sqlite:{}", path.display());
    let (mut node, administrator) = Node::administrator(&place, &[]).await;
    node.send(&Call::get("/readyz?write")).await.assert(200);
    disk.fill();
    becomes_at(&node, "/readyz?write", 503).await;
    let body = node.send(&Call::get("/readyz")).await.assert(200).json();
    assert_eq!(
        (&body["reads"], &body["writes"]),
        (&json!("ok"), &json!("failing"))
    );
    gauge_becomes(&node, "svctok_store_writable", "0").await;
    let create = Call::post("/service-tokens", r#"{"name":"ci"}"#).with_key(&administrator);
    node.send(&create).await.assert(503);
    node.logged("does not accept changes").await;
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

pub(crate) async fn a_stop_on_a_full_disk_is_not_a_clean_one(mut place: Place) {
    let disk = Disk::mount(&place.folder.join("disk"), "600k").unwrap();
    let path = disk.path().join("tokens.db");
    place.store = format!("sqlite:{}", path.display());
    let (node, administrator) = Node::administrator(&place, &[]).await;
    let create = Call::post("/service-tokens", r#"{"name":"ci"}"#).with_key(&administrator);
    node.send(&create).await.assert(201);
    disk.fill();
    node.signal("TERM");
    let ended = node.ended().await;
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("cannot close the store"),
        "{}",
        ended.stderr
    );
    disk.empty();
    let node = Node::start(&place, &[]).await;
    let names = node
        .send(&Call::get("/service-tokens").with_key(&administrator))
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
async fn restart(place: &Place, command: &str) {
    let copy = format!("COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; {command}'");
    place.server().run(&copy).await;
    place.server().stop(Stop::Fast);
    place.server().start();
}

pub(crate) async fn a_read_only_server_makes_writes_unready(place: Place) {
    let (node, administrator) = Node::administrator(&place, &[]).await;
    node.send(&Call::get("/readyz?write")).await.assert(200);
    restart(&place, "touch standby.signal").await;
    becomes(&node, 200).await;
    becomes_at(&node, "/readyz?write", 503).await;
    let body = node.send(&Call::get("/readyz")).await.assert(200).json();
    let found = (&body["reads"], &body["writes"]);
    assert_eq!(found, (&json!("ok"), &json!("failing")));
    let create = Call::post("/service-tokens", r#"{"name":"ci"}"#).with_key(&administrator);
    node.send(&create).await.assert(503);
    restart(&place, "rm standby.signal").await;
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

pub(crate) async fn a_lost_feed_is_told_and_leaves_a_node_ready(place: Place) {
    let (mut node, _) = Node::administrator(&place, &[]).await;
    gauge_becomes(&node, "svctok_change_feed_connected", "1").await;
    place.server().freeze();
    node.logged("change feed lost").await;
    gauge_becomes(&node, "svctok_change_feed_connected", "0").await;
    let body = node.send(&Call::get("/readyz")).await.json();
    assert_eq!(body["feed"], "lost");
    place.server().thaw();
    node.logged("change feed restored").await;
    gauge_becomes(&node, "svctok_change_feed_connected", "1").await;
    becomes(&node, 200).await;
    let log = node.stop().await.stderr;
    let feed = said(&log).into_iter().filter(|it| it.contains("feed"));
    assert_eq!(
        feed.collect::<Vec<_>>(),
        ["change feed lost", "change feed restored"]
    );
}
