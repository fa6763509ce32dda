//! Connections that are refused, closed during a request, reused and dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use test_support::port::ReservedPort;
use test_support::stall::{Stopwatch, retry_while_stalled};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tower_service_token::introspection::{BreakerState, IntrospectionBuilder};

use crate::protected_service::{
    Accepted, Kind, ProtectedService, Rejected, SECOND, TRANSIENT, Unavailable,
};
use crate::raw_server::{ACTIVE, RawConnection, RawServer, ok_response};

/// Starts a server that responds to each request with the text for its number.
fn server_with_script(script: impl Fn(usize) -> String + Send + Sync + 'static) -> RawServer {
    let script = Arc::new(script);
    let number = Arc::new(AtomicUsize::new(0));
    RawServer::start(move |mut connection| {
        let (script, number) = (Arc::clone(&script), Arc::clone(&number));
        async move {
            while connection.request().await.is_some() {
                let text = script(number.fetch_add(1, Ordering::SeqCst));
                if !connection.write(text).await {
                    break;
                }
            }
        }
    })
}

fn without_cache(builder: IntrospectionBuilder) -> IntrospectionBuilder {
    builder
        .with_ttl(Duration::ZERO)
        .with_negative_ttl(Duration::ZERO)
}

fn status(status: u16) -> String {
    format!(
        "HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    )
}

#[tokio::test]
async fn reuses_connections() {
    let raw_server = server_with_script(|_| ok_response(ACTIVE));
    let service = ProtectedService::with_endpoint(&raw_server.url(), without_cache);
    for _ in 0..10 {
        assert_eq!(service.authenticate("token").await, Accepted);
    }
    assert_eq!((raw_server.connections(), raw_server.requests()), (1, 10));
}

#[tokio::test]
async fn retries_only_retryable_statuses() {
    for (code, expected, requests) in [
        (400, Unavailable(Kind::Protocol), 1),
        (401, Unavailable(Kind::Credentials), 1),
        (404, Unavailable(Kind::Protocol), 1),
        (429, TRANSIENT, 1),
        (500, TRANSIENT, 1),
        (502, TRANSIENT, 2),
        (503, TRANSIENT, 2),
        (504, TRANSIENT, 2),
    ] {
        let raw_server = server_with_script(move |_| status(code));
        let service = ProtectedService::with_endpoint(&raw_server.url(), |builder| builder);
        assert_eq!(service.authenticate("token").await, expected, "{code}");
        assert_eq!(raw_server.requests(), requests, "{code}");
    }
}

#[tokio::test]
async fn request_succeeds_if_its_retry_succeeds() {
    let raw_server = server_with_script(|number| match number {
        0 => status(503),
        _ => ok_response(ACTIVE),
    });
    let service = ProtectedService::with_endpoint(&raw_server.url(), |builder| builder);
    assert_eq!(service.authenticate("token").await, Accepted);
    assert_eq!(raw_server.requests(), 2);
}

#[tokio::test]
async fn retries_a_connection_closed_before_any_byte() {
    for reads_request in [true, false] {
        let raw_server = RawServer::start(move |mut connection: RawConnection| async move {
            if reads_request {
                connection.request().await;
            }
        });
        let service = ProtectedService::with_endpoint(&raw_server.url(), |builder| builder);
        assert_eq!(service.authenticate("token").await, TRANSIENT);
        assert_eq!(
            raw_server.connections(),
            2,
            "reads the request: {reads_request}"
        );
    }
    let raw_server = RawServer::start(|mut connection: RawConnection| async move {
        if connection.request().await.is_some() && connection.number > 0 {
            connection.respond(ACTIVE).await;
        }
    });
    let service = ProtectedService::with_endpoint(&raw_server.url(), |builder| builder);
    assert_eq!(service.authenticate("token").await, Accepted);
    assert_eq!((raw_server.connections(), raw_server.requests()), (2, 2));
}

#[tokio::test]
async fn does_not_retry_a_truncated_response() {
    for part in [1, 12, 60, 90] {
        let raw_server = RawServer::responding(&ok_response(ACTIVE).as_bytes()[..part]);
        let service = ProtectedService::with_endpoint(&raw_server.url(), |builder| builder);
        assert_eq!(service.authenticate("token").await, TRANSIENT, "{part}");
        assert_eq!(raw_server.connections(), 1, "{part} bytes");
    }
}

#[tokio::test]
async fn refused_connection_is_503_until_the_server_returns() {
    let port = ReservedPort::new();
    let address = port.address();
    let service =
        ProtectedService::with_endpoint(&format!("http://{address}/introspect"), |builder| builder);
    let watch = Stopwatch::start();
    assert_eq!(service.authenticate("token").await, TRANSIENT);
    let elapsed = watch.elapsed_without_stalls();
    assert!(elapsed < SECOND, "{elapsed:?}");
    let listener = TcpListener::bind(address).await.unwrap();
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        stream
            .write_all(ok_response(ACTIVE).as_bytes())
            .await
            .unwrap();
    });
    assert_eq!(service.authenticate("token").await, Accepted);
    server.await.unwrap();
}

/// Returns a pseudorandom delay that is the same in each run.
fn pseudorandom_delay(number: usize) -> Duration {
    let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    Duration::from_micros(mixed % 2_000)
}

