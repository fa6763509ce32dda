//! The standard client with sockets on loopback, and custom services.

use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tower::{Service, service_fn};

use super::body::boxed;
use super::*;

/// A step of a server with one connection. After the last step it closes the connection.
#[derive(Clone, Copy)]
enum Step {
    /// Reads one request.
    Read,
    Write(&'static str),
    /// Resets the connection.
    Reset,
}

use Step::{Read, Reset, Write};

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
const BODY: &str = "token=x";
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Starts a server with one script per connection. It closes its socket after the last.
async fn server(scripts: &'static [&'static [Step]]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for script in scripts {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(play(stream, script));
        }
    });
    address
}

async fn play(mut stream: TcpStream, script: &[Step]) {
    for step in script {
        match step {
            Read => {
                let mut request = Vec::new();
                while !request.ends_with(BODY.as_bytes()) {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
            }
            Write(text) => stream.write_all(text.as_bytes()).await.unwrap(),
            Reset => stream.set_zero_linger().unwrap(),
        }
    }
}

pub(super) fn blocking_listener() -> std::net::TcpListener {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Reads one request, or the part that arrives.
pub(super) fn read_request(stream: &mut impl io::Read) {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(BODY.as_bytes()) && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        request.push(byte[0]);
    }
}

fn standard() -> Transport {
    Transport::standard(SECOND, None, PlainHttp::LoopbackOnly).unwrap()
}

pub(super) fn request(url: &str) -> Request<Full<Bytes>> {
    let request = Request::post(url);
    request.body(Full::from(BODY)).unwrap()
}

/// Sends one request, then lets the connection return to the pool.
async fn send(transport: &Transport, address: SocketAddr) -> Result<StatusCode, SendErrorKind> {
    let sent = transport.send(request(&format!("http://{address}/"))).await;
    let (head, body) = sent.map_err(|error| error.kind)?.into_parts();
    read_body(body, 1_000).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    Ok(head.status)
}

/// Sends two requests on the same connection and returns the result of the second.
async fn second(scripts: &'static [&'static [Step]]) -> Result<StatusCode, SendErrorKind> {
    let (transport, address) = (standard(), server(scripts).await);
    assert_eq!(send(&transport, address).await, Ok(StatusCode::OK));
    send(&transport, address).await
}

async fn first(scripts: &'static [&'static [Step]]) -> Result<StatusCode, SendErrorKind> {
    send(&standard(), server(scripts).await).await
}

#[tokio::test]
async fn connections_are_reused() {
    let again = second(&[&[Read, Write(OK), Read, Write(OK)]]).await;
    assert_eq!(again, Ok(StatusCode::OK));
}

#[tokio::test]
async fn connections_idle_for_four_seconds_are_not_reused() {
    const SCRIPTS: &[&[Step]] = &[&[Read, Write(OK), Read, Reset], &[Read, Write(OK)]];
    let (transport, address) = (standard(), server(SCRIPTS).await);
    assert_eq!(send(&transport, address).await, Ok(StatusCode::OK));
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(4_001)).await;
    tokio::time::resume();
    assert_eq!(send(&transport, address).await, Ok(StatusCode::OK));
}

#[tokio::test]
async fn reports_connections_closed_before_the_response() {
    let closed = Err(SendErrorKind::ClosedBeforeResponse);
    assert_eq!(first(&[&[Read]]).await, closed);
    assert_eq!(first(&[&[Read, Reset]]).await, closed);
    assert_eq!(second(&[&[Read, Write(OK), Read]]).await, closed);
    assert_eq!(second(&[&[Read, Write(OK), Read, Reset]]).await, closed);
}

