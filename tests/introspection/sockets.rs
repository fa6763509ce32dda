//! Slow, endless and malformed responses over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use test_support::stall::{Stopwatch, retry_while_stalled};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tower_service_token::introspection::IntrospectionBuilder;

use crate::protected_service::{
    Accepted, MILLISECOND, Outcome, PROTOCOL, ProtectedService, SECOND, TRANSIENT,
};
use crate::raw_server::{ACTIVE, RawConnection, RawServer, ok_response};

const DEADLINE: Duration = Duration::from_millis(600);
/// Additional time that a busy machine may need.
const SCHEDULING: Duration = Duration::from_millis(300);

/// Sends one request and returns its outcome and the number of connections.
async fn send_request(raw_server: &RawServer) -> (Outcome, usize) {
    let outcome = ProtectedService::with_endpoint(&raw_server.url(), |builder| builder)
        .authenticate("token")
        .await;
    (outcome, raw_server.connections())
}

/// Asserts that `elapsed` is the deadline, within a tenth.
#[track_caller]
fn assert_deadline(elapsed: Duration) {
    let window = DEADLINE * 9 / 10..DEADLINE * 11 / 10 + SCHEDULING;
    assert!(window.contains(&elapsed), "{elapsed:?}");
}

/// Waits until no call is in flight. A call has the deadline of the request that started it.
async fn assert_no_calls_in_flight(service: &ProtectedService) {
    let finished = timeout(60 * SECOND, async {
        while service.store.status().in_flight > 0 {
            sleep(MILLISECOND).await;
        }
    });
    finished.await.expect("the call ends at its deadline");
}

/// Calls a slow server and asserts that the request fails at the deadline.
async fn assert_times_out<F>(script: impl Fn(RawConnection) -> F + Send + Sync + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let script = Arc::new(script);
    let (elapsed, requests) = retry_while_stalled(SCHEDULING, async || {
        let script = Arc::clone(&script);
        let raw_server = RawServer::start(move |connection| script(connection));
        let service = ProtectedService::with_endpoint(&raw_server.url(), |builder| {
            builder.with_timeout(DEADLINE)
        });
        let started = Instant::now();
        assert_eq!(service.authenticate("token").await, TRANSIENT);
        let elapsed = started.elapsed();
        assert_no_calls_in_flight(&service).await;
        (elapsed, raw_server.requests())
    })
    .await;
    assert_deadline(elapsed);
    assert_eq!(requests, 1, "a timeout is not retried");
}

#[tokio::test]
async fn accepts_valid_responses_in_any_framing() {
    let chunked =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
    for bytes in [
        ok_response(ACTIVE),
        format!("{chunked}\r\n1a\r\n{ACTIVE}\r\n0\r\n\r\n"),
        format!(
            "{chunked}\r\n9;ext=\"1\"\r\n{}\r\n11\r\n{}\r\n0\r\n\r\n",
            &ACTIVE[..9],
            &ACTIVE[9..]
        ),
        format!(
            "{chunked}Trailer: Expires\r\n\r\n1a\r\n{ACTIVE}\r\n0\r\nExpires: 0\r\nactive: false\r\n\r\n"
        ),
        format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{ACTIVE}"),
        format!(
            "HTTP/1.1 200\r\ncontent-type:application/json\r\nconnection: close\r\n\r\n{ACTIVE}"
        ),
        format!("HTTP/1.1 100 Continue\r\n\r\n{}", ok_response(ACTIVE)),
        format!(
            "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{}",
            ok_response(ACTIVE)
        ),
    ] {
        assert_eq!(ACTIVE.len(), 0x1a);
        let raw_server = RawServer::responding(bytes.as_str());
        assert_eq!(send_request(&raw_server).await, (Accepted, 1), "{bytes}");
    }
}

