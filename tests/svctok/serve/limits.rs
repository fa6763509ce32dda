//! Malformed input from clients.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http1::HttpRequest;
use crate::node::{NODE_TIMEOUT, Node};
use crate::store_fixture::StoreFixture;

pub(crate) async fn malformed_input_closes_only_its_connection(fixture: StoreFixture) {
    let node = Node::start(&fixture, &[]).await;
    for input in [
        &b"\x16\x03\x01\x00\xff\xff"[..],
        b"GET\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(input).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // The server closes or resets the connection.
        let _ = timeout(NODE_TIMEOUT, stream.read_to_end(&mut rest))
            .await
            .unwrap();
        let rest = String::from_utf8_lossy(&rest);
        assert!(
            rest.is_empty() || rest.starts_with("HTTP/1.1 400"),
            "{rest}"
        );
        node.send(&HttpRequest::get("/healthz")).await.assert(200);
    }
    node.stop().await;
}
