//! The error responses of each API.

use serde_json::Value;

use crate::http1::HttpResponse;

/// The API that a request uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Api {
    /// `/service-tokens` and `/introspect`: problem details.
    Management,
    PipeOps,
    StackState,
}

impl Api {
    /// Asserts an error response with this status and, for the management API, this code. `context` describes
    /// the request.
    #[track_caller]
    pub(crate) fn assert_rejected(
        self,
        response: &HttpResponse,
        status: u16,
        code: &str,
        context: &str,
    ) {
        assert_eq!(response.status, status, "{context}: {response:?}");
        let content_type = response.header("content-type").unwrap();
        let body = response.json();
        match self {
            Self::Management => {
                assert_eq!(content_type, "application/problem+json", "{context}");
                assert_eq!(body["code"], code, "{context}: {body}");
                assert_eq!(body["status"], status, "{context}: {body}");
            }
            Self::PipeOps => {
                assert_eq!(content_type, "application/json", "{context}");
                assert_eq!(body["success"], false, "{context}: {body}");
                assert_eq!(body["status"], "error", "{context}: {body}");
                assert_ne!(body["message"].as_str(), Some(""), "{context}: {body}");
            }
            Self::StackState => {
                assert_eq!(content_type, "application/json", "{context}");
                assert_eq!(
                    body["errors"][0]["_type"],
                    error_type(status),
                    "{context}: {body}"
                );
                assert!(
                    body["errors"][0]["message"].is_string(),
                    "{context}: {body}"
                );
            }
        }
        let challenge = response.header("www-authenticate");
        if status == 401 {
            let challenge = challenge.unwrap_or_else(|| panic!("{context}: {response:?}"));
            assert!(
                challenge.contains("error=\"invalid_token\""),
                "{context}: {challenge}"
            );
        }
        assert!(!has_secret(&body), "{context}: {body}");
    }
}

fn error_type(status: u16) -> &'static str {
    match status {
        401 => "UnauthorizedError",
        403 => "ForbiddenError",
        409 => "ConflictError",
        status => panic!("unexpected status {status}"),
    }
}

fn has_secret(body: &Value) -> bool {
    body.to_string().contains("svctok-")
}
