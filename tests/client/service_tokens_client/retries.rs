//! Retries, delays and timeouts of calls, in paused time.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::Instant;
use tower::service_fn;
use tower_service_token::client::{ClientError, ClientErrorKind, ServiceTokensClient};
use tower_service_token::registry::TokenFilter;

use super::{SECOND, TOKEN, TOKEN_JSON, id};

/// A response or a connection error.
#[derive(Clone, Debug)]
enum Step {
    Status(u16, Option<&'static str>),
    Fail(io::ErrorKind),
}

use Step::{Fail, Status};

/// Makes a call. Returns its result, its duration and the number of attempts. Attempts after the
/// last step succeed.
async fn get(steps: &[Step]) -> (Result<(), ClientError>, Duration, usize) {
    call(steps, 30 * SECOND, async |client| {
        client.get(id()).await.map(drop)
    })
    .await
}

async fn call(
    steps: &[Step],
    timeout: Duration,
    call: impl AsyncFnOnce(ServiceTokensClient) -> Result<(), ClientError>,
) -> (Result<(), ClientError>, Duration, usize) {
    let steps = Arc::new(Mutex::new((VecDeque::from(steps.to_vec()), 0)));
    let script = Arc::clone(&steps);
    let service = service_fn(move |request: Request<Full<Bytes>>| {
        assert!(request.headers()["authorization"].is_sensitive());
        let mut script = script.lock().unwrap();
        script.1 += 1;
        let step = script.0.pop_front().unwrap_or(Status(200, None));
        async move {
            let (status, retry_after) = match step {
                Status(status, retry_after) => (status, retry_after),
                Fail(kind) => return Err(io::Error::from(kind)),
            };
            let mut response = Response::builder()
                .status(status)
                .header("content-type", "application/json");
            if let Some(text) = retry_after {
                let date = "Sun, 06 Nov 1994 08:49:37 GMT";
                response = response.header("retry-after", text).header("date", date);
            }
            Ok(response.body(Full::new(Bytes::from(TOKEN_JSON))).unwrap())
        }
    });
    let client = ServiceTokensClient::builder("https://tokens.example")
        .with_token(TOKEN)
        .with_transport(service)
        .with_timeout(timeout)
        .build()
        .unwrap();
    let started = Instant::now();
    let result = call(client).await;
    let attempts = steps.lock().unwrap().1;
    (result, started.elapsed(), attempts)
}

#[tokio::test(start_paused = true)]
async fn delays_grow_until_the_last_retry() {
    let (result, elapsed, attempts) =
        get(&[Status(503, None), Fail(io::ErrorKind::ConnectionReset)]).await;
    assert!(result.is_ok());
    assert_eq!(attempts, 3);
    let bounds = Duration::from_millis(300)..Duration::from_millis(603);
    assert!(bounds.contains(&elapsed), "{elapsed:?}");
    let (result, _, attempts) = get(&vec![Status(503, None); 9]).await;
    assert_eq!(result.unwrap_err().kind(), ClientErrorKind::Server);
    assert_eq!(attempts, 3);
}

#[tokio::test(start_paused = true)]
async fn waits_for_retry_after() {
    for status in [429, 502, 503, 504] {
        for text in ["7", "Sun, 06 Nov 1994 08:49:44 GMT"] {
            let (result, elapsed, attempts) = get(&[Status(status, Some(text))]).await;
            assert!(result.is_ok(), "{status}");
            assert_eq!((elapsed.as_secs(), attempts), (7, 2), "{status} {text}");
        }
    }
    // `Retry-After` can lengthen the delay, but not shorten it.
    let (_, elapsed, _) = get(&[Status(503, Some("0"))]).await;
    assert!(elapsed >= Duration::from_millis(100), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn fails_immediately_if_retry_after_exceeds_the_timeout() {
    for (status, kind) in [
        (429, ClientErrorKind::RateLimited),
        (503, ClientErrorKind::Server),
    ] {
        for text in [
            "31",
            "99999999999999999999",
            "Sat, 06 Nov 2094 08:49:44 GMT",
        ] {
            let (result, elapsed, attempts) = get(&[Status(status, Some(text))]).await;
            assert_eq!(result.unwrap_err().kind(), kind);
            assert_eq!((elapsed, attempts), (Duration::ZERO, 1), "{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn does_not_retry_other_errors() {
    for status in [400, 401, 403, 404, 409, 412, 422, 500, 501, 302, 204] {
        let (result, _, attempts) = get(&[Status(status, None)]).await;
        assert!(result.is_err());
        assert_eq!(attempts, 1, "{status}");
    }
    let (result, _, attempts) = get(&[Fail(io::ErrorKind::InvalidData)]).await;
    assert!(result.is_ok());
    assert_eq!(attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn retries_non_idempotent_calls_only_if_the_connection_failed() {
    // A retry would present a secret that the first attempt may have invalidated.
    let rotate =
        async |client: ServiceTokensClient| client.rotate_own(Duration::ZERO).await.map(drop);
    for (step, expected) in [
        (Fail(io::ErrorKind::ConnectionRefused), 2),
        (Fail(io::ErrorKind::ConnectionReset), 1),
        (Fail(io::ErrorKind::TimedOut), 1),
        (Status(503, None), 1),
        (Status(429, Some("1")), 1),
    ] {
        // The last response is not a rotation response, so the call fails in every case.
        let steps = [step.clone(), Status(200, None)];
        let (result, _, attempts) = call(&steps, 30 * SECOND, rotate).await;
        assert!(result.is_err());
        assert_eq!(attempts, expected, "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_time_out() {
    for timeout in [SECOND, 30 * SECOND, Duration::ZERO] {
        let silent = service_fn(|_: Request<Full<Bytes>>| {
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
        });
        let client = ServiceTokensClient::builder("https://tokens.example")
            .with_token(TOKEN)
            .with_transport(silent)
            .with_timeout(timeout)
            .build()
            .unwrap();
        let started = Instant::now();
        let error = client.rotate_own(SECOND).await.unwrap_err();
        assert_eq!(error.kind(), ClientErrorKind::TimedOut);
        assert!(started.elapsed() < timeout + Duration::from_millis(3));
    }
}

#[tokio::test(start_paused = true)]
async fn bulk_revocation_may_take_40_s() {
    for (timeout, limit) in [(0, 40), (30, 40), (60, 60)] {
        let (timeout, limit) = (timeout * SECOND, limit * SECOND);
        let silent = service_fn(|_: Request<Full<Bytes>>| {
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
        });
        let client = ServiceTokensClient::builder("https://tokens.example")
            .with_token(TOKEN)
            .with_transport(silent)
            .with_timeout(timeout)
            .build()
            .unwrap();
        let started = Instant::now();
        let filter = TokenFilter::new().with_name("ci");
        let error = client.revoke_where(filter, 1).await.unwrap_err();
        assert_eq!(error.kind(), ClientErrorKind::TimedOut);
        let message = format!("no response within {limit:?}");
        assert_eq!(error.to_string(), message);
        let elapsed = started.elapsed();
        assert!((limit..limit + Duration::from_millis(3)).contains(&elapsed));
    }
}

#[tokio::test(start_paused = true)]
async fn accepts_the_longest_duration_as_timeout() {
    let get = async |client: ServiceTokensClient| client.get(id()).await.map(drop);
    let (result, _, _) = call(&[Status(503, None)], Duration::MAX, get).await;
    assert!(result.is_ok());
}

#[test]
fn fails_without_a_runtime() {
    let client = ServiceTokensClient::builder("http://127.0.0.1:1").with_token(TOKEN);
    let error = futures::executor::block_on(client.build().unwrap().get_own());
    assert_eq!(error.unwrap_err().kind(), ClientErrorKind::Unreachable);
}