/// Sends a request on a pooled connection that the server has closed. The client's task notices that
/// either before it writes the request, or after.
async fn race(notices_before: bool) -> Result<StatusCode, SendErrorKind> {
    let (listener, close) = (blocking_listener(), std::sync::mpsc::sync_channel(0));
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream);
        io::Write::write_all(&mut stream, OK.as_bytes()).unwrap();
        close.1.recv().unwrap();
    });
    let transport = standard();
    assert_eq!(send(&transport, address).await, Ok(StatusCode::OK));
    // There is no await until the connection is closed, so that no task of the client runs.
    close.0.send(()).unwrap();
    server.join().unwrap();
    if notices_before {
        // The runtime polls its sockets, then continues here before it runs the task that it woke.
        tokio::task::yield_now().await;
    }
    send(&transport, address).await
}

#[tokio::test]
async fn reports_pooled_connections_closed_during_the_request() {
    let closed = Err(SendErrorKind::ClosedBeforeResponse);
    assert_eq!(race(false).await, closed);
    assert_eq!(race(true).await, closed);
}

#[tokio::test]
async fn distinguishes_truncated_responses_from_no_response() {
    let other = Err(SendErrorKind::Other);
    assert_eq!(first(&[&[Read, Write("H")]]).await, other);
    assert_eq!(
        first(&[&[Read, Write("HTTP/1.1 200 OK\r\nConte")]]).await,
        other
    );
    assert_eq!(first(&[&[Read, Write("hello\r\n\r\n")]]).await, other);
    assert_eq!(
        second(&[&[Read, Write(OK), Read, Write("HTTP/1.1 2")]]).await,
        other
    );
}

#[tokio::test]
async fn returns_error_statuses_and_follows_no_redirects() {
    const MOVED: &str =
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: /\r\ncontent-length: 0\r\n\r\n";
    const DOWN: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    let moved = first(&[&[Read, Write(MOVED), Read, Write(OK)]]).await;
    assert_eq!(moved, Ok(StatusCode::TEMPORARY_REDIRECT));
    let down = first(&[&[Read, Write(DOWN), Read, Write(OK)]]).await;
    assert_eq!(down, Ok(StatusCode::SERVICE_UNAVAILABLE));
}

#[tokio::test]
async fn reports_refused_connections() {
    // Bound and not listening, so that nothing else is given the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    assert_eq!(
        send(&standard(), address).await,
        Err(SendErrorKind::Connect)
    );
    // A label of a name has at most 63 bytes, so that the name is invalid and not looked up.
    let unknown = format!("http://{}/", "a".repeat(64));
    let unknown = standard().send(request(&unknown)).await;
    assert_eq!(unknown.unwrap_err().kind, SendErrorKind::Connect);
}

#[tokio::test(start_paused = true)]
#[cfg(feature = "rustls")]
async fn connect_timeout_covers_the_tls_handshake() {
    // The server waits for a request that never arrives, and sends nothing.
    let address = server(&[&[Read]]).await;
    let started = tokio::time::Instant::now();
    let sent = standard()
        .send(request(&format!("https://{address}/")))
        .await;
    assert_eq!(sent.unwrap_err().kind, SendErrorKind::Connect);
    assert_eq!(started.elapsed().as_secs(), 1);
}

#[tokio::test]
async fn server_without_tls_is_a_connect_error() {
    let address = server(&[&[Write("HTTP/1.1 400 Bad Request\r\n\r\n")]]).await;
    let sent = standard()
        .send(request(&format!("https://{address}/")))
        .await;
    assert_eq!(sent.unwrap_err().kind, SendErrorKind::Connect);
}

#[test]
fn https_requires_tls_support() {
    let endpoint = Endpoint::parse("https://as.example", PlainHttp::Deny).unwrap();
    let with_tls = standard().check(&endpoint).is_ok();
    assert_eq!(with_tls, cfg!(feature = "rustls"));
    let own = Transport::from_service(service_fn(empty_response));
    assert_eq!(own.check(&endpoint), Ok(()));
    let plain = Endpoint::parse("http://localhost", PlainHttp::LoopbackOnly).unwrap();
    assert_eq!(standard().check(&plain), Ok(()));
}

async fn empty_response(_: Request<Full<Bytes>>) -> io::Result<Response<Empty<&'static [u8]>>> {
    Ok(Response::new(Empty::new()))
}

