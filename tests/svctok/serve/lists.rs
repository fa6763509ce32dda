//! Lists of the dialects that are longer than one page.

use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::http1::{self, HttpRequest};
use crate::node::Node;
use crate::store_fixture::StoreFixture;

/// Each list, with the JSON pointer to its array.
const LISTS: [(&str, &str); 2] = [
    ("/api/security/tokens", ""),
    ("/api/v1/service-account-tokens", "/data/tokens"),
];

async fn create(node: &Node, administrator: &str, count: usize) {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let create = HttpRequest::post("/service-tokens", r#"{"name":"ci"}"#).with_key(administrator);
    for _ in 0..count {
        let created = http1::exchange(&mut stream, &create.bytes()).await;
        created.unwrap().assert(201);
    }
}

/// Reads each list over HTTP/1.1 and HTTP/2, and checks its length.
async fn assert_lists(node: &Node, administrator: &str, length: usize) {
    for (version, is_http2) in [(Version::HTTP_11, false), (Version::HTTP_2, true)] {
        let mut client = Client::builder(TokioExecutor::new());
        let client = client.http2_only(is_http2).build_http::<Empty<Bytes>>();
        for (path, pointer) in LISTS {
            let request = Request::get(format!("http://{}{path}", node.address))
                .header("x-api-key", administrator)
                .body(Empty::new())
                .unwrap();
            let response = client.request(request).await.unwrap();
            assert_eq!(
                (response.status().as_u16(), response.version()),
                (200, version)
            );
            let body = response.into_body().collect().await;
            let body = body.unwrap_or_else(|error| panic!("{version:?} {path}: {error:?}"));
            let list: Value = serde_json::from_slice(&body.to_bytes()).unwrap();
            let tokens = list.pointer(pointer).and_then(Value::as_array).unwrap();
            assert_eq!(tokens.len(), length, "{version:?} {path}");
        }
    }
}

pub(crate) async fn lists_of_several_pages_are_complete(fixture: StoreFixture) {
    let (node, administrator) = Node::bootstrap(&fixture, &[]).await;
    // The administrator is in the lists.
    create(&node, &administrator, 500).await;
    assert_lists(&node, &administrator, 501).await;
    create(&node, &administrator, 501).await;
    assert_lists(&node, &administrator, 1_002).await;
    let log = node.stop().await.stderr;
    assert!(!log.contains("panicked"), "{log}");
}
