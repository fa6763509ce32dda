//! Entity tags of tokens, and the preconditions of changes (RFC 9110 §13.1.1).

use axum::response::Response;
use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::error::{ApiError, ErrorFormat};
use crate::store::TokenRecord;

/// The precondition of a change cannot be read, or does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PreconditionError {
    #[error("If-Match is not a list of entity tags")]
    Malformed,
    /// The request changes something without an entity tag, such as the list of tokens.
    #[error("the target has no entity tag, so no tag in If-Match matches")]
    NoEntityTag,
}

impl PreconditionError {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::NoEntityTag => StatusCode::PRECONDITION_FAILED,
        }
    }
}

impl<F: ErrorFormat> From<PreconditionError> for ApiError<F> {
    fn from(error: PreconditionError) -> Self {
        Self::new(error.status(), error.to_string())
    }
}

/// Adds the revision of a token as `ETag`.
pub(super) fn with_etag(record: &TokenRecord, mut response: Response) -> Response {
    let tag = HeaderValue::try_from(format!("\"{}\"", record.revision()));
    let tag = tag.expect("digits are visible ASCII");
    response.headers_mut().insert(ETAG, tag);
    response
}

/// Checks `If-Match` of a request whose target has no entity tag: only `*` matches.
///
/// # Errors
///
/// Returns an error if the header is malformed or has tags.
pub(super) fn require_no_entity_tags(headers: &HeaderMap) -> Result<(), PreconditionError> {
    match revisions(headers)? {
        None => Ok(()),
        Some(_) => Err(PreconditionError::NoEntityTag),
    }
}

/// Returns the revisions in `If-Match`, or `None` for any. Weak tags and tags of other servers match
/// no revision.
///
/// # Errors
///
/// Returns an error if the header is malformed.
pub(super) fn revisions(headers: &HeaderMap) -> Result<Option<Vec<u64>>, PreconditionError> {
    let values = headers.get_all(IF_MATCH);
    let values: Result<Vec<_>, _> = values.iter().map(HeaderValue::to_str).collect();
    let values = values.map_err(|_| PreconditionError::Malformed)?;
    if values.is_empty() {
        return Ok(None);
    }
    // Several lines are one list (RFC 9110 §5.3).
    let list = values.join(", ");
    if list.trim() == "*" {
        return Ok(None);
    }
    let tags = entity_tags(&list).filter(|tags| !tags.is_empty());
    let tags = tags.ok_or(PreconditionError::Malformed)?;
    Ok(Some(
        tags.into_iter().flatten().filter_map(revision).collect(),
    ))
}

/// Returns the revision of an entity tag as this server writes it: `+1` and `01` are other tags.
fn revision(tag: &str) -> Option<u64> {
    let revision: u64 = tag.parse().ok()?;
    (revision.to_string() == tag).then_some(revision)
}

/// Returns the text of each tag of a list, `None` for a weak one (RFC 9110 §8.8.3). A tag may
/// contain a comma. Empty elements of the list are skipped (RFC 9110 §5.6.1).
fn entity_tags(text: &str) -> Option<Vec<Option<&str>>> {
    let between = [' ', '\t', ','];
    let mut tags = Vec::new();
    let mut rest = text.trim_start_matches(between);
    while !rest.is_empty() {
        let weak = rest.strip_prefix("W/");
        let (tag, after) = weak.unwrap_or(rest).strip_prefix('"')?.split_once('"')?;
        if tag.contains([' ', '\t']) {
            return None;
        }
        tags.push(weak.is_none().then_some(tag));
        let after = after.trim_start_matches([' ', '\t']);
        if !(after.is_empty() || after.starts_with(',')) {
            return None;
        }
        rest = after.trim_start_matches(between);
    }
    Some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|value| value.parse());
        let headers = values.map(|value| (IF_MATCH, value.expect("a header's value")));
        headers.collect()
    }

    fn of(values: &[&str]) -> Result<Option<Vec<u64>>, ()> {
        revisions(&headers(values)).map_err(drop)
    }

    #[test]
    fn no_tag_matches_what_has_none() {
        for (values, expected) in [
            (&[][..], Ok(())),
            (&["*"], Ok(())),
            (&["\"1\""], Err(PreconditionError::NoEntityTag)),
            (&["W/\"1\""], Err(PreconditionError::NoEntityTag)),
            (&["1"], Err(PreconditionError::Malformed)),
        ] {
            assert_eq!(
                require_no_entity_tags(&headers(values)),
                expected,
                "{values:?}"
            );
        }
    }

    #[test]
    fn reads_tags_from_lists_and_repeated_headers() {
        for (values, expected) in [
            (&[][..], None),
            (&["*"], None),
            (&["\"1\""], Some(vec![1])),
            (&["\"1\" , \"2\",\"x\""], Some(vec![1, 2])),
            (&["\"1\"", "\"2\""], Some(vec![1, 2])),
            (
                &["\"1\"", "", "W/\"2\"", "\"3\",\"4\""],
                Some(vec![1, 3, 4]),
            ),
            (&[",\"1\""], Some(vec![1])),
            (&[" , ,\t\"1\",, \"2\" ,"], Some(vec![1, 2])),
            (&["W/\"1\", \"2\""], Some(vec![2])),
            (&["\"1,2\""], Some(vec![])),
            (&["\"\""], Some(vec![])),
            (&["\"+1\", \"01\", \"-0\""], Some(vec![])),
        ] {
            assert_eq!(of(values), Ok(expected), "{values:?}");
        }
    }

    #[test]
    fn rejects_malformed_tags() {
        for value in [
            "",
            "1",
            "\"1",
            "1\"",
            "\"1\" \"2\"",
            "\"1\"2",
            "w/\"1\"",
            "\"1 2\"",
            ",",
            "\"9\",*",
            "*,\"9\"",
            "*,*",
            "*,",
        ] {
            assert_eq!(of(&[value]), Err(()), "{value}");
        }
        for values in [
            ["\"9\"", "*"],
            ["*", "\"9\""],
            ["*", "*"],
            ["\"9\"", "x"],
            ["\"1", "2\""],
            ["", ""],
        ] {
            assert_eq!(of(&values), Err(()), "{values:?}");
        }
    }
}
