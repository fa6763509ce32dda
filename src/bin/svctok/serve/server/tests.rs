//! The server over real sockets, by a clock that runs when nothing else does.

mod capacity;
mod exchange;

use std::io;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::middleware::map_response;
use axum::routing::{get, post};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep, timeout};
use tower::layer::layer_fn;

use super::activity::MAX_REJECTED;
use super::connection::{FIRST_REQUEST_TIMEOUT, IDLE_TIMEOUT, MAX_AGE, MAX_STREAMS, RESERVED_AGE};
use super::exchange::{RESPONSE_TIMEOUT, STALL_TIMEOUT};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn app() -> Router {
    let large = Bytes::from(vec![b'x'; 256 * 1024]);
    let app = Router::new()
        .route("/", get(async || "here"))
        .route("/echo", post(async |body: Bytes| body))
        .route("/large", get(async || large))
        .route("/endless", get(async || vec![b'x'; 4 << 20]))
        .route("/huge", get(async || vec![b'x'; 64 << 20]))
        .route(
            "/panic",
            get(async || -> () { panic!("as the test wants") }),
        )
        .route("/slow", get(std::future::pending::<()>))
        .route("/healthz", get(async || "ok"));
    let app = app.layer(layer_fn(EnforceBudget::new));
    app.layer(map_response(
        async |mut response: axum::response::Response| {
            let seen = response.status().as_str().parse().unwrap();
            response.headers_mut().insert("x-seen", seen);
            response
        },
    ))
}

struct Running {
    address: SocketAddr,
    in_flight: Arc<InFlight>,
    stopping: watch::Sender<bool>,
}

async fn start(max_connections: usize) -> Running {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = address(&listener).unwrap();
    let in_flight = InFlight::new();
    tokio::spawn(Arc::clone(&in_flight).sweep());
    let (stopping, stopped) = watch::channel(false);
    let server = Server::new("test", listener, app(), Arc::clone(&in_flight));
    let server = server.with_max_connections(max_connections);
    tokio::spawn(server.run(stopped));
    Running {
        address,
        in_flight,
        stopping,
    }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A client that answers pings, and the end of its connection: over memory, because the clock
    /// runs while sockets are waited for.
    async fn http2(&self) -> (SendRequest<Body>, JoinHandle<()>) {
        let listener = Listener {
            name: "test",
            app: Arc::new(app()),
            tls: None,
            in_flight: Arc::clone(&self.in_flight),
            health_in_flight: InFlight::for_health(),
        };
        let connection = Connection {
            listener: Arc::new(listener),
            peer: self.address,
            activity: Arc::new(Activity::new(Some(self.address.ip()))),
            is_reserved: false,
            guard: None,
        };
        let (io, served) = duplex(64 * 1024);
        let stopping = self.stopping.subscribe();
        tokio::spawn(async move { connection.serve_http(served, stopping).await });
        let io = TokioIo::new(io);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1024);
        let (client, connection) = builder.handshake(io).await.unwrap();
        let ended = tokio::spawn(async { drop(connection.await) });
        (client, ended)
    }

    /// How long it takes until the service closes a connection on which this was sent.
    async fn time_until_close(&self, sent: &[u8]) -> Duration {
        let mut stream = self.connect().await;
        stream.write_all(sent).await.unwrap();
        let begun = Instant::now();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let is_whole = sent.ends_with(b"\r\n\r\n");
        assert_eq!(answer.ends_with(b"here"), is_whole);
        begun.elapsed()
    }
}

fn request(path: &str) -> Request<Body> {
    let request = Request::get(format!("http://svctok.test{path}"));
    request.body(Body::new(Empty::new())).unwrap()
}

/// A request whose body never comes.
fn unfinished() -> Request<Body> {
    let request = Request::post("http://svctok.test/echo");
    let body = Body::from_stream(futures_util::stream::pending::<io::Result<Bytes>>());
    request.body(body).unwrap()
}

