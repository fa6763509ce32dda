use http::{HeaderMap, StatusCode};

use super::error::{ClientError, ClientErrorKind};
use crate::lifecycle::FieldProblem;
use crate::media_type;
use crate::text::escape_invisible;
use crate::wire::Problem;

/// The maximum length of a text of the server in an error, in characters.
const MAX_TEXT_CHARS: usize = 500;

/// The maximum number of field problems, and of missing roles and scopes, in an error.
const MAX_PROBLEMS: usize = 100;

/// Returns the error of an unsuccessful response, without `secret`.
///
/// 401, 403, 429 and 5xx mean the same from any server. Other statuses need the body of the
/// management API: a 404 of a proxy does not mean that the token does not exist.
pub(super) fn client_error(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    secret: &str,
) -> ClientError {
    let problem = if media_type::is(headers, Problem::MEDIA_TYPE) {
        serde_json::from_slice::<Problem>(body).ok()
    } else {
        None
    };
    let is_problem = problem.is_some();
    let problem = problem.unwrap_or_default();
    let code = Some(sanitize(&problem.code, secret)).filter(|code| is_code(code));
    let kind = kind(status, code.as_deref(), is_problem);
    let detail = sanitize(&problem.detail, secret);
    let message = if detail.is_empty() || kind == ClientErrorKind::UnexpectedResponse {
        default_message(kind, status)
    } else {
        detail
    };
    let problems = problem.errors.into_iter().flatten().take(MAX_PROBLEMS);
    let problems = problems.map(|entry| {
        let [pointer, detail] = [entry.pointer, entry.detail].map(|text| sanitize(&text, secret));
        FieldProblem::new(pointer, detail)
    });
    let missing = problem.missing.iter().flatten().take(MAX_PROBLEMS);
    let missing = missing.map(|name| sanitize(name, secret));
    let mut error = ClientError::new(kind, message).with_status(status);
    error.0.code = code;
    error.0.problems = problems.collect();
    error.0.missing = missing.collect();
    error.0.forbidden = problem.forbidden;
    error
}

fn kind(status: StatusCode, code: Option<&str>, is_problem: bool) -> ClientErrorKind {
    match status.as_u16() {
        401 => ClientErrorKind::Unauthenticated,
        403 if code == Some("escalation_denied") => ClientErrorKind::EscalationDenied,
        403 => ClientErrorKind::Forbidden,
        429 => ClientErrorKind::RateLimited,
        500..=599 => ClientErrorKind::Server,
        _ if !is_problem => ClientErrorKind::UnexpectedResponse,
        404 if code == Some("not_found") => ClientErrorKind::NotFound,
        409 if code == Some("last_admin") => ClientErrorKind::LastAdmin,
        409 => ClientErrorKind::Conflict,
        412 => ClientErrorKind::RevisionMismatch,
        428 => ClientErrorKind::RevisionRequired,
        422 if code == Some("idempotency_key_reused") => ClientErrorKind::Conflict,
        400 | 413 | 415 | 422 => ClientErrorKind::Invalid,
        _ => ClientErrorKind::UnexpectedResponse,
    }
}

fn default_message(kind: ClientErrorKind, status: StatusCode) -> String {
    let what = match kind {
        ClientErrorKind::Unauthenticated => "the server rejected the token",
        ClientErrorKind::Forbidden => "the token lacks the permission",
        ClientErrorKind::RateLimited => "too many requests",
        ClientErrorKind::Server => "the server failed",
        _ if status.is_redirection() => "refusing to follow a redirect",
        ClientErrorKind::UnexpectedResponse => "not a response of the management API",
        _ => "the server rejected the request",
    };
    format!("{what} (status {})", status.as_u16())
}

/// Returns whether a text has the form of a `code`.
fn is_code(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(is_part)
}

/// Prepares a text of the server for people and their terminals: one line, cut to 500 characters,
/// without `secret`, its invisible characters escaped.
fn sanitize(text: &str, secret: &str) -> String {
    let text = if secret.is_empty() {
        text.to_owned()
    } else {
        text.replace(secret, "***")
    };
    let text = escape_invisible(&text);
    let text: String = text.chars().take(MAX_TEXT_CHARS).collect();
    text.trim().to_owned()
}
