use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use zeroize::Zeroizing;

use super::breaker::Health;
use super::claims::{Claims, ClaimsParser};
use super::error::{IntrospectionError, IntrospectionErrorKind};
use super::excerpt::with_excerpt;
use crate::media_type;
use crate::unique_json;

/// The longest `Retry-After` that is passed on.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The server's response about a token.
#[derive(Debug)]
pub(super) enum IntrospectionResponse {
    Active(Box<Claims>),
    Inactive,
    /// The server does not support this type of token (RFC 7009 §2.2.1).
    Unsupported,
}

/// A call without an [`IntrospectionResponse`].
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: IntrospectionError,
    pub(super) health: Health,
    /// Whether the call may be repeated at once.
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
}

/// Interprets a response, as the table in the documentation of
/// [`IntrospectionStore`](super::IntrospectionStore) lists it.
pub(super) fn interpret_response(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    claims_parser: &ClaimsParser,
    secrets: &[Zeroizing<String>],
) -> Result<IntrospectionResponse, Failure> {
    use IntrospectionErrorKind::{Credentials, Protocol, Transient};

    let malformed = |why: &str| (Protocol, with_excerpt(why, body, secrets), Health::Unclear);
    let (kind, message, health) = match status.as_u16() {
        200 if !media_type::is(headers, media_type::JSON) => malformed("the response is not JSON"),
        200 => match claims_parser.parse(body) {
            Ok(Some(claims)) => return Ok(IntrospectionResponse::Active(Box::new(claims))),
            Ok(None) => return Ok(IntrospectionResponse::Inactive),
            Err(why) => malformed(&why),
        },
        400 if is_unsupported_token(body) => return Ok(IntrospectionResponse::Unsupported),
        401 | 403 => {
            let why = "the server rejects the client credentials";
            (
                Credentials,
                with_excerpt(why, body, secrets),
                Health::Unclear,
            )
        }
        429 | 502..=504 => {
            let why = "the server is temporarily unavailable";
            (Transient, with_excerpt(why, body, secrets), Health::Bad)
        }
        // Some servers respond 500 to an unknown token, so this says nothing about their health.
        500..=599 => {
            let why = "the server failed";
            (Transient, with_excerpt(why, body, secrets), Health::Unclear)
        }
        _ => malformed("unexpected status"),
    };
    let mut error = IntrospectionError::new(kind, message).with_status(status);
    if kind == Transient {
        error = error.with_retry_after(retry_after(headers));
    }
    Err(Failure {
        error,
        health,
        may_retry: matches!(status.as_u16(), 502..=504),
    })
}

fn is_unsupported_token(body: &[u8]) -> bool {
    let members = unique_json::object(body).unwrap_or_default();
    let error = members.get("error").and_then(serde_json::Value::as_str);
    error == Some("unsupported_token_type")
}

/// Reads `Retry-After` in seconds. A date is ignored (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let seconds = seconds.trim().parse().ok()?;
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

    fn interpret(
        status: u16,
        content_type: &'static str,
        body: &str,
    ) -> Result<IntrospectionResponse, Failure> {
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
        for valid in [
            "application/json",
            "Application/JSON;charset=utf-8",
            "application/json ; x",
        ] {
            assert!(
                matches!(
                    interpret(200, valid, body),
                    Ok(IntrospectionResponse::Active(_))
                ),
                "{valid}"
            );
        }
        for invalid in [
            "text/html",
            "application/jsonp",
            "application/token-introspection+jwt",
            "",
        ] {
            assert!(interpret(200, invalid, body).is_err(), "{invalid}");
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
                    interpret(*status, "application/json", r#"{"active":true}"#).unwrap_err();
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
            interpret(400, "text/plain", body),
            Ok(IntrospectionResponse::Unsupported)
        ));
        assert!(interpret(401, "application/json", body).is_err());
        assert!(interpret(400, "application/json", r#"{"error":"invalid_request"}"#).is_err());
    }
}
