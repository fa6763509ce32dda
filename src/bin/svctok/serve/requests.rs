//! What is told of each request: an id in the answer, a line in the log, a count.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::time::timeout;
use tower_service_token::limits::ClientAddress;
use tracing::Instrument;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_REQUEST_ID: usize = 128;

/// Longer than any word in the paths that are served, shorter than any token minted here.
const MAX_SEGMENT: usize = 32;

/// The store has time limits of its own, far below: what takes this long is a body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn observed(app: Router) -> Router {
    app.layer(from_fn(observe))
}

async fn observe(mut request: Request, next: Next) -> Response {
    let id = request_id(&request);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let method = method(request.method());
    let path = path(request.uri().path());
    let client = ClientAddress::from_extensions(request.extensions());
    let span = tracing::info_span!("request", request_id = id.to_str().unwrap_or_default());
    let observed = async {
        let started = Instant::now();
        let response = timeout(REQUEST_TIMEOUT, next.run(request)).await;
        let mut response = response.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response());
        let (status, took) = (response.status(), started.elapsed());
        tracing::info!(
            target: "svctok::request",
            method,
            path,
            client = client.map(tracing::field::display),
            status = status.as_u16(),
            duration_ms = millis(took),
            "answered",
        );
        count(method, status, took);
        response.headers_mut().insert(REQUEST_ID, id);
        response
    };
    observed.instrument(span).await
}

fn count(method: &'static str, status: StatusCode, took: Duration) {
    let status = status.as_u16().to_string();
    metrics::counter!("svctok_http_requests_total", "method" => method, "status" => status)
        .increment(1);
    metrics::histogram!("svctok_http_request_seconds", "method" => method).record(took);
}

/// To a microsecond.
fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// The client's own if it can stand in a log, and is no token.
fn request_id(request: &Request) -> HeaderValue {
    let mut given = request.headers().get_all(REQUEST_ID).iter();
    if let (Some(id), None) = (given.next(), given.next())
        && (1..=MAX_REQUEST_ID).contains(&id.len())
        && id.as_bytes().iter().all(u8::is_ascii_graphic)
        && !id.as_bytes().windows(7).any(|part| part == b"svctok-")
    {
        return id.clone();
    }
    let mut random = [0; 16];
    // An id that others have had is better than no answer.
    let _ = getrandom::fill(&mut random);
    HeaderValue::try_from(hex::encode(random)).expect("hex digits are visible ASCII")
}

/// A method of any name would be a label of any name.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// What may be a secret that was pasted into the path is not shown.
fn path(path: &str) -> String {
    let shown = path.split('/').map(|segment| match segment.len() {
        0..=MAX_SEGMENT => segment,
        _ => "***",
    });
    shown.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::Service;

    use super::*;

    fn id_for(given: &[&[u8]]) -> String {
        let mut request = Request::new(Body::empty());
        for id in given {
            let id = HeaderValue::from_bytes(id).unwrap();
            request.headers_mut().append(REQUEST_ID, id);
        }
        request_id(&request).to_str().unwrap().to_owned()
    }

    #[test]
    fn a_sane_request_id_is_taken() {
        let longest = [b'x'; MAX_REQUEST_ID];
        for id in [&b"a"[..], b"0af7651916cd43dd8448eb211c80319c", &longest] {
            assert_eq!(id_for(&[id]).as_bytes(), id);
        }
    }

    #[test]
    fn any_other_request_id_is_replaced() {
        let too_long = [b'x'; MAX_REQUEST_ID + 1];
        let two: &[&[u8]] = &[b"a", b"b"];
        let bad: [&[&[u8]]; 7] = [
            &[],
            two,
            &[b""],
            &[&too_long],
            &[b"a b"],
            &[b"caf\xc3\xa9"],
            &[b"svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n"],
        ];
        for given in bad {
            let id = id_for(given);
            assert_eq!(id.len(), 32, "{given:?}");
            assert_ne!(id, id_for(given));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_too_long_is_answered_all_the_same() {
        let app = Router::new().route("/", get(std::future::pending::<()>));
        let request = Request::new(Body::empty());
        let response = observed(app).call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
        assert!(response.headers().contains_key(REQUEST_ID));
    }

    #[test]
    fn a_secret_in_a_path_is_not_shown() {
        let token = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";
        let shown = path(&format!("/service-tokens/{token}/rotate"));
        assert_eq!(shown, "/service-tokens/***/rotate");
        let usual = "/api/v1/service-account-tokens/7Hq2mX9bTe";
        assert_eq!(path(usual), usual);
    }
}
