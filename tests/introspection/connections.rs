//! Connections that are refused, closed at a bad moment, reused and dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tower_service_token::store::{BreakerState, IntrospectionBuilder};

use crate::node::{Accepted, Kind, Node, Refused, SECOND, TRANSIENT, Unavailable};
use crate::port::ReservedPort;
use crate::stall::{Stopwatch, undisturbed};
use crate::wire::{ACTIVE, Peer, Wire, answer};

/// A server that answers each of its connections' requests in turn by this.
fn answering(script: impl Fn(usize) -> String + Send + Sync + 'static) -> Wire {
    let script = Arc::new(script);
    let number = Arc::new(AtomicUsize::new(0));
    Wire::start(move |mut peer| {
        let (script, number) = (Arc::clone(&script), Arc::clone(&number));
        async move {
            while peer.request().await.is_some() {
                let text = script(number.fetch_add(1, Ordering::SeqCst));
                if !peer.write(text).await {
                    break;
                }
            }
        }
    })
}

fn without_memory(builder: IntrospectionBuilder) -> IntrospectionBuilder {
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
async fn a_connection_is_used_again() {
    let wire = answering(|_| answer(ACTIVE));
    let node = Node::to(&wire.url(), without_memory);
    for _ in 0..10 {
        assert_eq!(node.ask("token").await, Accepted);
    }
    assert_eq!((wire.connections(), wire.requests()), (1, 10));
}

#[tokio::test]
async fn each_status_makes_as_many_calls_as_it_is_worth() {
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
        let wire = answering(move |_| status(code));
        let node = Node::to(&wire.url(), |builder| builder);
        assert_eq!(node.ask("token").await, expected, "{code}");
        assert_eq!(wire.requests(), requests, "{code}");
    }
}

#[tokio::test]
async fn a_server_that_comes_back_for_the_retry_is_not_noticed() {
    let wire = answering(|number| match number {
        0 => status(503),
        _ => answer(ACTIVE),
    });
    let node = Node::to(&wire.url(), |builder| builder);
    assert_eq!(node.ask("token").await, Accepted);
    assert_eq!(wire.requests(), 2);
}

#[tokio::test]
async fn a_connection_closed_before_any_byte_is_tried_once_more() {
    for reads_first in [true, false] {
        let wire = Wire::start(move |mut peer: Peer| async move {
            if reads_first {
                peer.request().await;
            }
        });
        let node = Node::to(&wire.url(), |builder| builder);
        assert_eq!(node.ask("token").await, TRANSIENT);
        assert_eq!(wire.connections(), 2, "reads first: {reads_first}");
    }
    let wire = Wire::start(|mut peer: Peer| async move {
        if peer.request().await.is_some() && peer.number > 0 {
            peer.answer(ACTIVE).await;
        }
    });
    let node = Node::to(&wire.url(), |builder| builder);
    assert_eq!(node.ask("token").await, Accepted);
    assert_eq!((wire.connections(), wire.requests()), (2, 2));
}

#[tokio::test]
async fn an_answer_that_broke_off_is_not_tried_again() {
    for part in [1, 12, 60, 90] {
        let wire = Wire::saying(&answer(ACTIVE).as_bytes()[..part]);
        let node = Node::to(&wire.url(), |builder| builder);
        assert_eq!(node.ask("token").await, TRANSIENT, "{part}");
        assert_eq!(wire.connections(), 1, "{part} bytes");
    }
}

#[tokio::test]
async fn a_refused_connection_is_503_at_once_and_works_when_the_server_is_back() {
    let port = ReservedPort::new();
    let address = port.address();
    let node = Node::to(&format!("http://{address}/introspect"), |builder| builder);
    let watch = Stopwatch::start();
    assert_eq!(node.ask("token").await, TRANSIENT);
    let elapsed = watch.unstalled();
    assert!(elapsed < SECOND, "{elapsed:?}");
    let listener = TcpListener::bind(address).await.unwrap();
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        stream.write_all(answer(ACTIVE).as_bytes()).await.unwrap();
    });
    assert_eq!(node.ask("token").await, Accepted);
    server.await.unwrap();
}

/// Numbers without a pattern that matters; the same in each run.
fn microseconds(number: usize) -> Duration {
    let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    Duration::from_micros(mixed % 2_000)
}