/// Returns the kind of an error of a custom service.
async fn kind_of(kind: io::ErrorKind) -> SendErrorKind {
    let failing = service_fn(move |_| async move {
        let inner: BoxError = io::Error::from(kind).into();
        Err::<Response<Full<Bytes>>, _>(ReadBodyError::Failed(inner))
    });
    let sent = Transport::from_service(failing)
        .send(request("https://as.example/"))
        .await;
    sent.unwrap_err().kind
}

#[tokio::test]
async fn classifies_custom_service_errors_by_their_sources() {
    use io::ErrorKind;
    for kind in [ErrorKind::ConnectionRefused, ErrorKind::NetworkUnreachable] {
        assert_eq!(kind_of(kind).await, SendErrorKind::Connect, "{kind}");
    }
    for kind in [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe] {
        assert_eq!(
            kind_of(kind).await,
            SendErrorKind::ClosedBeforeResponse,
            "{kind}"
        );
    }
    for kind in [ErrorKind::TimedOut, ErrorKind::InvalidData] {
        assert_eq!(kind_of(kind).await, SendErrorKind::Other, "{kind}");
    }
}

/// Contains the request, and shows its URL.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach {}", .0.uri())]
struct RequestLeakingError(Request<Full<Bytes>>, #[source] io::Error);

#[tokio::test]
async fn errors_redact_the_request_and_the_query() {
    let leaking = service_fn(|request| async move {
        let error = RequestLeakingError(request, io::ErrorKind::BrokenPipe.into());
        Err::<Response<Full<Bytes>>, _>(error)
    });
    let request = request("https://as.example/a?key=hush");
    let error = Transport::from_service(leaking)
        .send(request)
        .await
        .unwrap_err();
    let source = error.source.to_string();
    assert_eq!(source, "cannot reach https://as.example/a?***: broken pipe");
    let shown = format!("{error} {error:?} {error:#?}");
    assert!(!shown.contains("hush") && !shown.contains(BODY), "{shown}");
}

/// Must be polled twice before it is ready, and panics if it is called before.
#[derive(Clone)]
struct Slow {
    polls: usize,
    fails: bool,
}

impl Service<Request<Full<Bytes>>> for Slow {
    type Response = Response<Full<Bytes>>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<io::Result<()>> {
        self.polls += 1;
        cx.waker().wake_by_ref();
        match self.polls {
            1 => Poll::Pending,
            _ if self.fails => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        assert_eq!(self.polls, 2);
        std::future::ready(Ok(Response::new(Full::from("{}"))))
    }
}

#[tokio::test]
async fn waits_until_the_service_is_ready() {
    let slow = |fails| Transport::from_service(Slow { polls: 0, fails });
    for _ in 0..2 {
        let sent = slow(false).send(request("https://as.example/")).await;
        assert_eq!(sent.unwrap().status(), StatusCode::OK);
    }
    let sent = slow(true).send(request("https://as.example/")).await;
    assert_eq!(sent.unwrap_err().kind, SendErrorKind::Connect);
}

#[tokio::test]
async fn bodies_are_read_up_to_the_limit() {
    let body = || boxed(Full::<Bytes>::from("12345"));
    assert_eq!(read_body(body(), 5).await.unwrap(), "12345");
    let long = read_body(body(), 4).await;
    assert!(matches!(long, Err(ReadBodyError::TooLarge)));
    let empty = boxed(Empty::<&'static [u8]>::new());
    assert_eq!(read_body(empty, 0).await.unwrap(), "");
}

#[tokio::test]
async fn chunked_bodies_are_limited_and_report_truncation() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n";
    for (limit, is_too_large) in [(4, true), (5, false)] {
        let address = server(&[&[Read, Write(CHUNKED)]]).await;
        let sent = standard()
            .send(request(&format!("http://{address}/")))
            .await;
        let read = read_body(sent.unwrap().into_body(), limit).await;
        let error = read.expect_err("no end");
        assert_eq!(matches!(error, ReadBodyError::TooLarge), is_too_large);
    }
}
