//! Shutdown of a node.

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

use crate::bootstrap::run_svctok;
use crate::http1::{self, HttpRequest};
use crate::lost_store::{create, database};
use crate::node::{NODE_TIMEOUT, Node, NodeProcess, poll_interval};
use crate::store_fixture::StoreFixture;
use crate::tls;

/// Sends a creation without the last byte of its body. Returns the connection and that byte.
async fn send_incomplete_creation(node: &Node, administrator: &str) -> (TcpStream, Vec<u8>) {
    let create = HttpRequest::post("/service-tokens", r#"{"name":"in flight"}"#);
    let create = create.with_key(administrator);
    let mut bytes = create.with("expect", "100-continue").bytes();
    let last = bytes.split_off(bytes.len() - 1);
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    // The service requests the body, so the request is in flight.
    let response = http1::exchange(&mut stream, &bytes).await.unwrap();
    response.assert(100);
    (stream, last)
}

pub(crate) async fn shutdown_completes_in_flight_requests(fixture: StoreFixture) {
    let flags = ["--metrics-listen", "127.0.0.1:0"];
    let (mut node, token) = Node::bootstrap(&fixture, &flags).await;
    let line = node.wait_for_log("metrics on http://").await;
    let metrics = line.rsplit("//").next().unwrap().trim().parse().unwrap();
    HttpRequest::get("/readyz").send(metrics).await.assert(200);
    let mut idle = TcpStream::connect(node.address).await.unwrap();
    let verify = HttpRequest::get("/verify").with_key(&token);
    let response = http1::exchange(&mut idle, &verify.bytes()).await.unwrap();
    response.assert(200);

    let (mut stream, last) = send_incomplete_creation(&node, &token).await;
    node.signal("TERM");
    node.wait_for_log("stopping").await;
    let started_at = Instant::now();
    while TcpStream::connect(node.address).await.is_ok() {
        assert!(
            started_at.elapsed() < NODE_TIMEOUT,
            "the node still accepts connections"
        );
        poll_interval().await;
    }
    HttpRequest::get("/readyz").send(metrics).await.assert(503);
    HttpRequest::get("/healthz").send(metrics).await.assert(200);
    // The idle connection is closed.
    assert!(http1::read_response(&mut idle).await.is_err());

    let response = http1::exchange(&mut stream, &last).await.unwrap();
    let created = response.assert(201).text("/token");
    let output = node.wait().await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(!output.stderr.contains("aborted"), "{}", output.stderr);

    let restarted = Node::start(&fixture, &[]).await;
    let verify = HttpRequest::get("/verify").with_key(&created);
    restarted.send(&verify).await.assert(200);
    restarted.stop().await;
}

pub(crate) async fn shutdown_completes_in_flight_http2_requests(fixture: StoreFixture) {
    let (mut node, token, authority) = tls::start_with_tls(&fixture).await;
    let stream = tls::connect(&authority, &node, &["h2"]).await;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut client, connection) = handshake.unwrap();
    let connection_task = tokio::spawn(connection);
    let (body, parts) = mpsc::unbounded::<Result<Frame<Bytes>, Infallible>>();
    let request = Request::post("https://localhost/service-tokens")
        .header("x-api-key", token)
        .header("content-type", "application/json")
        .body(StreamBody::new(parts).boxed_unsync())
        .unwrap();
    let in_flight = tokio::spawn(client.send_request(request));
    // The response to a later request shows that the service has received the first one.
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
    connection_task.await.unwrap().unwrap();
    assert_eq!(node.wait().await.code, Some(0));
}

pub(crate) async fn shutdown_aborts_unfinished_requests(fixture: StoreFixture) {
    let flags = ["--shutdown-timeout", "300ms"];
    let (node, token) = Node::bootstrap(&fixture, &flags).await;
    let (_stream, _) = send_incomplete_creation(&node, &token).await;
    let watch = Stopwatch::start();
    let output = node.stop().await;
    assert!(watch.elapsed_without_stalls() < Duration::from_secs(20));
    let warning = "timed out: unfinished requests are aborted";
    assert!(output.stderr.contains(warning), "{}", output.stderr);
}

pub(crate) async fn second_signal_aborts_requests(fixture: StoreFixture) {
    let (mut node, token) = Node::bootstrap(&fixture, &[]).await;
    let (_stream, _) = send_incomplete_creation(&node, &token).await;
    let watch = Stopwatch::start();
    node.signal("INT");
    node.wait_for_log("stopping").await;
    node.signal("TERM");
    let output = node.wait().await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let warning = "second signal: unfinished requests are aborted";
    assert!(output.stderr.contains(warning), "{}", output.stderr);
    assert!(watch.elapsed_without_stalls() < Duration::from_secs(20));
}

