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

use super::answer::Answer;
use super::backoff::{pause, retry_after};
use super::call::Call;
use super::error::{ClientError, ClientErrorKind};
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
pub(super) struct Sent {
    pub(super) answer: Answer,
    /// Whether an earlier try may have been carried out.
    pub(super) is_repetition: bool,
}

/// A try that came to nothing.
struct Failure {
    error: ClientError,
    retry: Retry,
    /// Whether the server may have carried it out.
    may_be_done: bool,
    /// How long the server wants to be left alone.
    wait: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Retry {
    Always,
    IfRepeatable,
    Never,
}

impl Sender {
    /// Does `work` within the time limit, and passes it the deadline.
    pub(super) async fn within<T, F>(
        &self,
        work: impl FnOnce(Instant) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.within_at_least(Duration::ZERO, work).await
    }

    /// Does `work` within the time limit, or within `least` if that is longer.
    pub(super) async fn within_at_least<T, F>(
        &self,
        least: Duration,
        work: impl FnOnce(Instant) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        Handle::try_current().map_err(|error| {
            let message = "calls need a tokio runtime";
            ClientError::new(ClientErrorKind::Unreachable, message).with_source(error)
        })?;
        let timeout = self.timeout.max(least);
        let deadline = Instant::now() + timeout.min(LONGEST_TIMEOUT);
        let done = timeout_at(deadline, work(deadline)).await;
        done.unwrap_or_else(|_| {
            let message = format!("the server did not answer within {timeout:?}");
            Err(ClientError::new(ClientErrorKind::TimedOut, message))
        })
    }

    /// The answer to `call`, unless it is one that says to come back.
    pub(super) async fn send(&self, call: &Call, deadline: Instant) -> Result<Sent, ClientError> {
        let (mut tries, mut is_repetition) = (0_u32, false);
        loop {
            let failure = match self.try_once(call, tries > 0).await {
                Ok(answer) => {
                    return Ok(Sent {
                        answer,
                        is_repetition,
                    });
                }
                Err(failure) => failure,
            };
            is_repetition |= failure.may_be_done;
            let may_retry = match failure.retry {
                Retry::Always => true,
                Retry::IfRepeatable => call.is_repeatable,
                Retry::Never => false,
            };
            if !may_retry || tries >= self.max_retries {
                return Err(failure.error);
            }
            tries += 1;
            let wait = failure.wait.unwrap_or(Duration::ZERO).max(pause(tries));
            if wait >= deadline.duration_since(Instant::now()) {
                return Err(failure.error);
            }
            sleep(wait).await;
        }
    }

    async fn try_once(&self, call: &Call, is_again: bool) -> Result<Answer, Failure> {
        let request = self.request(call).map_err(Failure::of)?;
        let secret = sent_token(&request);
        // A kept connection may be closed at this moment, and then nobody knows what was heard.
        let sent = if is_again || !call.is_repeatable {
            self.transport.send_anew(request).await
        } else {
            self.transport.send(request).await
        };
        let (head, body) = sent.map_err(not_answered)?.into_parts();
        let body = read(body, call.max_answer).await?;
        let answer = Answer {
            status: head.status,
            headers: head.headers,
            body,
            secret,
        };
        let may_be_done = match answer.status {
            StatusCode::TOO_MANY_REQUESTS => false,
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => true,
            _ => return Ok(answer),
        };
        Err(Failure {
            error: answer.refusal(),
            retry: Retry::IfRepeatable,
            may_be_done,
            wait: retry_after(&answer.headers, self.clock.now()),
        })
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, ClientError> {
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

impl Failure {
    /// Which cannot be helped by another try.
    fn of(error: ClientError) -> Self {
        Self {
            error,
            retry: Retry::Never,
            may_be_done: false,
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

fn not_answered(error: SendError) -> Failure {
    let (message, retry) = match error.kind {
        SendErrorKind::Connect => ("the server cannot be reached", Retry::Always),
        SendErrorKind::ClosedBeforeAnyByte => {
            ("the server closed the connection", Retry::IfRepeatable)
        }
        SendErrorKind::Other => ("the exchange broke off", Retry::IfRepeatable),
    };
    let unreachable = ClientError::new(ClientErrorKind::Unreachable, message);
    Failure {
        error: unreachable.with_source(error.source),
        retry,
        may_be_done: error.kind != SendErrorKind::Connect,
        wait: None,
    }
}

async fn read(body: BoxBody, limit: usize) -> Result<Bytes, Failure> {
    read_body(body, limit).await.map_err(|error| match error {
        ReadBodyError::TooLarge => Failure::of(ClientError::unexpected("the answer is too long")),
        ReadBodyError::Failed(source) => not_answered(SendError {
            kind: SendErrorKind::Other,
            source,
        }),
    })
}
