use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

use super::backoff::{backoff, retry_after};
use super::error::{ClientError, ClientErrorKind};
use super::request::ApiRequest;
use super::response::ApiResponse;
use crate::client::AddServiceTokenLayer;
use crate::clock::Clock;
use crate::lifecycle::FieldProblem;
use crate::transport::{
    BoxBody, Endpoint, ReadBodyError, SendError, SendErrorKind, Transport, read_body,
};

const ACCEPTED: HeaderValue =
    HeaderValue::from_static("application/json, application/problem+json");
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("tower-service-token/", env!("CARGO_PKG_VERSION")));

/// A deadline beyond which nothing waits anyway; later ones do not fit into clocks.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Asks the server, again where that does no harm.
pub(super) struct Sender {
    pub(super) endpoint: Endpoint,
    pub(super) token: AddServiceTokenLayer,
    pub(super) transport: Transport,
    pub(super) timeout: Duration,
    pub(super) max_retries: u32,
    pub(super) clock: Arc<dyn Clock>,
}

/// What came of a call.
pub(super) struct SendOutcome {
    pub(super) response: ApiResponse,
    /// Whether an earlier try may have been carried out.
    pub(super) may_have_executed_before: bool,
}

/// A try that came to nothing.
struct AttemptError {
    error: ClientError,
    retry: Retry,
    /// Whether the server may have carried it out.
    may_have_executed: bool,
    /// How long the server wants to be left alone.
    wait: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Retry {
    Always,
    IfIdempotent,
    Never,
}

impl Sender {
    /// Does `work` within the time limit, and passes it the deadline.
    pub(super) async fn with_deadline<T, F>(
        &self,
        work: impl FnOnce(Instant) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.with_min_timeout(Duration::ZERO, work).await
    }

    /// Does `work` within the time limit, or within `min_timeout` if that is longer.
    pub(super) async fn with_min_timeout<T, F>(
        &self,
        min_timeout: Duration,
        work: impl FnOnce(Instant) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        Handle::try_current().map_err(|error| {
            let message = "calls need a tokio runtime";
            ClientError::new(ClientErrorKind::Unreachable, message).with_source(error)
        })?;
        let timeout = self.timeout.max(min_timeout);
        let deadline = Instant::now() + timeout.min(LONGEST_TIMEOUT);
        let done = timeout_at(deadline, work(deadline)).await;
        done.unwrap_or_else(|_| {
            let message = format!("the server did not answer within {timeout:?}");
            Err(ClientError::new(ClientErrorKind::TimedOut, message))
        })
    }

    /// The answer to `call`, unless it is one that says to come back.
    pub(super) async fn send(
        &self,
        call: &ApiRequest,
        deadline: Instant,
    ) -> Result<SendOutcome, ClientError> {
        let (mut retries, mut may_have_executed_before) = (0_u32, false);
        loop {
            let failure = match self.attempt(call, retries > 0).await {
                Ok(response) => {
                    return Ok(SendOutcome {
                        response,
                        may_have_executed_before,
                    });
                }
                Err(failure) => failure,
            };
            may_have_executed_before |= failure.may_have_executed;
            let may_retry = match failure.retry {
                Retry::Always => true,
                Retry::IfIdempotent => call.is_idempotent,
                Retry::Never => false,
            };
            if !may_retry || retries >= self.max_retries {
                return Err(failure.error);
            }
            retries += 1;
            let wait = failure.wait.unwrap_or(Duration::ZERO).max(backoff(retries));
            if wait >= deadline.duration_since(Instant::now()) {
                return Err(failure.error);
            }
            sleep(wait).await;
        }
    }

    async fn attempt(
        &self,
        call: &ApiRequest,
        is_retry: bool,
    ) -> Result<ApiResponse, AttemptError> {
        let request = self.request(call).map_err(AttemptError::permanent)?;
        let secret = sent_token(&request);
        // A kept connection may be closed at this moment, and then nobody knows what was heard.
        let sent = if is_retry || !call.is_idempotent {
            self.transport.send_on_new_connection(request).await
        } else {
            self.transport.send(request).await
        };
        let (head, body) = sent.map_err(send_failure)?.into_parts();
        let body = read(body, call.max_response_bytes).await?;
        let response = ApiResponse {
            status: head.status,
            headers: head.headers,
            body,
            secret,
        };
        let may_have_executed = match response.status {
            StatusCode::TOO_MANY_REQUESTS => false,
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => true,
            _ => return Ok(response),
        };
        Err(AttemptError {
            error: response.to_error(),
            retry: Retry::IfIdempotent,
            may_have_executed,
            wait: retry_after(&response.headers, self.clock.now()),
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
        headers.extend(call.header.clone());
        self.token.add(&target, headers);
        Ok(request)
    }
}

impl AttemptError {
    /// Which cannot be helped by another try.
    fn permanent(error: ClientError) -> Self {
        Self {
            error,
            retry: Retry::Never,
            may_have_executed: false,
            wait: None,
        }
    }
}

/// What the server must not make us show.
fn sent_token(request: &Request<Full<Bytes>>) -> Zeroizing<String> {
    let value = request.headers().get(AUTHORIZATION);
    let text = value.and_then(|value| value.to_str().ok());
    let token = text.and_then(|text| text.split(' ').next_back());
    Zeroizing::new(token.unwrap_or_default().to_owned())
}

fn send_failure(error: SendError) -> AttemptError {
    let (message, retry) = match error.kind {
        SendErrorKind::Connect => ("the server cannot be reached", Retry::Always),
        SendErrorKind::ClosedBeforeResponse => {
            ("the server closed the connection", Retry::IfIdempotent)
        }
        SendErrorKind::Other => ("the exchange broke off", Retry::IfIdempotent),
    };
    let unreachable = ClientError::new(ClientErrorKind::Unreachable, message);
    AttemptError {
        error: unreachable.with_source(error.source),
        retry,
        may_have_executed: error.kind != SendErrorKind::Connect,
        wait: None,
    }
}

async fn read(body: BoxBody, limit: usize) -> Result<Bytes, AttemptError> {
    read_body(body, limit).await.map_err(|error| match error {
        ReadBodyError::TooLarge => {
            AttemptError::permanent(ClientError::unexpected("the answer is too long"))
        }
        ReadBodyError::Failed(source) => send_failure(SendError {
            kind: SendErrorKind::Other,
            source,
        }),
    })
}