#[tokio::test]
async fn incomplete_response_is_503_after_one_call() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    for bytes in [
        "H".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-".to_owned(),
        format!("{head}\r"),
        format!("{head}Content-Length: 26\r\n\r\n"),
        format!("{head}Content-Length: 27\r\n\r\n{ACTIVE}"),
        format!("{head}Content-Length: 1000000\r\n\r\n{ACTIVE}"),
        format!("{head}Content-Length: 10\r\n\r\n{ACTIVE}"),
        format!("{head}Content-Length: -1\r\n\r\n{ACTIVE}"),
        format!("{head}Content-Length: 25\r\nContent-Length: 10\r\n\r\n{ACTIVE}"),
        format!("{head}Content-Length: 99999999999999999999\r\n\r\n{ACTIVE}"),
        format!("{chunked}1a\r\n{ACTIVE}\r\n"),
        format!("{chunked}1a\r\n{ACTIVE}\r\n0\r\n"),
        format!("{chunked}1b\r\n{ACTIVE}\r\n0\r\n\r\n"),
        format!("{chunked}zz\r\n{ACTIVE}\r\n0\r\n\r\n"),
        format!("{chunked}ffffffffffffffffff\r\n{ACTIVE}\r\n0\r\n\r\n"),
        "SSH-2.0-OpenSSH_9.9\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".to_owned(),
        "HTTP/9.9 200 OK\r\n\r\n".to_owned(),
        format!("HTTP/1.1 999999 OK\r\n\r\n{ACTIVE}"),
        format!("HTTP/1.1 200 OK\r\nContent-Type application/json\r\n\r\n{ACTIVE}"),
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n{ACTIVE}"
        ),
        format!("HTTP/1.1 204 No Content\r\nContent-Type: application/json\r\n\r\n{ACTIVE}"),
        "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
    ] {
        let raw_server = RawServer::responding(bytes.as_str());
        let (outcome, connections) = send_request(&raw_server).await;
        assert!(
            [TRANSIENT, PROTOCOL].contains(&outcome),
            "{outcome:?} {bytes:?}"
        );
        assert_eq!(connections, 1, "{bytes:?}");
    }
}

