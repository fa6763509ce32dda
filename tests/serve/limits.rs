//! What clients cannot do to a node.

use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::node::{Node, PATIENCE, Running};
use crate::place::Place;
use crate::wire::{self, Call};

pub(crate) async fn beyond_the_limit_a_connection_waits(place: Place) {
    let node = Node::start(&place, &["--max-connections", "1"]).await;
    let health = Call::get("/healthz").bytes();
    let mut first = TcpStream::connect(node.address).await.unwrap();
    wire::exchange(&mut first, &health)
        .await
        .unwrap()
        .assert(200);
    let mut second = TcpStream::connect(node.address).await.unwrap();
    second.write_all(&health).await.unwrap();
    let mut byte = [0];
    let waited = timeout(Duration::from_millis(300), second.read(&mut byte)).await;
    assert!(waited.is_err(), "it is answered beyond the limit");
    // The first one goes on meanwhile.
    wire::exchange(&mut first, &health)
        .await
        .unwrap()
        .assert(200);
    drop(first);
    wire::answer(&mut second).await.unwrap().assert(200);
    drop(second);
    node.stop().await;
}

pub(crate) async fn too_many_open_files_are_too_many_for_a_while(place: Place) {
    const FILES: usize = 64;

    let tool = Running::command();
    let mut limited = Command::new("sh");
    limited
        .arg("-c")
        .arg(format!(r#"ulimit -n {FILES}; exec "$@""#));
    limited
        .arg("sh")
        .arg(tool.get_program())
        .args(tool.get_args());
    for (name, _) in tool.get_envs() {
        limited.env_remove(name);
    }
    limited.args(["--store", &place.store, "--listen", "127.0.0.1:0"]);
    let mut node = Running::spawn(&mut limited, Stdio::piped())
        .listening()
        .await;
    let mut streams = Vec::new();
    for _ in 0..2 * FILES {
        streams.push(TcpStream::connect(node.address).await.unwrap());
    }
    node.logged("cannot accept a connection").await;
    drop(streams);
    node.send(&Call::get("/healthz")).await.assert(200);
    node.stop().await;
}

pub(crate) async fn nonsense_on_a_connection_ends_that_connection_alone(place: Place) {
    let node = Node::start(&place, &[]).await;
    for nonsense in [
        &b"\x16\x03\x01\x00\xff\xff"[..],
        b"GET\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(nonsense).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // Closed, by whatever means.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .unwrap();
        let rest = String::from_utf8_lossy(&rest);
        assert!(
            rest.is_empty() || rest.starts_with("HTTP/1.1 400"),
            "{rest}"
        );
        node.send(&Call::get("/healthz")).await.assert(200);
    }
    node.stop().await;
}
