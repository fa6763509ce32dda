//! The connection limit and the limit of open files.

use std::process::{Command, Stdio};
use std::time::Duration;

use test_support::process::Process;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::http1::HttpRequest;
use crate::node::{Node, NodeProcess};
use crate::store_fixture::StoreFixture;

/// Starts a node after `ulimit` with these flags.
fn start(fixture: &StoreFixture, ulimit: &str, flags: &[&str]) -> NodeProcess {
    let svctok = NodeProcess::command();
    let mut limited = Command::new("sh");
    let script = format!(r#"ulimit {ulimit}; exec "$@""#);
    limited.args(["-c", &script, "sh"]);
    limited.arg(svctok.get_program()).args(svctok.get_args());
    for (name, _) in svctok.get_envs() {
        limited.env_remove(name);
    }
    limited.args(["--store", &fixture.store, "--listen", "127.0.0.1:0"]);
    NodeProcess::spawn(limited.args(flags), Stdio::piped())
}

pub(crate) async fn default_connection_limit_fits_the_open_file_limit(fixture: StoreFixture) {
    let mut node = start(&fixture, "-n 256", &[]).wait_until_listening().await;
    let line = node
        .wait_for_log("connection limit lowered to fit open files")
        .await;
    assert!(line.contains("connections=128"), "{line}");
    node.send(&HttpRequest::get("/readyz")).await.assert(200);
    node.stop().await;
}

pub(crate) async fn oversized_connection_limit_is_a_usage_error(fixture: StoreFixture) {
    let flags = ["--max-connections", "129"];
    let output = start(&fixture, "-n 256", &flags).wait().await;
    assert_eq!(output.code, Some(2), "{output:?}");
    let error = "129 connections do not fit into 256 open files, of which 128 are reserved";
    assert!(output.stderr.contains(error), "{output:?}");
    let flags = ["--max-connections", "128"];
    let node = start(&fixture, "-n 256", &flags)
        .wait_until_listening()
        .await;
    node.stop().await;
}

pub(crate) async fn soft_limit_of_open_files_is_raised(fixture: StoreFixture) {
    const CONNECTIONS: usize = 100;

    let flags = ["--max-connections", "128"];
    let limits = "-Hn 512; ulimit -Sn 64";
    let node = start(&fixture, limits, &flags).wait_until_listening().await;
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        streams.push(TcpStream::connect(node.address).await.unwrap());
        node.send(&HttpRequest::get("/healthz")).await.assert(200);
    }
    let output = node.stop().await;
    let error = "cannot accept a connection";
    assert!(!output.stderr.contains(error), "{}", output.stderr);
}

/// Lowers the limit of open files of a running node.
fn lower_limit(node: &Node, files: usize) {
    let mut prlimit = Command::new("prlimit");
    prlimit.arg(format!("--pid={}", node.process_id()));
    prlimit.arg(format!("--nofile={files}:{files}"));
    Process::spawn(&mut prlimit).finish().succeeded();
}

pub(crate) async fn recovers_from_too_many_open_files(fixture: StoreFixture) {
    const FILES: usize = 64;
    const OBSERVATION: Duration = Duration::from_secs(1);

    let mut node = start(&fixture, "-n 512", &[]).wait_until_listening().await;
    lower_limit(&node, FILES);
    let mut streams = Vec::new();
    for _ in 0..2 * FILES {
        streams.push(TcpStream::connect(node.address).await.unwrap());
    }
    node.wait_for_log("cannot accept a connection").await;
    // The other connections are still open and idle.
    node.send(&HttpRequest::get("/healthz")).await.assert(200);
    // A busy loop would use a whole core.
    #[cfg(target_os = "linux")]
    {
        let before = node.cpu_time();
        sleep(OBSERVATION).await;
        let used = node.cpu_time().saturating_sub(before);
        assert!(used <= OBSERVATION / 4, "{used:?}");
    }
    drop(streams);
    let health = HttpRequest::get("/healthz");
    let response = timeout(Duration::from_secs(60), node.send(&health)).await;
    response.unwrap().assert(200);
    let output = node.stop().await;
    // The log has at most one such line per 10 s.
    let lines = output.stderr.matches("cannot accept a connection").count();
    assert!(lines <= 3, "{}", output.stderr);
}
