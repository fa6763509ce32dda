//! A TCP server in front of the API that fails as scripted.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{HeaderMap, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tower::ServiceExt;

/// The server's reaction to one request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Processes the request and responds.
    Pass,
    /// Processes the request and closes the connection before the response.
    DropResponse,
    /// Processes the request and closes the connection in the middle of the response.
    TruncateResponse,
    /// Responds with these bytes without processing the request.
    Respond(Vec<u8>),
}

/// Serves until it is dropped. Each connection accepts one request.
pub(crate) struct FaultyServer {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<RecordedRequest>>>,
    task: JoinHandle<()>,
}

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct RecordedRequest {
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
}

impl FaultyServer {
    /// Starts a server with one step per request. Requests after the last step are processed.
    pub(crate) async fn start(app: Router, steps: impl IntoIterator<Item = Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<RecordedRequest>>>::default();
        let log = Arc::clone(&received);
        let mut steps: VecDeque<_> = steps.into_iter().collect();
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(request) = read(&mut stream).await else {
                    continue;
                };
                log.lock().unwrap().push(RecordedRequest {
                    line: format!("{} {}", request.method(), request.uri()),
                    headers: request.headers().clone(),
                });
                let step = steps.pop_front().unwrap_or(Step::Pass);
                let bytes = execute(&app, request, step).await;
                // Fails if the client has closed the connection.
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
        });
        Self {
            address,
            received,
            task,
        }
    }

    /// Starts a server that responds to every request with these bytes.
    pub(crate) async fn responding(bytes: Vec<u8>) -> Self {
        Self::start(Router::new(), vec![Step::Respond(bytes); 10]).await
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.received.lock().unwrap().clone()
    }

    /// Returns the methods and paths of the received requests.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests()
            .into_iter()
            .map(|received| received.line)
            .collect()
    }
}

impl Drop for FaultyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns the bytes of a response.
pub(crate) fn response_bytes(status: u16, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut head = format!(
        "HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    format!("{head}connection: close\r\n\r\n{body}").into_bytes()
}

/// Returns the bytes of a response with problem JSON.
pub(crate) fn problem(status: u16, body: &str) -> Vec<u8> {
    response_bytes(
        status,
        &[("content-type", "application/problem+json")],
        body,
    )
}

async fn execute(app: &Router, request: Request<Body>, step: Step) -> Vec<u8> {
    if let Step::Respond(bytes) = step {
        return bytes;
    }
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let headers = parts.headers.iter();
    let headers: Vec<_> = headers
        .filter(|(name, _)| *name != "content-length")
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    let body = str::from_utf8(&body).unwrap();
    let mut bytes = response_bytes(parts.status.as_u16(), &headers, body);
    match step {
        Step::DropResponse => bytes.clear(),
        Step::TruncateResponse => bytes.truncate(bytes.len() - body.len() / 2 - 1),
        Step::Pass | Step::Respond(_) => {}
    }
    bytes
}

/// Reads a request, unless the connection is closed first.
async fn read(stream: &mut TcpStream) -> Option<Request<Body>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.trim_end().split("\r\n");
    let mut line = lines.next().unwrap().split(' ');
    let mut request = Request::builder()
        .method(line.next().unwrap())
        .uri(line.next().unwrap());
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let length = request.headers_ref().unwrap().get("content-length");
    let length = length.map_or(0, |it| it.to_str().unwrap().parse().unwrap());
    while bytes.len() < head + length {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    Some(request.body(Body::from(bytes.split_off(head))).unwrap())
}
