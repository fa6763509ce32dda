use std::time::{Duration, SystemTime};

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::breaker::Health;
use super::client_auth::ClientAuth;
use super::config::Config;
use super::error::{IntrospectionError, IntrospectionErrorKind, RequestError};
use super::response::{Failure, IntrospectionResponse, interpret_response};
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
    pub(super) async fn introspect(
        &self,
        token: &PresentedToken<'_>,
    ) -> Result<IntrospectionResponse, Failure> {
        match self.attempt(token, false).await {
            Err(failure) if failure.may_retry => self.attempt(token, true).await,
            result => result,
        }
    }

    async fn attempt(
        &self,
        token: &PresentedToken<'_>,
        is_retry: bool,
    ) -> Result<IntrospectionResponse, Failure> {
        let config = &self.config;
        let request = introspection_request(
            &self.endpoint,
            &config.auth,
            config.rules.issuer.as_deref(),
            token,
            config.token_type_hint.as_deref(),
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
        #[cfg(feature = "rustls")]
        SendErrorKind::Certificate => (
            "the certificate of the server is not accepted",
            Health::Bad,
            false,
        ),
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

/// Creates the request of RFC 7662, section 2.1, for one token. The body is zeroed when dropped.
fn introspection_request(
    endpoint: &Endpoint,
    auth: &ClientAuth,
    default_audience: Option<&str>,
    token: &PresentedToken<'_>,
    hint: Option<&str>,
    now: SystemTime,
) -> Result<Request<Full<Bytes>>, RequestError> {
    let credentials = auth.request_credentials(default_audience, now)?;
    let mut fields = vec![("token", token.expose_secret())];
    fields.extend(hint.map(|hint| ("token_type_hint", hint)));
    let in_form = credentials.fields.iter();
    fields.extend(in_form.map(|(name, text)| (*name, text.as_str())));

    let mut request = Request::new(Full::new(form(&fields)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = endpoint.uri().clone();
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(CONTENT_TYPE, form_type);
    if let Some(header) = credentials.header {
        headers.insert(AUTHORIZATION, header);
    }
    Ok(request)
}

/// Encodes a form into a buffer that is never reallocated, so that no copy of a secret remains.
fn form(fields: &[(&str, &str)]) -> Bytes {
    let longest = fields
        .iter()
        .map(|(name, text)| 3 * (name.len() + text.len()) + 2);
    let mut form = Zeroizing::new(String::with_capacity(longest.sum()));
    let mut serializer = Serializer::new(&mut *form);
    serializer.extend_pairs(fields);
    serializer.finish();
    Bytes::from_owner(Zeroizing::new(std::mem::take(&mut *form).into_bytes()))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::super::assertion::PrivateKeyJwt;
    use super::super::assertion::key::tests::p256_pem;
    use super::*;
    use crate::transport::PlainHttp;

    const TOKEN: &str = "a&client_id=x+/=%20~*";

    fn request(auth: &ClientAuth, hint: Option<&str>) -> Request<Full<Bytes>> {
        let url = "https://as.example/introspect?tenant=1";
        let endpoint = Endpoint::parse(url, PlainHttp::Deny).unwrap();
        let token = PresentedToken::new(TOKEN).unwrap();
        let now = SystemTime::UNIX_EPOCH;
        introspection_request(&endpoint, auth, Some("issuer"), &token, hint, now).unwrap()
    }

    async fn fields(request: Request<Full<Bytes>>) -> Vec<(String, String)> {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        form_urlencoded::parse(&body).into_owned().collect()
    }

    fn pair(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    #[tokio::test]
    async fn encodes_the_token_as_one_form_value() {
        let request = request(&ClientAuth::basic("orders", "s"), None);
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.uri(), "https://as.example/introspect?tenant=1");
        assert_eq!(request.headers()[ACCEPT], "application/json");
        let form_type = &request.headers()[CONTENT_TYPE];
        assert_eq!(form_type, "application/x-www-form-urlencoded");
        assert_eq!(request.headers()[AUTHORIZATION], "Basic b3JkZXJzOnM=");
        assert_eq!(request.headers().len(), 3);
        assert_eq!(fields(request).await, [pair("token", TOKEN)]);
    }

    #[tokio::test]
    async fn sends_the_configured_hint_and_client_credentials() {
        let request = request(&ClientAuth::post("o&x", "s=s"), Some("access_token"));
        assert!(!request.headers().contains_key(AUTHORIZATION));
        let expected = [
            pair("token", TOKEN),
            pair("token_type_hint", "access_token"),
            pair("client_id", "o&x"),
            pair("client_secret", "s=s"),
        ];
        assert_eq!(fields(request).await, expected);
    }

    #[tokio::test]
    async fn each_request_signs_a_new_assertion() {
        let auth =
            ClientAuth::private_key_jwt(PrivateKeyJwt::es256("orders", &p256_pem()).unwrap());
        let first = fields(request(&auth, None)).await;
        let second = fields(request(&auth, None)).await;
        assert_eq!(first[1], pair("client_id", "orders"));
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        assert_eq!(first[2], pair("client_assertion_type", kind));
        assert_eq!(first[3].0, "client_assertion");
        assert_eq!(first.len(), 4);
        assert_eq!(first[..3], second[..3]);
        assert_ne!(first[3], second[3]);
    }

    #[test]
    fn form_buffer_never_reallocates() {
        let worst = "%".repeat(5_000);
        let form = form(&[("token", &worst), ("hint", &worst)]);
        assert_eq!(form.len(), "token=&hint=".len() + 6 * worst.len());
    }
}