#[tokio::test]
async fn redirects_are_never_followed() {
    let target = RawServer::responding(ok_response(ACTIVE));
    for status in [301, 302, 303, 307, 308] {
        let raw_server = RawServer::responding(format!(
            "HTTP/1.1 {status} Moved\r\nLocation: {}\r\nContent-Type: application/json\r\n\
             Content-Length: 26\r\n\r\n{ACTIVE}",
            target.url()
        ));
        assert_eq!(send_request(&raw_server).await, (PROTOCOL, 1), "{status}");
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn times_out_on_a_silent_server() {
    assert_times_out(|mut connection| async move {
        connection.request().await;
        connection.wait_until_closed().await;
    })
    .await;
}

#[tokio::test]
async fn times_out_after_a_stalled_head() {
    assert_times_out(|mut connection| async move {
        connection.request().await;
        let text = ok_response(ACTIVE);
        connection.write(&text[..text.len() - ACTIVE.len()]).await;
        connection.wait_until_closed().await;
    })
    .await;
}

#[tokio::test]
async fn times_out_on_a_slow_body() {
    assert_times_out(|mut connection| async move {
        connection.request().await;
        let text = ok_response(ACTIVE);
        let (head, body) = text.split_at(text.len() - ACTIVE.len());
        connection.write(head).await;
        drip(&mut connection, body).await;
    })
    .await;
}

#[tokio::test]
async fn times_out_on_a_slow_head() {
    assert_times_out(|mut connection| async move {
        connection.request().await;
        drip(&mut connection, &ok_response(ACTIVE)).await;
    })
    .await;
}

/// Writes one byte every 100 ms.
async fn drip(connection: &mut RawConnection, text: &str) {
    for byte in text.bytes() {
        if !connection.write([byte]).await {
            break;
        }
        sleep(100 * MILLISECOND).await;
    }
}

#[tokio::test]
async fn times_out_on_endless_informational_responses() {
    assert_times_out(|mut connection| async move {
        connection.request().await;
        while connection.write("HTTP/1.1 103 Early Hints\r\n\r\n").await {
            sleep(MILLISECOND).await;
        }
    })
    .await;
}

/// Sends a request to a server that writes `head`, then `chunk` repeatedly up to `max_bytes`.
/// Returns the outcome, the number of bytes written after `head`, and the elapsed time.
async fn send_to_flooding_server(
    head: String,
    chunk: Vec<u8>,
    max_bytes: usize,
) -> (Outcome, usize, Duration) {
    let sent = Arc::new(AtomicUsize::new(0));
    let (done, ended) = tokio::sync::mpsc::channel::<()>(1);
    let raw_server = RawServer::start({
        let sent = Arc::clone(&sent);
        move |mut connection| {
            let (head, chunk, sent) = (head.clone(), chunk.clone(), Arc::clone(&sent));
            let done = done.clone();
            async move {
                connection.request().await;
                connection.write(head).await;
                while sent.load(Ordering::SeqCst) < max_bytes && connection.write(&chunk).await {
                    sent.fetch_add(chunk.len(), Ordering::SeqCst);
                }
                drop(done);
            }
        }
    });
    let watch = Stopwatch::start();
    let (outcome, connections) = send_request(&raw_server).await;
    let elapsed = watch.elapsed_without_stalls();
    assert_eq!(connections, 1);
    drop(raw_server);
    let mut ended = ended;
    let closed = timeout(60 * SECOND, ended.recv()).await;
    assert!(closed.is_ok(), "the client closes the connection");
    (outcome, sent.load(Ordering::SeqCst), elapsed)
}

#[tokio::test]
async fn stops_reading_an_oversized_body() {
    const MAX_BYTES: usize = 10_000_000;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let declared = format!("{head}Content-Length: {MAX_BYTES}\r\n\r\n{{\"active\":true,\"x\":\"");
    let undeclared = format!("{head}Connection: close\r\n\r\n{{\"active\":true,\"x\":\"");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"2710\r\n".to_vec(), vec![b' '; 10_000], b"\r\n".to_vec()].concat();
    for (head, chunk) in [
        (declared, vec![b'x'; 10_000]),
        (undeclared, vec![b'x'; 10_000]),
        (chunked, chunk),
    ] {
        let (outcome, sent, elapsed) = send_to_flooding_server(head, chunk, MAX_BYTES).await;
        assert_eq!(outcome, PROTOCOL);
        assert!(sent < MAX_BYTES / 2, "{sent} bytes were read");
        assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    }
}

#[tokio::test]
async fn stops_reading_an_endless_head() {
    const MAX_BYTES: usize = 10_000_000;
    let line = "HTTP/1.1 200 OK\r\n".to_owned();
    let many = b"x-flood: 0123456789\r\n".repeat(100);
    for (head, chunk) in [
        (line.clone(), many),
        (format!("{line}x-flood: "), vec![b'x'; 10_000]),
        ("HTTP/1.1 200 ".to_owned(), vec![b'x'; 10_000]),
        (
            format!("{line}Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n1;"),
            vec![b'x'; 10_000],
        ),
        (
            format!(
                "{line}Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n0\r\n"
            ),
            b"x-flood: 0123456789\r\n".repeat(100),
        ),
    ] {
        let description = head.clone();
        let (outcome, sent, elapsed) = send_to_flooding_server(head, chunk, MAX_BYTES).await;
        assert!(
            [TRANSIENT, PROTOCOL].contains(&outcome),
            "{outcome:?} {description:?}"
        );
        assert!(
            sent < MAX_BYTES / 2,
            "{sent} bytes were read {description:?}"
        );
        assert!(
            elapsed < Duration::from_secs(1),
            "{elapsed:?} {description:?}"
        );
    }
}

#[tokio::test]
async fn connect_timeout_precedes_the_deadline() {
    // Nothing accepts connections, so the kernel stops responding when the queue is full.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    loop {
        let connecting = timeout(200 * MILLISECOND, TcpStream::connect(address));
        match connecting.await {
            Ok(stream) => queued.push(stream.unwrap()),
            Err(_) => break,
        }
    }
    let url = format!("http://{address}/introspect");
    let time_to_failure = async |set: fn(IntrospectionBuilder) -> IntrospectionBuilder| {
        retry_while_stalled(SCHEDULING, async || {
            let service = ProtectedService::with_endpoint(&url, set);
            let started = Instant::now();
            assert_eq!(service.authenticate("token").await, TRANSIENT);
            started.elapsed()
        })
        .await
    };
    let elapsed = time_to_failure(|builder| builder.with_connect_timeout(300 * MILLISECOND)).await;
    // At most two attempts, much less than the total of 30 s.
    let window = 270 * MILLISECOND..660 * MILLISECOND + SCHEDULING;
    assert!(window.contains(&elapsed), "{elapsed:?}");
    // Here the deadline is shorter than the connect timeout.
    assert_deadline(time_to_failure(|builder| builder.with_timeout(DEADLINE)).await);
}
