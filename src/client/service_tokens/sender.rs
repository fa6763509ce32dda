use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

use super::super::add_token::AddServiceTokenLayer;
use super::backoff::{backoff, retry_after};
use super::error::{ClientError, ClientErrorKind};
use super::request::ApiRequest;
use super::response::Response;
use crate::clock::{Clock, SystemClock};
use crate::lifecycle::FieldProblem;
use crate::transport::{
    BoxBody, Endpoint, ReadBodyError, SendError, SendErrorKind, Transport, read_body,
};

const ACCEPTED: HeaderValue =
    HeaderValue::from_static("application/json, application/problem+json");
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("tower-service-token/", env!("CARGO_PKG_VERSION")));

/// Clocks cannot represent later deadlines.
const MAX_TIMEOUT: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Sends calls to the server, and retries them where that is safe.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) endpoint: Endpoint,
    pub(super) token: AddServiceTokenLayer,
    pub(super) transport: Transport,
    pub(super) timeout: Duration,
    pub(super) max_retries: u32,
}

/// A failed attempt.
struct FailedAttempt {
    error: ClientError,
    progress: Progress,
    /// The `Retry-After` of the response.
    wait: Option<Duration>,
}

/// How far a failed attempt got, which decides whether a retry is safe.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The server did not receive the request.
    NotSent,
    /// The server rejected the request and may accept it later.
    Rejected,
    /// The server may have processed the request.
    MaybeProcessed,
    /// No retry can succeed.
    Final,
}

impl Sender {
    /// Runs `work` within the timeout, or within `min_timeout` if that is longer, and passes it the
    /// deadline.
    pub(super) async fn with_deadline<T>(
        &self,
        min_timeout: Duration,
        work: impl AsyncFnOnce(Instant) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        Handle::try_current().map_err(|error| {
            let message = "no Tokio runtime is running";
            ClientError::new(ClientErrorKind::Unreachable, message).with_source(error)
        })?;
        let timeout = self.timeout.max(min_timeout);
        let deadline = Instant::now() + timeout.min(MAX_TIMEOUT);
        let done = timeout_at(deadline, work(deadline)).await;
        done.unwrap_or_else(|_| {
            let message = format!("no response within {timeout:?}");
            Err(ClientError::new(ClientErrorKind::TimedOut, message))
        })
    }

    /// Sends a call and returns the response, or the error of the last attempt.
    pub(super) async fn send(
        &self,
        call: &ApiRequest,
        deadline: Instant,
    ) -> Result<Response, ClientError> {
        let (mut retries, mut is_repeated) = (0_u32, false);
        loop {
            let failed = match self.send_once(call, retries > 0).await {
                Ok(mut response) => {
                    response.is_repeated = is_repeated;
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            is_repeated |= failed.progress == Progress::MaybeProcessed;
            let may_retry = match failed.progress {
                Progress::NotSent => true,
                Progress::Rejected | Progress::MaybeProcessed => call.is_idempotent,
                Progress::Final => false,
            };
            if !may_retry || retries >= self.max_retries {
                return Err(failed.error);
            }
            retries += 1;
            let wait = failed.wait.unwrap_or(Duration::ZERO).max(backoff(retries));
            if wait >= deadline.duration_since(Instant::now()) {
                return Err(failed.error);
            }
            sleep(wait).await;
        }
    }

    async fn send_once(
        &self,
        call: &ApiRequest,
        is_retry: bool,
    ) -> Result<Response, FailedAttempt> {
        let request = self.request(call).map_err(FailedAttempt::permanent)?;
        let secret = sent_token(&request);
        // The server may close a pooled connection at this moment. Then it is unknown whether it
        // processed the request.
        let sent = if is_retry || !call.is_idempotent {
            self.transport.send_on_new_connection(request).await
        } else {
            self.transport.send(request).await
        };
        let (head, body) = sent.map_err(not_received)?.into_parts();
        let body = read(body, call.max_response).await?;
        let response = Response {
            status: head.status,
            headers: head.headers,
            body,
            secret,
            is_repeated: false,
        };
        let progress = match response.status {
            StatusCode::TOO_MANY_REQUESTS => Progress::Rejected,
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Progress::MaybeProcessed,
            _ => return Ok(response),
        };
        Err(FailedAttempt {
            error: response.error(),
            progress,
            wait: retry_after(&response.headers, SystemClock.now()),
        })
    }

    fn request(&self, call: &ApiRequest) -> Result<Request<Full<Bytes>>, ClientError> {
        let base = self.endpoint.to_string();
        let url = format!("{}{}", base.trim_end_matches('/'), call.path);
        let (media_type, body) = call.body.clone().unzip();
        let request = Request::builder().method(call.method.clone()).uri(url);
        let request = request.body(Full::new(body.unwrap_or_default()));
        let mut request = request.map_err(|_| {
            let problem = FieldProblem::new("/filter", "too long for a URL");
            ClientError::invalid(problem)
        })?;
        let target = request.uri().clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, ACCEPTED);
        headers.insert(USER_AGENT, AGENT);
        if let Some(media_type) = media_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        headers.extend(call.headers.clone());
        self.token.add(&target, headers);
        Ok(request)
    }
}

impl FailedAttempt {
    /// Creates a failure that no retry can fix.
    fn permanent(error: ClientError) -> Self {
        Self {
            error,
            progress: Progress::Final,
            wait: None,
        }
    }
}

/// Returns the token of a request, which errors must not repeat.
fn sent_token(request: &Request<Full<Bytes>>) -> Zeroizing<String> {
    let value = request.headers().get(AUTHORIZATION);
    let text = value.and_then(|value| value.to_str().ok());
    let token = text.and_then(|text| text.split(' ').next_back());
    Zeroizing::new(token.unwrap_or_default().to_owned())
}

fn not_received(error: SendError) -> FailedAttempt {
    let (message, progress) = match error.kind {
        SendErrorKind::Connect => ("cannot connect to the server", Progress::NotSent),
        #[cfg(feature = "rustls")]
        SendErrorKind::Certificate => {
            let rejected = ClientError::new(ClientErrorKind::Certificate, error.kind.to_string());
            return FailedAttempt::permanent(rejected.with_source(error.source));
        }
        SendErrorKind::ClosedBeforeResponse => {
            ("the server closed the connection", Progress::MaybeProcessed)
        }
        SendErrorKind::Other => ("the connection failed", Progress::MaybeProcessed),
    };
    let unreachable = ClientError::new(ClientErrorKind::Unreachable, message);
    FailedAttempt {
        error: unreachable.with_source(error.source),
        progress,
        wait: None,
    }
}

async fn read(body: BoxBody, limit: usize) -> Result<Bytes, FailedAttempt> {
    read_body(body, limit).await.map_err(|error| match error {
        ReadBodyError::TooLarge => {
            FailedAttempt::permanent(ClientError::unexpected("the response is too long"))
        }
        ReadBodyError::Failed(source) => not_received(SendError {
            kind: SendErrorKind::Other,
            source,
        }),
    })
}