async fn text(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

/// Sends a request by HTTP/1.1, and returns the head of the answer.
async fn send_get(stream: &mut TcpStream, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: svctok.test\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = vec![0; 12];
    stream.read_exact(&mut head).await?;
    Ok(String::from_utf8(head).unwrap())
}

#[tokio::test(start_paused = true)]
async fn closes_a_connection_without_a_request() {
    let server = start(16).await;
    for sent in [
        &b""[..],
        b"P",
        b"PRI * HTTP/2.0\r\n\r",
        b"GET / HTTP/1.1\r\nhost: a",
    ] {
        let after = server.time_until_close(sent).await;
        assert!(after <= FIRST_REQUEST_TIMEOUT + 3 * SECOND, "{after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn closes_a_connection_whose_client_does_not_read() {
    let server = start(16).await;
    let mut stream = server.connect().await;
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1000);
    // The server stops reading when it cannot write.
    let sending = async {
        loop {
            if let Err(error) = stream.write_all(&request).await {
                return error;
            }
        }
    };
    let error = timeout(Duration::from_secs(31), sending).await.unwrap();
    let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    assert!(kinds.contains(&error.kind()), "{error}");
}

#[tokio::test(start_paused = true)]
async fn keeps_an_idle_connection_until_the_timeout() {
    let server = start(16).await;
    let after = server
        .time_until_close(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    assert!(after > FIRST_REQUEST_TIMEOUT, "{after:?}");
    assert!(after <= IDLE_TIMEOUT + 3 * SECOND, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn next_head_must_be_complete_before_the_idle_timeout() {
    let server = start(16).await;
    for begun_with in [&b""[..], b"GET / HTTP/1.1\r\na: "] {
        let mut stream = server.connect().await;
        let request = b"GET / HTTP/1.1\r\nhost: svctok.test\r\n\r\n";
        let sent = [request, begun_with].concat();
        stream.write_all(&sent).await.unwrap();
        let begun = Instant::now();
        let sending = async {
            if begun_with.is_empty() {
                stream.write_all(b"GET / HTTP/1.1\r\na: ").await?;
            }
            loop {
                sleep(SECOND).await;
                stream.write_all(b"b").await?;
            }
        };
        let ended: io::Result<()> = timeout(2 * IDLE_TIMEOUT, sending).await.unwrap();
        assert!(ended.is_err());
        let after = begun.elapsed();
        assert!(after >= IDLE_TIMEOUT, "{after:?}");
        assert!(after <= IDLE_TIMEOUT + 5 * SECOND, "{after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn incomplete_head_does_not_delay_a_stop() {
    let server = start(16).await;
    let mut stream = server.connect().await;
    assert_eq!(send_get(&mut stream, "/").await.unwrap(), "HTTP/1.1 200");
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    sleep(SECOND).await;
    let begun = Instant::now();
    server.stopping.send(true).unwrap();
    let mut rest = Vec::new();
    // Closed, by whatever means.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(begun.elapsed() <= 3 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn request_that_arrives_too_slowly_times_out() {
    let server = start(16).await;
    let (mut client, _ended) = server.http2().await;
    let trickle = futures_util::stream::unfold((), |()| async {
        sleep(STALL_TIMEOUT / 2).await;
        Some((Ok::<_, io::Error>(Bytes::from_static(b"x")), ()))
    });
    let request = Request::post("http://svctok.test/echo");
    let request = request.body(Body::from_stream(trickle)).unwrap();
    let begun = Instant::now();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(begun.elapsed().as_secs(), 30);
    text(response).await;
    sleep(SECOND).await;
    assert_eq!(server.in_flight.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn closes_an_idle_http2_connection_that_answers_pings() {
    let server = start(16).await;
    let (mut client, ended) = server.http2().await;
    let response = client.send_request(request("/")).await.unwrap();
    assert_eq!(text(response).await, "here");
    let begun = Instant::now();
    ended.await.unwrap();
    let after = begun.elapsed();
    assert!(after >= IDLE_TIMEOUT, "{after:?}");
    assert!(after <= IDLE_TIMEOUT + 3 * SECOND, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn http2_connection_has_a_maximum_age() {
    let server = start(16).await;
    let (mut client, ended) = server.http2().await;
    let begun = Instant::now();
    while !ended.is_finished() {
        assert!(begun.elapsed() < MAX_AGE + 120 * SECOND);
        if let Ok(response) = client.send_request(request("/")).await {
            text(response).await;
        }
        sleep(60 * SECOND).await;
    }
    assert!(begun.elapsed() >= MAX_AGE);
}

#[tokio::test(start_paused = true)]
async fn stalled_request_does_not_affect_other_streams() {
    let server = start(16).await;
    let (mut client, _ended) = server.http2().await;
    let begun = Instant::now();
    let stalled = tokio::spawn(client.send_request(unfinished()));
    let response = client.send_request(request("/")).await.unwrap();
    assert_eq!(text(response).await, "here");
    let response = stalled.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    let after = begun.elapsed();
    assert!(after >= STALL_TIMEOUT, "{after:?}");
    assert!(after <= STALL_TIMEOUT + 2 * SECOND, "{after:?}");
    let echoed = Request::post("http://svctok.test/echo");
    let echoed = echoed.body(Body::new(Full::from("again"))).unwrap();
    let response = client.send_request(echoed).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await, "again");
}

#[tokio::test(start_paused = true)]
async fn stalled_response_does_not_affect_other_streams() {
    let server = start(16).await;
    let (mut client, _ended) = server.http2().await;
    let stalled = client.send_request(request("/large")).await.unwrap();
    sleep(STALL_TIMEOUT + 2 * SECOND).await;
    let mut body = stalled.into_body();
    let mut length = 0;
    let error = loop {
        match body.frame().await.expect("the body is not whole") {
            Ok(frame) => length += frame.into_data().unwrap().len(),
            Err(error) => break error,
        }
    };
    assert!(length <= 1024, "{length}");
    assert!(
        error.to_string().contains("error reading a body"),
        "{error}"
    );
    let response = client.send_request(request("/large")).await.unwrap();
    assert_eq!(text(response).await.len(), 256 * 1024);
    sleep(SECOND).await;
    assert_eq!(server.in_flight.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn aborts_a_response_that_is_read_too_slowly() {
    let server = start(16).await;
    let (mut client, _ended) = server.http2().await;
    let response = client.send_request(request("/endless")).await.unwrap();
    let mut body = response.into_body();
    let begun = Instant::now();
    while let Some(Ok(_)) = body.frame().await {
        sleep(STALL_TIMEOUT / 2).await;
    }
    let after = begun.elapsed();
    assert!(after >= RESPONSE_TIMEOUT, "{after:?}");
    assert!(after <= RESPONSE_TIMEOUT + STALL_TIMEOUT, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_stream_limit_wait() {
    let server = start(16).await;
    let (mut client, _ended) = server.http2().await;
    let stalled: Vec<_> = (0..=MAX_STREAMS)
        .map(|_| tokio::spawn(client.send_request(unfinished())))
        .collect();
    sleep(SECOND).await;
    assert_eq!(server.in_flight.exchanges(), MAX_STREAMS as usize);
    drop(stalled);
}

#[tokio::test(start_paused = true)]
async fn outer_layers_see_the_503() {
    let server = start(16).await;
    let (mut client, _ended) = server.http2().await;
    let response = client.send_request(request("/huge")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["x-seen"], "503");
    assert_eq!(response.headers()["retry-after"], "1");
}