/// A server that closes a connection after a request, at a moment when the next may be under way.
fn closing_at_random() -> Wire {
    let number = Arc::new(AtomicUsize::new(0));
    Wire::start(move |mut peer| {
        let number = Arc::clone(&number);
        async move {
            loop {
                let wait = microseconds(number.fetch_add(1, Ordering::SeqCst));
                let patience = if peer.is_fresh() {
                    Duration::from_secs(5)
                } else {
                    wait
                };
                match timeout(patience, peer.request()).await {
                    Ok(Some(_)) => peer.answer(ACTIVE).await,
                    // Idle for too long, or closed by the client.
                    _ => break,
                };
            }
        }
    })
}

#[tokio::test]
async fn idle_connections_closed_at_any_moment_fail_no_request() {
    let wire = closing_at_random();
    let node = Node::to(&wire.url(), without_memory);
    for number in 0..500 {
        assert_eq!(node.ask("token").await, Accepted, "request {number}");
        sleep(microseconds(number + 1_000_000)).await;
    }
    assert!(wire.connections() > 20, "{}", wire.connections());
    assert!(wire.connections() < 500, "some were used again");
}

#[tokio::test]
async fn idle_connections_closed_at_any_moment_fail_no_request_of_many_at_a_time() {
    let wire = closing_at_random();
    let node = Node::to(&wire.url(), without_memory);
    for round in 0..100 {
        let tokens: Vec<_> = (0..8).map(|number| format!("token-{number}")).collect();
        for found in join_all(tokens.iter().map(|token| node.find(token))).await {
            assert!(matches!(found, Ok(Some(_))), "round {round}: {found:?}");
        }
        sleep(microseconds(round + 2_000_000)).await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_dropped_after_four_seconds() {
    let idle = undisturbed(Duration::from_millis(300), async || {
        let (told, mut idle) = mpsc::unbounded_channel();
        let wire = Wire::start(move |mut peer| {
            let told = told.clone();
            async move {
                peer.request().await;
                peer.answer(ACTIVE).await;
                let begun = Instant::now();
                peer.closed().await;
                told.send(begun.elapsed()).unwrap();
            }
        });
        let node = Node::to(&wire.url(), |builder| builder);
        assert_eq!(node.ask("token").await, Accepted);
        let idle = timeout(60 * SECOND, idle.recv()).await;
        idle.expect("it is dropped").unwrap()
    })
    .await;
    // Node.js closes at five.
    let window = Duration::from_millis(3_600)..Duration::from_millis(4_900);
    assert!(window.contains(&idle), "{idle:?}");
}

/// Some token may make a server do that, so it is no reason to stop asking.
#[tokio::test]
async fn a_server_that_resets_every_connection_is_asked_twice_by_each_request() {
    let wire = Wire::start(|peer: Peer| async move {
        peer.stream.set_zero_linger().unwrap();
    });
    let node = Node::to(&wire.url(), |builder| builder);
    for number in 0..20 {
        assert_eq!(node.ask(&format!("token-{number}")).await, TRANSIENT);
    }
    assert_eq!(wire.connections(), 40);
    assert_eq!(node.breaker(), BreakerState::Closed);
}

#[tokio::test]
async fn a_server_that_is_gone_opens_the_breaker() {
    let port = ReservedPort::new();
    let url = format!("http://{}/introspect", port.address());
    let node = Node::to(&url, |builder| builder);
    for number in 0..5 {
        assert_eq!(node.ask(&format!("token-{number}")).await, TRANSIENT);
    }
    assert_eq!(node.ask("token").await, Unavailable(Kind::BreakerOpen));
}

#[tokio::test]
async fn many_tokens_at_a_time_are_told_apart() {
    let wire = Wire::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            let token = request.rsplit("token=").next().unwrap();
            let body = format!(
                "{{\"active\":{},\"sub\":\"{token}\"}}",
                token.starts_with("good")
            );
            peer.answer(&body).await;
        }
    });
    let node = Node::to(&wire.url(), |builder| builder);
    // As many as may be asked about at a time, so that none is turned away.
    let asked = (0..64).map(|number| {
        let node = node.clone();
        async move {
            if number % 2 == 0 {
                let token = format!("good-{number}");
                let principal = node.principal(&token).await;
                assert_eq!(principal.subject(), Some(token.as_str()));
            } else {
                assert_eq!(node.ask(&format!("junk-{number}")).await, Refused);
            }
        }
    });
    join_all(asked).await;
    assert!(wire.connections() <= 64, "{}", wire.connections());
}
