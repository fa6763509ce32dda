use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::error::{ClientError, ClientErrorKind};
use crate::lifecycle::FieldProblem;
use crate::text::escape_invisible;
use crate::transport::has_media_type;

/// How much is shown of a text of the server, in characters.
const MAX_TEXT_CHARS: usize = 500;

/// How many fields are named that break rules, and how many missing roles and scopes.
const MAX_PROBLEMS: usize = 100;

/// A refusal, `application/problem+json` (RFC 9457).
#[derive(Default, Deserialize)]
struct Problem {
    code: Option<String>,
    detail: Option<String>,
    #[serde(default)]
    errors: Vec<FieldError>,
    #[serde(default)]
    missing: Vec<String>,
    forbidden: Option<usize>,
}

#[derive(Deserialize)]
struct FieldError {
    pointer: String,
    detail: String,
}

/// What an answer means that is not the one asked for. `secret` is not shown.
///
/// 401, 403, 429 and 5xx mean the same whoever says them. All else is believed only in the form of
/// the management API: a 404 of something in between does not say that a token is not there.
pub(super) fn client_error(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    secret: &str,
) -> ClientError {
    let problem = if has_media_type(headers, "application/problem+json") {
        serde_json::from_slice::<Problem>(body).ok()
    } else {
        None
    };
    let is_problem = problem.is_some();
    let problem = problem.unwrap_or_default();
    let code = problem.code.map(|code| sanitize(&code, secret));
    let code = code.filter(|code| is_code(code));
    let kind = kind(status, code.as_deref(), is_problem);
    let detail = problem.detail.map(|detail| sanitize(&detail, secret));
    let detail =
        detail.filter(|detail| !detail.is_empty() && kind != ClientErrorKind::UnexpectedResponse);
    let message = detail.unwrap_or_else(|| default_message(kind, status));
    let problems = problem.errors.into_iter().take(MAX_PROBLEMS).map(|entry| {
        let [pointer, detail] = [entry.pointer, entry.detail].map(|text| sanitize(&text, secret));
        FieldProblem::new(pointer, detail)
    });
    let missing = problem.missing.iter().take(MAX_PROBLEMS);
    let missing = missing.map(|name| sanitize(name, secret));
    ClientError::new(kind, message)
        .with_status(status)
        .with_code(code)
        .with_problems(problems.collect())
        .with_missing(missing.collect())
        .with_forbidden(problem.forbidden)
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
        ClientErrorKind::Unauthenticated => "the token is not accepted",
        ClientErrorKind::Forbidden => "the token may not do that",
        ClientErrorKind::RateLimited => "the server takes no more calls for the moment",
        ClientErrorKind::Server => "the server failed",
        _ if status.is_redirection() => "the server redirects, which is never followed",
        ClientErrorKind::UnexpectedResponse => "the answer is none of the management api",
        _ => "the server refused",
    };
    format!("{what} (status {})", status.as_u16())
}

/// Whether it looks like one of the names by which programs tell refusals.
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
