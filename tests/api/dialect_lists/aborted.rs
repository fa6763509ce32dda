//! List responses that a store failure aborts between two pages, as HTTP clients see them.

use std::net::SocketAddr;

use axum::Router;
use futures::StreamExt;
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tests::events::{Events, assert_fields};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower_service_token::testing::Fault;

use crate::dialect_lists::{LISTS, PAGE, Server};

#[tokio::test]
async fn aborted_list_ends_with_an_error_and_one_event() {
    let server = Server::with(3 * PAGE).await;
    let admin = server.managed.admin.record().id().to_string();
    let events = Events::default();
    let _guard = events.start();
    for target in LISTS {
        server.store.inject_after(2, Fault::Error);
        let mut chunks = server.list(target).await.into_body().into_data_stream();
        for _ in 0..2 {
            let chunk = chunks.next().await.unwrap().unwrap();
            assert!(!chunk.ends_with(b"]") && !chunk.ends_with(b"}}"));
        }
        assert_eq!(events.take(), []);
        let error = chunks.next().await.unwrap().unwrap_err();
        assert!(chunks.next().await.is_none());
        assert!(!error.to_string().contains("injected"));
        let event = events.only();
        assert_fields(
            &event,
            &[
                ("level", "ERROR"),
                ("message", "response aborted"),
                ("status", "503"),
                ("code", "auth_unavailable"),
                ("request_id", "req-7"),
                ("endpoint", &format!("GET {target}")),
                ("token_id", &admin),
            ],
        );
        assert!(event["error"].contains("a fault was injected"));
        server.store.clear_fault();
    }
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(app.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn http1_and_http2_clients_see_an_aborted_list() {
    let server = Server::with(3 * PAGE).await;
    let address = serve(server.app.clone()).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let is_http2 = version == Version::HTTP_2;
        let client = Client::builder(TokioExecutor::new())
            .http2_only(is_http2)
            .build_http::<Empty<&'static [u8]>>();
        for target in LISTS {
            for fails in [true, false] {
                if fails {
                    server.store.inject_after(2, Fault::Error);
                } else {
                    server.store.clear_fault();
                }
                let request = Request::get(format!("http://{address}{target}"))
                    .header("x-api-key", server.managed.admin.expose_secret())
                    .body(Empty::new())
                    .unwrap();
                // A server may drop the connection before it sends the first bytes.
                let is_aborted = match client.request(request).await {
                    Err(_) => true,
                    Ok(response) => {
                        assert_eq!(response.status(), 200);
                        assert_eq!(response.version(), version);
                        response.into_body().collect().await.is_err()
                    }
                };
                assert_eq!(is_aborted, fails, "{target} {version:?}");
            }
        }
    }
}

#[tokio::test]
async fn aborted_http1_list_has_no_last_chunk() {
    let server = Server::with(3 * PAGE).await;
    let address = serve(server.app.clone()).await;
    for target in LISTS {
        for (passes, is_complete) in [(2, false), (3, true)] {
            server.store.inject_after(passes, Fault::Error);
            let mut socket = TcpStream::connect(address).await.unwrap();
            let token = server.managed.admin.expose_secret();
            let request = format!(
                "GET {target} HTTP/1.1\r\nhost: a\r\nx-api-key: {token}\r\nconnection: close\r\n\r\n"
            );
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut response = Vec::new();
            socket.read_to_end(&mut response).await.unwrap();
            assert!(!is_complete || response.starts_with(b"HTTP/1.1 200 OK\r\n"));
            assert_eq!(
                response.ends_with(b"\r\n0\r\n\r\n"),
                is_complete,
                "{target}"
            );
        }
    }
}