pub(crate) async fn shutdown_writes_last_used_times(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let get_self = HttpRequest::get("/service-tokens/self").with_key(&token);
    let before = node.send(&get_self).await.assert(200).json();
    assert!(before["last_used_at"].is_null());
    node.stop().await;
    let restarted = Node::start(&fixture, &[]).await;
    let after = restarted.send(&get_self).await.assert(200).json();
    assert!(after["last_used_at"].is_string(), "{after}");
    restarted.stop().await;
}

/// Returns the names of the database file and of the files that SQLite creates beside it.
fn database_files(fixture: &StoreFixture) -> Vec<String> {
    let entries = fs::read_dir(&fixture.folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_database = |name: &String| name.starts_with("tokens.db");
    let mut names: Vec<_> = names.filter(is_database).collect();
    names.sort_unstable();
    names
}

/// Asserts that the database is one file, and that a copy of it contains these tokens.
fn assert_one_complete_file(fixture: &StoreFixture, names: &[String]) {
    assert_eq!(
        database_files(fixture),
        ["tokens.db", "tokens.db.initialized"]
    );
    let copy = fixture.folder.join("copy.db");
    fs::copy(database(fixture), &copy).unwrap();
    let url = format!("sqlite:{}", copy.display());
    let listed = run_svctok(&["--store", &url, "list", "-o", "json"]);
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
        assert_one_complete_file(&fixture, &names);
        node = Node::start(&fixture, &[]).await;
    }
    node.stop().await;
}

pub(crate) async fn shutdown_with_a_stuck_request_leaves_one_complete_file(fixture: StoreFixture) {
    let flags = ["--shutdown-timeout", "300ms"];
    let (node, token) = Node::bootstrap(&fixture, &flags).await;
    create(&node, &token, "ci").await;
    let (_stream, _) = send_incomplete_creation(&node, &token).await;
    let output = node.stop().await;
    assert!(output.stderr.contains("aborted"), "{}", output.stderr);
    assert_one_complete_file(&fixture, &["ci".to_owned()]);
}

pub(crate) async fn last_of_two_nodes_leaves_one_complete_file(fixture: StoreFixture) {
    let (a, token) = Node::bootstrap(&fixture, &[]).await;
    let b = Node::start(&fixture, &[]).await;
    create(&a, &token, "by-a").await;
    create(&b, &token, "by-b").await;
    a.stop().await;
    create(&b, &token, "after").await;
    b.stop().await;
    assert_one_complete_file(&fixture, &["by-a", "by-b", "after"].map(str::to_owned));
}

pub(crate) async fn commands_leave_one_complete_file(fixture: StoreFixture) {
    let command = |args: &[&str]| {
        let stdout = run_svctok(&[&["--store", &fixture.store][..], args].concat());
        assert_eq!(database_files(&fixture), ["tokens.db"], "{args:?}");
        stdout
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

/// The database server accepts connections and never responds.
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
    let output = running.wait().await;
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(output.stdout, "");
    assert!(output.stderr.contains("not open yet"), "{output:?}");
    // 4 s for the store and 2 s for the log.
    assert!(watch.elapsed_without_stalls() < Duration::from_secs(8));
    drop(connection);
}

pub(crate) async fn failed_start_leaves_one_complete_file(fixture: StoreFixture) {
    let file = fixture.file("precious", Some("precious"));
    let flags = ["--bootstrap-token-file", &file];
    let output = NodeProcess::start(&fixture, &flags).wait().await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert_eq!(database_files(&fixture), ["tokens.db"]);
}

/// The limits are 1 s for requests, 3 s for last-used times, 4 s for the store and 2 s for the log.
pub(crate) async fn unresponsive_store_delays_shutdown_by_at_most_9_s(fixture: StoreFixture) {
    let flags = ["--shutdown-timeout", "1s"];
    let (mut node, token) = Node::bootstrap(&fixture, &flags).await;
    let (_stream, _) = send_incomplete_creation(&node, &token).await;
    fixture.server().suspend();
    let watch = Stopwatch::start();
    node.signal("TERM");
    node.wait_for_log("timed out: unfinished requests are aborted")
        .await;
    let output = node.wait().await;
    let elapsed = watch.elapsed_without_stalls();
    fixture.server().resume();
    assert!(
        elapsed < Duration::from_secs(12),
        "{elapsed:?}: {}",
        output.stderr
    );
    fixture.report(&format!(
        "shutdown takes {elapsed:.1?} while the store does not respond"
    ));
}
