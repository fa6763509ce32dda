//! Each request on a connection is authenticated separately.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::future::join_all;
use http::{Request, StatusCode};
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::authority::service::{TestService, Token, request_with_body};
use crate::http1;

type Part = Result<Frame<Bytes>, Infallible>;

pub(crate) async fn authenticates_each_request_on_a_kept_alive_connection(
    service: Arc<TestService>,
) {
    let caller = service.create_with_scopes(&["service-tokens:write"]).await;
    let create = |secret: &str| {
        let body = json!({ "name": "made" });
        request_with_body(secret, "POST /service-tokens", Some(body)).bytes()
    };
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let created = http1::exchange(&mut stream, &create(&caller.secret)).await;
    created.unwrap().assert(201);
    let request = format!("POST /service-tokens/{}/disable", caller.id);
    service.send_as_admin(&request, None).await.assert(200);
    let rejected = http1::exchange(&mut stream, &create(&caller.secret)).await;
    rejected.unwrap().assert(401);

    // The client sends both requests before it reads the first response.
    let caller = service.create_with_scopes(&["service-tokens:write"]).await;
    let revoke = request_with_body(&caller.secret, "DELETE /service-tokens/self", None);
    let both = [revoke.bytes(), create(&caller.secret)].concat();
    let before = service.list().await.len();
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.write_all(&both).await.unwrap();
    http1::read_response(&mut stream).await.unwrap().assert(204);
    http1::read_response(&mut stream).await.unwrap().assert(401);
    assert_eq!(service.list().await.len(), before);
}

/// Returns a creation whose body comes from the sender.
fn creation(
    service: &TestService,
    caller: &Token,
) -> (
    UnboundedSender<Part>,
    Request<UnsyncBoxBody<Bytes, Infallible>>,
) {
    let (sender, parts): (_, UnboundedReceiver<Part>) = unbounded();
    let request = Request::post(format!("http://{}/service-tokens", service.address))
        .header("x-api-key", &caller.secret)
        .header("content-type", "application/json")
        .body(UnsyncBoxBody::new(StreamBody::new(parts)))
        .unwrap();
    (sender, request)
}

pub(crate) async fn revocation_reaches_streams_of_an_open_http2_connection(
    service: Arc<TestService>,
) {
    const STREAMS: usize = 10;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let caller = service.create_with_scopes(&["service-tokens:write"]).await;
    let part = |text: &'static str| Ok(Frame::data(Bytes::from_static(text.as_bytes())));
    let mut senders = Vec::new();
    let mut responses = Vec::new();
    for _ in 0..STREAMS {
        let (sender, request) = creation(&service, &caller);
        sender.unbounded_send(part("{\"name\":")).unwrap();
        senders.push(sender);
        responses.push(tokio::spawn(client.request(request)));
    }
    // A complete request shows that the connection still works.
    let (sender, request) = creation(&service, &caller);
    sender.unbounded_send(part("{\"name\":\"whole\"}")).unwrap();
    drop(sender);
    let created = client.request(request).await.unwrap();
    assert_eq!(created.status(), StatusCode::CREATED);

    let request = format!("DELETE /service-tokens/{}", caller.id);
    service.send_as_admin(&request, None).await.assert(204);
    let before = service.list().await;
    for sender in senders {
        // A stream that is already rejected does not receive the body.
        let _ = sender.unbounded_send(part("\"made\"}"));
    }
    for response in join_all(responses).await {
        let response = response.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(service.list().await, before);
}
