use http::{Response, StatusCode};
use tokio::time::{Duration, timeout};
use zeroize::Zeroizing;

use super::breaker::Health;
use super::config::Config;
use super::error::{IntrospectionError, IntrospectionErrorKind};
use super::request::introspection_request;
use super::response::{Failure, Reply, interpret_response};
use crate::token::PresentedToken;
use crate::transport::{Endpoint, ReadBodyError, SendError, SendErrorKind, Transport, read_body};

/// The longest response that is read, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// How long reading the body of an error response may take. It is only for logs.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_millis(250);

/// Calls the introspection endpoint. Sets no time limit.
pub(super) struct Client {
    pub(super) config: Config,
    pub(super) endpoint: Endpoint,
    pub(super) transport: Transport,
}

impl Client {
    /// Makes one call, and another one if the server cannot have processed the first.
    pub(super) async fn introspect(&self, token: &PresentedToken<'_>) -> Result<Reply, Failure> {
        match self.attempt(token, false).await {
            Err(failure) if failure.may_retry => self.attempt(token, true).await,
            result => result,
        }
    }

    async fn attempt(&self, token: &PresentedToken<'_>, is_retry: bool) -> Result<Reply, Failure> {
        let config = &self.config;
        let request = introspection_request(
            &self.endpoint,
            &config.auth,
            config.rules.issuer.as_deref(),
            token,
            config.hint.as_deref(),
            config.policy.clock.now(),
        );
        let request = request.map_err(|source| {
            let kind = IntrospectionErrorKind::Credentials;
            let error = IntrospectionError::new(kind, "cannot create the request");
            Failure::new(error.with_source(source), Health::Unclear)
        })?;
        let response = if is_retry {
            self.transport.send_on_new_connection(request).await
        } else {
            self.transport.send(request).await
        };
        let (parts, body) = response.map_err(send_failure).map(Response::into_parts)?;
        let body = read_body(body, MAX_BODY);
        let body = if parts.status == StatusCode::OK {
            body.await.map_err(read_failure)?
        } else {
            let body = timeout(ERROR_BODY_TIMEOUT, body).await;
            body.ok().and_then(Result::ok).unwrap_or_default()
        };
        // The server may echo these, and no log may show them.
        let mut secrets = config.auth.secrets();
        secrets.push(Zeroizing::new(token.expose_secret().to_owned()));
        let parser = &config.rules.claims_parser;
        interpret_response(parts.status, &parts.headers, &body, parser, &secrets)
    }
}

fn send_failure(error: SendError) -> Failure {
    let (why, health, may_retry) = match error.kind {
        SendErrorKind::Connect => ("cannot connect to the server", Health::Bad, true),
        // A token may cause a server to do this.
        SendErrorKind::ClosedBeforeResponse => {
            ("the server closed the connection", Health::Unclear, true)
        }
        SendErrorKind::Other => ("the exchange was interrupted", Health::Unclear, false),
    };
    Failure {
        error: IntrospectionError::transient(why).with_source(error.source),
        health,
        may_retry,
    }
}

fn read_failure(error: ReadBodyError) -> Failure {
    let error = match error {
        ReadBodyError::TooLarge => IntrospectionError::protocol("the response is too long"),
        ReadBodyError::Failed(source) => {
            IntrospectionError::transient("the response was interrupted").with_source(source)
        }
    };
    Failure::new(error.with_status(StatusCode::OK), Health::Unclear)
}
