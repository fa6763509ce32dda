use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use zeroize::Zeroizing;

use super::breaker::Health;
use super::claims::Claims;
use super::claims_parser::ClaimsParser;
use super::error::{IntrospectionError, IntrospectionErrorKind};
use super::excerpt::with_excerpt;
use super::json;
use crate::media_type;

/// The longest time a server can make us name as `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// What a server said about a token.
#[derive(Debug)]
pub(super) enum Reply {
    Active(Box<Claims>),
    Inactive,
    /// The server does not know this sort of token at all (RFC 7009 §2.2.1).
    Unsupported,
}

/// A call that led to no [`Reply`].
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: IntrospectionError,
    pub(super) health: Health,
    /// Whether it may be tried once more at once.
    pub(super) may_retry: bool,
}

impl Failure {
    pub(super) fn new(error: IntrospectionError, health: Health) -> Self {
        Self {
            error,
            health,
            may_retry: false,
        }
    }

    pub(super) fn retryable(self) -> Self {
        Self {
            may_retry: true,
            ..self
        }
    }
}

/// What an answer means, as the table of outcomes in DESIGN.md has it.
pub(super) fn interpret_response(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    claims_parser: &ClaimsParser,
    secrets: &[Zeroizing<String>],
) -> Result<Reply, Failure> {
    let with_excerpt = |what: &str| with_excerpt(what, body, secrets);
    match status.as_u16() {
        200 => read(headers, body, claims_parser, secrets),
        400 if is_unsupported_token(body) => Ok(Reply::Unsupported),
        401 | 403 => {
            let message = with_excerpt("the server rejects our credentials");
            let error = IntrospectionError::new(IntrospectionErrorKind::Credentials, message);
            Err(Failure::new(error.with_status(status), Health::Unclear))
        }
        429 | 502..=504 => {
            let message = with_excerpt("the server cannot answer now");
            let error = transient(message, status, headers);
            let failure = Failure::new(error, Health::Bad);
            let is_too_busy = status == StatusCode::TOO_MANY_REQUESTS;
            Err(if is_too_busy {
                failure
            } else {
                failure.retryable()
            })
        }
        // Some servers answer 500 to a token they do not know: that says nothing about their health.
        500..=599 => {
            let error = transient(with_excerpt("the server failed"), status, headers);
            Err(Failure::new(error, Health::Unclear))
        }
        _ => Err(protocol_failure(
            with_excerpt("no answer to an introspection"),
            status,
        )),
    }
}

fn read(
    headers: &HeaderMap,
    body: &[u8],
    claims_parser: &ClaimsParser,
    secrets: &[Zeroizing<String>],
) -> Result<Reply, Failure> {
    if !is_json(headers) {
        let message = with_excerpt("the answer is not JSON", body, secrets);
        return Err(protocol_failure(message, StatusCode::OK));
    }
    match claims_parser.parse(body) {
        Ok(Some(claims)) => Ok(Reply::Active(Box::new(claims))),
        Ok(None) => Ok(Reply::Inactive),
        Err(why) => {
            let message = with_excerpt(&why, body, secrets);
            Err(protocol_failure(message, StatusCode::OK))
        }
    }
}

fn protocol_failure(message: String, status: StatusCode) -> Failure {
    let error = IntrospectionError::protocol(message).with_status(status);
    Failure::new(error, Health::Unclear)
}

fn transient(message: String, status: StatusCode, headers: &HeaderMap) -> IntrospectionError {
    let error = IntrospectionError::transient(message);
    error
        .with_status(status)
        .with_retry_after(retry_after(headers))
}

/// `application/json`, once, with whatever parameters.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    media_type::is(headers, media_type::JSON)
}

fn is_unsupported_token(body: &[u8]) -> bool {
    let members = json::object(body).unwrap_or_default();
    let error = members.get("error").and_then(serde_json::Value::as_str);
    error == Some("unsupported_token_type")
}

/// Only in seconds; a date is left out (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CONTENT_TYPE;

    use super::*;

    fn headers(content_type: &'static str) -> HeaderMap {
        let value = HeaderValue::from_static(content_type);
        HeaderMap::from_iter([(CONTENT_TYPE, value)])
    }

    fn interpreted(status: u16, content_type: &'static str, body: &str) -> Result<Reply, Failure> {
        let status = StatusCode::from_u16(status).unwrap();
        let headers = headers(content_type);
        interpret_response(
            status,
            &headers,
            body.as_bytes(),
            &ClaimsParser::default(),
            &[],
        )
    }

    #[test]
    fn requires_a_json_content_type() {
        let body = r#"{"active":true}"#;
        for good in [
            "application/json",
            "Application/JSON;charset=utf-8",
            "application/json ; x",
        ] {
            assert!(
                matches!(interpreted(200, good, body), Ok(Reply::Active(_))),
                "{good}"
            );
        }
        for bad in [
            "text/html",
            "application/jsonp",
            "application/token-introspection+jwt",
            "",
        ] {
            assert!(interpreted(200, bad, body).is_err(), "{bad}");
        }
        let mut twice = headers("application/json");
        twice.append(CONTENT_TYPE, HeaderValue::from_static("text/html"));
        let claims_parser = ClaimsParser::default();
        assert!(
            interpret_response(StatusCode::OK, &twice, body.as_bytes(), &claims_parser, &[])
                .is_err()
        );
    }

    #[test]
    fn maps_each_status_to_one_error_kind() {
        use Health::{Bad, Unclear};
        use IntrospectionErrorKind::{Credentials, Protocol, Transient};
        for (statuses, kind, health, may_retry) in [
            (
                &[400, 402, 404, 405, 413, 418][..],
                Protocol,
                Unclear,
                false,
            ),
            (
                &[201, 204, 206, 301, 302, 307, 308, 304],
                Protocol,
                Unclear,
                false,
            ),
            (&[401, 403], Credentials, Unclear, false),
            (&[429], Transient, Bad, false),
            (&[502, 503, 504], Transient, Bad, true),
            (&[500, 501, 505, 599], Transient, Unclear, false),
        ] {
            for status in statuses {
                let failure =
                    interpreted(*status, "application/json", r#"{"active":true}"#).unwrap_err();
                assert_eq!(failure.error.kind(), kind, "{status}");
                assert_eq!(failure.error.status().unwrap().as_u16(), *status);
                assert_eq!(
                    (failure.health, failure.may_retry),
                    (health, may_retry),
                    "{status}"
                );
            }
        }
    }

    #[test]
    fn unsupported_token_type_means_not_found() {
        let body = r#"{"error":"unsupported_token_type"}"#;
        assert!(matches!(
            interpreted(400, "text/plain", body),
            Ok(Reply::Unsupported)
        ));
        assert!(interpreted(401, "application/json", body).is_err());
        assert!(interpreted(400, "application/json", r#"{"error":"invalid_request"}"#).is_err());
    }
}
