//! The error responses of each API.

use serde_json::Value;

use crate::http1::HttpResponse;

/// Which API a request is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Api {
    /// `/service-tokens` and `/introspect`: problem details.
    Management,
    PipeOps,
    StackState,
}

impl Api {
    /// Asserts a refusal with this status and, where the form has one, this code.
    #[track_caller]
    pub(crate) fn assert_refused(self, answer: &HttpResponse, status: u16, code: &str, what: &str) {
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        let content_type = answer.header("content-type").unwrap();
        let body = answer.json();
        match self {
            Self::Management => {
                assert_eq!(content_type, "application/problem+json", "{what}");
                assert_eq!(body["code"], code, "{what}: {body}");
                assert_eq!(body["status"], status, "{what}: {body}");
            }
            Self::PipeOps => {
                assert_eq!(content_type, "application/json", "{what}");
                assert_eq!(body["success"], false, "{what}: {body}");
                assert_eq!(body["status"], "error", "{what}: {body}");
                assert_ne!(body["message"].as_str(), Some(""), "{what}: {body}");
            }
            Self::StackState => {
                assert_eq!(content_type, "application/json", "{what}");
                assert_eq!(body["errors"][0]["_type"], kind(status), "{what}: {body}");
                assert!(body["errors"][0]["message"].is_string(), "{what}: {body}");
            }
        }
        let challenge = answer.header("www-authenticate");
        if status == 401 {
            let challenge = challenge.unwrap_or_else(|| panic!("{what}: {answer:?}"));
            assert!(
                challenge.contains("error=\"invalid_token\""),
                "{what}: {challenge}"
            );
        }
        assert!(!has_secret(&body), "{what}: {body}");
    }
}

fn kind(status: u16) -> &'static str {
    match status {
        401 => "UnauthorizedError",
        403 => "ForbiddenError",
        409 => "ConflictError",
        status => panic!("{status} is not refused here"),
    }
}

fn has_secret(body: &Value) -> bool {
    body.to_string().contains("svctok-")
}
