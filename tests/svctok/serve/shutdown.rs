//! The end of a node.

use std::convert::Infallible;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use http::Request;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use test_support::stall::Stopwatch;
use tokio::net::{TcpListener, TcpStream};

use crate::bootstrap::says;
use crate::http1::{self, HttpRequest};
use crate::lost_store::{create, database};
use crate::node::{NODE_TIMEOUT, Node, NodeProcess, poll_interval};
use crate::store_fixture::StoreFixture;
use crate::tls;

/// A creation whose body is sent but for its last byte, and that byte.
async fn in_flight(node: &Node, administrator: &str) -> (TcpStream, Vec<u8>) {
    let create = HttpRequest::post("/service-tokens", r#"{"name":"in flight"}"#);
    let create = create.with_key(administrator);
    let mut bytes = create.with("expect", "100-continue").bytes();
    let last = bytes.split_off(bytes.len() - 1);
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    // It requests the body, so the request is in progress.
    let answer = http1::exchange(&mut stream, &bytes).await.unwrap();
    answer.assert(100);
    (stream, last)
}

pub(crate) async fn shutdown_completes_in_flight_requests(fixture: StoreFixture) {
    let more = ["--metrics-listen", "127.0.0.1:0"];
    let (mut node, token) = Node::bootstrap(&fixture, &more).await;
    let line = node.wait_for_log("metrics on http://").await;
    let metrics = line.rsplit("//").next().unwrap().trim().parse().unwrap();
    HttpRequest::get("/readyz").send(metrics).await.assert(200);
    let mut idle = TcpStream::connect(node.address).await.unwrap();
    let verify = HttpRequest::get("/verify").with_key(&token);
    let answer = http1::exchange(&mut idle, &verify.bytes()).await.unwrap();
    answer.assert(200);

    let (mut stream, last) = in_flight(&node, &token).await;
    node.signal("TERM");
    node.wait_for_log("stopping").await;
    let begun = Instant::now();
    while TcpStream::connect(node.address).await.is_ok() {
        assert!(
            begun.elapsed() < NODE_TIMEOUT,
            "connections are still taken"
        );
        poll_interval().await;
    }
    HttpRequest::get("/readyz").send(metrics).await.assert(503);
    HttpRequest::get("/healthz").send(metrics).await.assert(200);
    // A connection without a request is closed.
    assert!(http1::read_response(&mut idle).await.is_err());

    let answer = http1::exchange(&mut stream, &last).await.unwrap();
    let created = answer.assert(201).text("/token");
    let ended = node.wait().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("aborted"), "{}", ended.stderr);

    let again = Node::start(&fixture, &[]).await;
    let verify = HttpRequest::get("/verify").with_key(&created);
    again.send(&verify).await.assert(200);
    again.stop().await;
}

