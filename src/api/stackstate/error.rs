use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::expiry::millis;
use crate::api::body;
use crate::api::error::{
    ApiError, ErrorFormat, MemberNames, describe, missing_names, with_sent_names,
};
use crate::clock::Clock;
use crate::lifecycle::LifecycleError;
use crate::observe::{REQUEST_ID, request_id};
use crate::reject::Rejection;
use crate::wire::RequiredNames;

const INVALID_EXPIRY: &str = "ServiceTokenInvalidExpiryError";

/// An error response in the format of the tool.
pub(super) type ErrorResponse = ApiError<Errors>;

/// The errors of a response whose body is not written yet, in its extensions.
#[derive(Clone)]
pub(super) struct Errors {
    entries: Vec<ErrorEntry>,
    required: Option<Box<RequiredNames>>,
    missing: Vec<String>,
}

#[derive(Clone, Serialize)]
pub(super) struct ErrorEntry {
    #[serde(rename = "_type")]
    kind: &'static str,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    message: &'a str,
    tracking_key: &'a str,
    server_timestamp: Option<i64>,
    errors: &'a [ErrorEntry],
    #[serde(skip_serializing_if = "Option::is_none")]
    required: Option<Box<RequiredNames>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

/// The members of the tool that have other names.
const NAMES: &MemberNames = &[
    ("/subject", "/dedicatedSubject"),
    ("/expires_at", EXPIRY_POINTER),
];
const EXPIRY_POINTER: &str = "/expiryDate";

impl Errors {
    fn one(kind: &'static str, message: String) -> Self {
        Self::from(vec![ErrorEntry { kind, message }])
    }
}

impl From<Vec<ErrorEntry>> for Errors {
    fn from(entries: Vec<ErrorEntry>) -> Self {
        Self {
            entries,
            required: None,
            missing: Vec::new(),
        }
    }
}

impl ErrorFormat for Errors {
    fn new(status: StatusCode, message: String) -> Self {
        Self::one(kind(status), message)
    }

    fn from_rejection(rejection: &Rejection) -> Self {
        let kind = match rejection.code() {
            "change_failed" => "ChangeFailedError",
            _ => kind(rejection.status()),
        };
        Self {
            required: rejection.required().map(|it| Box::new(it.into())),
            ..Self::one(kind, describe(rejection))
        }
    }

    /// An invalid expiry has a type of its own, and the tool expects it to be 400.
    fn from_change(
        status: StatusCode,
        _: &'static str,
        error: LifecycleError,
    ) -> (StatusCode, Self) {
        let error = with_sent_names(error, NAMES);
        let message = error.to_string();
        let problems = match error {
            LifecycleError::Invalid(problems) => problems,
            error => {
                let missing = missing_names(error);
                let errors = Self::new(status, message);
                return (status, Self { missing, ..errors });
            }
        };
        let entries = problems.iter().map(|it| ErrorEntry {
            kind: match &*it.pointer {
                EXPIRY_POINTER => INVALID_EXPIRY,
                _ => kind(status),
            },
            message: format!("{}: {}", &it.pointer[1..], it.detail),
        });
        let entries: Vec<_> = entries.collect();
        let is_invalid_expiry = entries.iter().any(|it| it.kind == INVALID_EXPIRY);
        let status = if is_invalid_expiry {
            StatusCode::BAD_REQUEST
        } else {
            status
        };
        (status, Self::from(entries))
    }

    fn write(self, response: Response) -> Response {
        let mut response = body::with_json(response, Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the bodies of errors. The tracking key is the request id; a request without one gets a
/// random one, so that the log has the same.
pub(super) async fn write_error_bodies(
    State(clock): State<Arc<dyn Clock>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers()).cloned().unwrap_or_else(|| {
        let id = format!("{:016x}", getrandom::u64().unwrap_or_default());
        HeaderValue::try_from(id).expect("hex digits are visible ASCII")
    });
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    let Some(Errors {
        entries,
        required,
        missing,
    }) = response.extensions_mut().remove()
    else {
        return response;
    };
    let body = ErrorBody {
        kind: entries.first().map_or("", |error| error.kind),
        message: entries.first().map_or("", |error| &error.message),
        tracking_key: id.to_str().unwrap_or_default(),
        server_timestamp: millis(clock.now()),
        errors: &entries,
        required,
        missing,
    };
    let body = serde_json::to_string(&body).expect("an error is plain data");
    response.map(|_| Body::from(body))
}

fn kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UnauthorizedError",
        403 => "ForbiddenError",
        404 => "NotFoundError",
        409 => "ConflictError",
        412 => "PreconditionFailedError",
        413 => "PayloadTooLargeError",
        429 => "TooManyRequestsError",
        503 => "ServiceUnavailableError",
        500..=599 => "InternalServerError",
        _ => "BadRequestError",
    }
}
