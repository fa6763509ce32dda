use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::breaker::Health;
use super::claims_parser::ClaimsParser;
use super::client_auth::ClientAuth;
use super::error::{IntrospectionError, IntrospectionErrorKind};
use super::request::introspection_request;
use super::response::{Failure, Reply, interpret_response};
use crate::clock::Clock;
use crate::token::PresentedToken;
use crate::transport::{
    BoxBody, Endpoint, ReadBodyError, SendError, SendErrorKind, Transport, read_body,
};

/// How much of an answer is read.
const MAX_BODY: usize = 64 * 1024;

/// How long the body of an answer that is none may take: it is only for logs.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_millis(250);

type SendResult = Result<Response<BoxBody>, SendError>;

/// Asks the server, and tells what its answer means. Sets no time limit.
pub(super) struct Client {
    pub(super) endpoint: Endpoint,
    pub(super) auth: ClientAuth,
    pub(super) issuer: Option<String>,
    pub(super) hint: Option<String>,
    pub(super) claims_parser: ClaimsParser,
    pub(super) transport: Transport,
    pub(super) clock: Arc<dyn Clock>,
}

impl Client {
    /// Asks once, and once more where the first attempt cannot have been heard.
    pub(super) async fn introspect(&self, token: &PresentedToken<'_>) -> Result<Reply, Failure> {
        let sent = self.transport.send(self.request(token)?).await;
        match self.read(token, sent).await {
            Err(failure) if failure.may_retry => {
                let sent = self
                    .transport
                    .send_on_new_connection(self.request(token)?)
                    .await;
                self.read(token, sent).await
            }
            result => result,
        }
    }

    async fn read(&self, token: &PresentedToken<'_>, sent: SendResult) -> Result<Reply, Failure> {
        let answer = sent.map_err(send_failure)?;
        let (parts, body) = answer.into_parts();
        let body = if parts.status == StatusCode::OK {
            read_body(body, MAX_BODY).await.map_err(read_failure)?
        } else {
            let body = timeout(ERROR_BODY_TIMEOUT, read_body(body, MAX_BODY)).await;
            body.ok().and_then(Result::ok).unwrap_or_default()
        };
        let secrets = self.secrets(token);
        interpret_response(
            parts.status,
            &parts.headers,
            &body,
            &self.claims_parser,
            &secrets,
        )
    }

    fn request(&self, token: &PresentedToken<'_>) -> Result<Request<Full<Bytes>>, Failure> {
        let request = introspection_request(
            &self.endpoint,
            &self.auth,
            self.issuer.as_deref(),
            token,
            self.hint.as_deref(),
            self.clock.now(),
        );
        request.map_err(|source| {
            let kind = IntrospectionErrorKind::Credentials;
            let error = IntrospectionError::new(kind, "the request cannot be made");
            Failure::new(error.with_source(source), Health::Unclear)
        })
    }

    /// What a server may echo and no log may show.
    fn secrets(&self, token: &PresentedToken<'_>) -> Vec<Zeroizing<String>> {
        let token = Zeroizing::new(token.expose_secret().to_owned());
        self.auth.secrets().chain([token]).collect()
    }
}

fn send_failure(error: SendError) -> Failure {
    let (why, health, may_retry) = match error.kind {
        SendErrorKind::Connect => ("the server cannot be reached", Health::Bad, true),
        // Some token may make a server do this.
        SendErrorKind::ClosedBeforeResponse => {
            ("the server closed the connection", Health::Unclear, true)
        }
        SendErrorKind::Other => ("the exchange broke off", Health::Unclear, false),
    };
    let error = IntrospectionError::transient(why).with_source(error.source);
    Failure {
        error,
        health,
        may_retry,
    }
}

fn read_failure(error: ReadBodyError) -> Failure {
    let error = match error {
        ReadBodyError::TooLarge => IntrospectionError::protocol("the answer is too long"),
        ReadBodyError::Failed(source) => {
            IntrospectionError::transient("the answer broke off").with_source(source)
        }
    };
    Failure::new(error.with_status(StatusCode::OK), Health::Unclear)
}