pub(crate) async fn shutdown_completes_in_flight_http2_requests(fixture: StoreFixture) {
    let (mut node, token, authority) = tls::with_tls(&fixture).await;
    let stream = tls::connect(&authority, &node, &["h2"]).await;
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut client, connection) = shaken.unwrap();
    let ending = tokio::spawn(connection);
    let (body, parts) = mpsc::unbounded::<Result<Frame<Bytes>, Infallible>>();
    let request = Request::post("https://localhost/service-tokens")
        .header("x-api-key", token)
        .header("content-type", "application/json")
        .body(StreamBody::new(parts).boxed_unsync())
        .unwrap();
    let in_flight = tokio::spawn(client.send_request(request));
    // Sent after it on the same connection.
    let health = Request::get("https://localhost/healthz");
    let health = health.body(Empty::new().boxed_unsync()).unwrap();
    assert_eq!(client.send_request(health).await.unwrap().status(), 200);

    node.signal("TERM");
    node.wait_for_log("stopping").await;
    let rest = Frame::data(Bytes::from_static(br#"{"name":"in flight"}"#));
    body.unbounded_send(Ok(rest)).unwrap();
    drop(body);
    assert_eq!(in_flight.await.unwrap().unwrap().status(), 201);
    drop(client);
    ending.await.unwrap().unwrap();
    assert_eq!(node.wait().await.code, Some(0));
}

pub(crate) async fn shutdown_aborts_unfinished_requests(fixture: StoreFixture) {
    let more = ["--shutdown-timeout", "300ms"];
    let (node, token) = Node::bootstrap(&fixture, &more).await;
    let (_stream, _) = in_flight(&node, &token).await;
    let watch = Stopwatch::start();
    let ended = node.stop().await;
    assert!(watch.elapsed_without_stalls() < Duration::from_secs(20));
    let warning = "timed out: unfinished requests are aborted";
    assert!(ended.stderr.contains(warning), "{}", ended.stderr);
}

pub(crate) async fn second_signal_aborts_requests(fixture: StoreFixture) {
    let (mut node, token) = Node::bootstrap(&fixture, &[]).await;
    let (_stream, _) = in_flight(&node, &token).await;
    let watch = Stopwatch::start();
    node.signal("INT");
    node.wait_for_log("stopping").await;
    node.signal("TERM");
    let ended = node.wait().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let warning = "second signal: unfinished requests are aborted";
    assert!(ended.stderr.contains(warning), "{}", ended.stderr);
    assert!(watch.elapsed_without_stalls() < Duration::from_secs(20));
}

pub(crate) async fn shutdown_writes_last_used_times(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let own = HttpRequest::get("/service-tokens/self").with_key(&token);
    let before = node.send(&own).await.assert(200).json();
    assert!(before["last_used_at"].is_null());
    node.stop().await;
    let again = Node::start(&fixture, &[]).await;
    let after = again.send(&own).await.assert(200).json();
    assert!(after["last_used_at"].is_string(), "{after}");
    again.stop().await;
}

/// The names in the test's folder, of the database and of what SQLite puts beside it.
fn database_files(fixture: &StoreFixture) -> Vec<String> {
    let entries = fs::read_dir(&fixture.folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_of_database = |name: &String| name.starts_with("tokens.db");
    let mut names: Vec<_> = names.filter(is_of_database).collect();
    names.sort_unstable();
    names
}

/// There is one file, and a copy of it alone has these tokens.
fn is_complete(fixture: &StoreFixture, names: &[String]) {
    assert_eq!(
        database_files(fixture),
        ["tokens.db", "tokens.db.initialized"]
    );
    let copy = fixture.folder.join("copy.db");
    fs::copy(database(fixture), &copy).unwrap();
    let url = format!("sqlite:{}", copy.display());
    let listed = says(&["--store", &url, "list", "-o", "json"]);
    for name in names {
        assert!(listed.contains(&format!("\"{name}\"")), "{name}: {listed}");
    }
}

pub(crate) async fn shutdown_leaves_one_complete_file(fixture: StoreFixture) {
    let (mut node, token) = Node::bootstrap(&fixture, &[]).await;
    let mut names = vec!["administrator".to_owned()];
    for round in 0..8 {
        for number in 0..5 {
            names.push(format!("{round}-{number}"));
            create(&node, &token, &names[names.len() - 1]).await;
        }
        node.signal(if round % 2 == 0 { "TERM" } else { "INT" });
        assert_eq!(node.wait().await.code, Some(0));
        is_complete(&fixture, &names);
        node = Node::start(&fixture, &[]).await;
    }
    node.stop().await;
}

pub(crate) async fn shutdown_with_a_stuck_request_leaves_one_complete_file(fixture: StoreFixture) {
    let more = ["--shutdown-timeout", "300ms"];
    let (node, token) = Node::bootstrap(&fixture, &more).await;
    create(&node, &token, "ci").await;
    let (_stream, _) = in_flight(&node, &token).await;
    let ended = node.stop().await;
    assert!(ended.stderr.contains("aborted"), "{}", ended.stderr);
    is_complete(&fixture, &["ci".to_owned()]);
}

pub(crate) async fn last_of_two_nodes_leaves_one_complete_file(fixture: StoreFixture) {
    let (a, token) = Node::bootstrap(&fixture, &[]).await;
    let b = Node::start(&fixture, &[]).await;
    create(&a, &token, "by-a").await;
    create(&b, &token, "by-b").await;
    a.stop().await;
    create(&b, &token, "after").await;
    b.stop().await;
    is_complete(&fixture, &["by-a", "by-b", "after"].map(str::to_owned));
}

pub(crate) async fn commands_leave_one_complete_file(fixture: StoreFixture) {
    let command = |args: &[&str]| {
        let said = says(&[&["--store", &fixture.store][..], args].concat());
        assert_eq!(database_files(&fixture), ["tokens.db"], "{args:?}");
        said
    };
    let token = command(&["create", "--name", "ci", "-o", "token"]);
    let file = fixture.file("token", Some(&token));
    let id = &token.trim()["svctok-".len()..][..10];
    for args in [
        &["list"][..],
        &["get", "--id", id],
        &["update", "--id", id, "--description", "x"],
        &["disable", "--id", id],
        &["enable", "--id", id],
        &["rotate", "--id", id, "--grace", "1h"],
        &["verify", "--service-token-file", &file],
        &["delete", "--state", "active", "--dry-run"],
        &["delete", "--state", "active", "--expect", "1"],
        &["delete", "--id", id],
    ] {
        command(args);
    }
}

pub(crate) async fn sighup_is_ignored(fixture: StoreFixture) {
    let (mut node, token) = Node::bootstrap(&fixture, &[]).await;
    for _ in 0..2 {
        node.signal("HUP");
        node.wait_for_log("SIGHUP is ignored").await;
        create(&node, &token, "ci").await;
    }
    node.stop().await;
}

/// A database server that accepts connections and never answers.
pub(crate) async fn signal_before_the_store_is_open_mints_nothing(_: StoreFixture) {
    let database = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://{}/tokens", database.local_addr().unwrap());
    let mut command = NodeProcess::command();
    command.args(["--store", &url, "--listen", "127.0.0.1:0"]);
    let mut running = NodeProcess::spawn(&mut command, Stdio::piped());
    let connection = database.accept().await.unwrap();
    running.signal("HUP");
    running.wait_for_log("SIGHUP is ignored").await;
    running.signal("TERM");
    let watch = Stopwatch::start();
    let ended = running.wait().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.contains("not open yet"), "{ended:?}");
    // 4 s for the store and 2 s for the log.
    assert!(watch.elapsed_without_stalls() < Duration::from_secs(8));
    drop(connection);
}

pub(crate) async fn failed_start_leaves_one_complete_file(fixture: StoreFixture) {
    let file = fixture.file("precious", Some("precious"));
    let more = ["--bootstrap-token-file", &file];
    let ended = NodeProcess::start(&fixture, &more).wait().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(database_files(&fixture), ["tokens.db"]);
}

/// 1 s for requests, 3 s for the last uses, 4 s for the store and 2 s for the log.
pub(crate) async fn hanging_store_delays_shutdown_by_at_most_9_s(fixture: StoreFixture) {
    let more = ["--shutdown-timeout", "1s"];
    let (mut node, token) = Node::bootstrap(&fixture, &more).await;
    let (_stream, _) = in_flight(&node, &token).await;
    fixture.server().suspend();
    let watch = Stopwatch::start();
    node.signal("TERM");
    node.wait_for_log("timed out: unfinished requests are aborted")
        .await;
    let ended = node.wait().await;
    let took = watch.elapsed_without_stalls();
    fixture.server().resume();
    assert!(took < Duration::from_secs(12), "{took:?}: {}", ended.stderr);
    fixture.report(&format!("a stop takes {took:.1?} while the store hangs"));
}
