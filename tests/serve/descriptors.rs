//! Connections and the limit of open files.

use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::node::{Node, Running};
use crate::place::Place;
use crate::process::Process;
use crate::wire::Call;

/// A node that is started after `ulimit` with these flags.
fn start(place: &Place, ulimit: &str, more: &[&str]) -> Running {
    let tool = Running::command();
    let mut limited = Command::new("sh");
    let script = format!(r#"ulimit {ulimit}; exec "$@""#);
    limited.args(["-c", &script, "sh"]);
    limited.arg(tool.get_program()).args(tool.get_args());
    for (name, _) in tool.get_envs() {
        limited.env_remove(name);
    }
    limited.args(["--store", &place.store, "--listen", "127.0.0.1:0"]);
    Running::spawn(limited.args(more), Stdio::piped())
}

pub(crate) async fn a_default_limit_shrinks_to_the_open_files(place: Place) {
    let mut node = start(&place, "-n 256", &[]).listening().await;
    let line = node
        .logged("connection limit lowered to fit open files")
        .await;
    assert!(line.contains("connections=128"), "{line}");
    node.send(&Call::get("/readyz")).await.assert(200);
    node.stop().await;
}

pub(crate) async fn an_explicit_limit_that_does_not_fit_is_a_usage_error(place: Place) {
    let more = ["--max-connections", "129"];
    let ended = start(&place, "-n 256", &more).ended().await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let said = "129 connections do not fit into 256 open files, of which 128 are kept";
    assert!(ended.stderr.contains(said), "{ended:?}");
    let more = ["--max-connections", "128"];
    let node = start(&place, "-n 256", &more).listening().await;
    node.stop().await;
}

pub(crate) async fn the_soft_limit_is_raised(place: Place) {
    const CONNECTIONS: usize = 100;

    let more = ["--max-connections", "128"];
    let limits = "-Hn 512; ulimit -Sn 64";
    let node = start(&place, limits, &more).listening().await;
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        streams.push(TcpStream::connect(node.address).await.unwrap());
        node.send(&Call::get("/healthz")).await.assert(200);
    }
    let ended = node.stop().await;
    let said = "cannot accept a connection";
    assert!(!ended.stderr.contains(said), "{}", ended.stderr);
}

/// Takes descriptors away from a running node.
fn limit(node: &Node, files: usize) {
    let mut prlimit = Command::new("prlimit");
    prlimit.arg(format!("--pid={}", node.process_id()));
    prlimit.arg(format!("--nofile={files}:{files}"));
    Process::spawn(&mut prlimit).finish().succeeded();
}

pub(crate) async fn too_many_open_files_are_too_many_for_a_while(place: Place) {
    const FILES: usize = 64;
    const OBSERVED: Duration = Duration::from_secs(1);

    let mut node = start(&place, "-n 512", &[]).listening().await;
    limit(&node, FILES);
    let mut streams = Vec::new();
    for _ in 0..2 * FILES {
        streams.push(TcpStream::connect(node.address).await.unwrap());
    }
    node.logged("cannot accept a connection").await;
    // They are still connected, and idle.
    node.send(&Call::get("/healthz")).await.assert(200);
    // No busy loop: it would take the whole of a core, and this takes next to nothing.
    #[cfg(target_os = "linux")]
    {
        let before = node.cpu_time();
        sleep(OBSERVED).await;
        let used = node.cpu_time().saturating_sub(before);
        assert!(used <= OBSERVED / 4, "{used:?}");
    }
    drop(streams);
    let health = Call::get("/healthz");
    let answered = timeout(Duration::from_secs(60), node.send(&health)).await;
    answered.unwrap().assert(200);
    let ended = node.stop().await;
    // One line per ten seconds.
    let lines = ended.stderr.matches("cannot accept a connection").count();
    assert!(lines <= 3, "{}", ended.stderr);
}