/// Starts a server that closes idle connections at random, sometimes while a request is on its way.
fn closing_at_random() -> RawServer {
    let number = Arc::new(AtomicUsize::new(0));
    RawServer::start(move |mut connection| {
        let number = Arc::clone(&number);
        async move {
            loop {
                let delay = pseudorandom_delay(number.fetch_add(1, Ordering::SeqCst));
                let idle_timeout = if connection.is_fresh() {
                    Duration::from_secs(5)
                } else {
                    delay
                };
                match timeout(idle_timeout, connection.request()).await {
                    Ok(Some(_)) => connection.respond(ACTIVE).await,
                    // The connection was idle for too long, or the client closed it.
                    _ => break,
                };
            }
        }
    })
}

#[tokio::test]
async fn requests_succeed_although_the_server_closes_idle_connections() {
    let raw_server = closing_at_random();
    let service = ProtectedService::with_endpoint(&raw_server.url(), without_cache);
    for number in 0..500 {
        assert_eq!(
            service.authenticate("token").await,
            Accepted,
            "request {number}"
        );
        sleep(pseudorandom_delay(number + 1_000_000)).await;
    }
    assert!(
        raw_server.connections() > 20,
        "{}",
        raw_server.connections()
    );
    assert!(raw_server.connections() < 500, "no connection was reused");
}

#[tokio::test]
async fn concurrent_requests_succeed_although_the_server_closes_idle_connections() {
    let raw_server = closing_at_random();
    let service = ProtectedService::with_endpoint(&raw_server.url(), without_cache);
    for round in 0..100 {
        let tokens: Vec<_> = (0..8).map(|number| format!("token-{number}")).collect();
        for found in join_all(tokens.iter().map(|token| service.find(token))).await {
            assert!(matches!(found, Ok(Some(_))), "round {round}: {found:?}");
        }
        sleep(pseudorandom_delay(round + 2_000_000)).await;
    }
}

#[tokio::test]
async fn drops_idle_connections_after_four_seconds() {
    let idle = retry_while_stalled(Duration::from_millis(300), async || {
        let (sender, mut idle) = mpsc::unbounded_channel();
        let raw_server = RawServer::start(move |mut connection| {
            let sender = sender.clone();
            async move {
                connection.request().await;
                connection.respond(ACTIVE).await;
                let started = Instant::now();
                connection.wait_until_closed().await;
                sender.send(started.elapsed()).unwrap();
            }
        });
        let service = ProtectedService::with_endpoint(&raw_server.url(), |builder| builder);
        assert_eq!(service.authenticate("token").await, Accepted);
        let idle = timeout(60 * SECOND, idle.recv()).await;
        idle.expect("the connection is dropped").unwrap()
    })
    .await;
    // Node.js closes idle connections after 5 s.
    let window = Duration::from_millis(3_600)..Duration::from_millis(4_900);
    assert!(window.contains(&idle), "{idle:?}");
}

/// A token may cause a reset, so resets do not open the breaker.
#[tokio::test]
async fn connection_reset_is_retried_once_per_request() {
    let raw_server = RawServer::start(|connection: RawConnection| async move {
        connection.stream.set_zero_linger().unwrap();
    });
    let service = ProtectedService::with_endpoint(&raw_server.url(), |builder| builder);
    for number in 0..20 {
        assert_eq!(
            service.authenticate(&format!("token-{number}")).await,
            TRANSIENT
        );
    }
    assert_eq!(raw_server.connections(), 40);
    assert_eq!(service.breaker(), BreakerState::Closed);
}

#[tokio::test]
async fn unreachable_server_opens_the_breaker() {
    let port = ReservedPort::new();
    let url = format!("http://{}/introspect", port.address());
    let service = ProtectedService::with_endpoint(&url, |builder| builder);
    for number in 0..5 {
        assert_eq!(
            service.authenticate(&format!("token-{number}")).await,
            TRANSIENT
        );
    }
    assert_eq!(
        service.authenticate("token").await,
        Unavailable(Kind::BreakerOpen)
    );
}

#[tokio::test]
async fn concurrent_tokens_get_their_own_responses() {
    let raw_server = RawServer::start(|mut connection| async move {
        while let Some(request) = connection.request().await {
            let token = request.rsplit("token=").next().unwrap();
            let body = format!(
                "{{\"active\":{},\"sub\":\"{token}\"}}",
                token.starts_with("active")
            );
            connection.respond(&body).await;
        }
    });
    let service = ProtectedService::with_endpoint(&raw_server.url(), |builder| builder);
    // The default limit of concurrent calls, so that no request is rejected.
    let requests = (0..64).map(|number| {
        let service = service.clone();
        async move {
            if number % 2 == 0 {
                let token = format!("active-{number}");
                let principal = service.principal(&token).await;
                assert_eq!(principal.subject(), Some(token.as_str()));
            } else {
                assert_eq!(
                    service.authenticate(&format!("inactive-{number}")).await,
                    Rejected
                );
            }
        }
    });
    join_all(requests).await;
    assert!(
        raw_server.connections() <= 64,
        "{}",
        raw_server.connections()
    );
}
