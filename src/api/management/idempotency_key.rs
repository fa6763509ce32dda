use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use super::problem::Problem;
use crate::lifecycle::{IDEMPOTENCY_KEY_FORM, is_idempotency_key};

pub(super) const NAME: HeaderName = HeaderName::from_static("idempotency-key");

/// The header in the OpenAPI document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only describes the header")]
pub(super) struct IdempotencyKey {
    /// A key for each token to create and for each rotation, such as a random UUID. A repeated request
    /// with the same key creates no second token and no second secret. Also accepted as a quoted
    /// string. The key of a creation is valid as long as the record of the token, that of a rotation
    /// until the next one.
    #[param(
        rename = "Idempotency-Key",
        required = false,
        pattern = "^[!#-~]{1,255}$"
    )]
    key: String,
}

/// The key of a request, if any.
pub(super) struct RequestKey(pub(super) Option<String>);

impl<S: Sync> FromRequestParts<S> for RequestKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        from_headers(&parts.headers).map(Self)
    }
}

/// Returns the key of a request, if any (draft-ietf-httpapi-idempotency-key-header). It is bare, or
/// the string of a structured field (RFC 9651 §3.3.3).
fn from_headers(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(NAME).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Problem::malformed("idempotency-key is repeated"));
    }
    let text = value.to_str().unwrap_or_default().trim();
    let key = match text.strip_prefix('"') {
        None => Some(text.to_owned()),
        Some(rest) => rest.strip_suffix('"').and_then(unescaped),
    };
    let key = key.filter(|key| is_idempotency_key(key)).ok_or_else(|| {
        Problem::malformed(format!("idempotency-key must be {IDEMPOTENCY_KEY_FORM}"))
    })?;
    Ok(Some(key))
}

/// Unescapes the text between the quotes. `\` escapes only `"` and `\`.
fn unescaped(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => return None,
            '\\' => plain.push(chars.next().filter(|next| matches!(next, '"' | '\\'))?),
            char => plain.push(char),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(values: &[&[u8]]) -> Result<Option<String>, ()> {
        let values = values.iter().map(|value| value.to_vec().try_into());
        let headers = values.map(|value| (NAME, value.expect("a header's value")));
        from_headers(&headers.collect()).map_err(drop)
    }

    #[test]
    fn accepts_bare_and_quoted_keys() {
        assert_eq!(key(&[]), Ok(None));
        for (value, expected) in [
            ("8e03978e-40d5", "8e03978e-40d5"),
            ("\"8e03978e-40d5\"", "8e03978e-40d5"),
            ("  \"a\" ", "a"),
            ("a\"b\\", "a\"b\\"),
            (r#""a\"b\\""#, "a\"b\\"),
        ] {
            assert_eq!(
                key(&[value.as_bytes()]),
                Ok(Some(expected.into())),
                "{value}"
            );
        }
    }

    #[test]
    fn rejects_malformed_keys() {
        let long = "a".repeat(256);
        for value in [
            "",
            " ",
            "a b",
            "\"\"",
            "\"",
            "\"a",
            "\"a\"b\"",
            "\"a\\\"",
            "\"\\a\"",
            "\"a b\"",
            "\"a\";p=1",
            "a, b",
            &long,
        ] {
            assert_eq!(key(&[value.as_bytes()]), Err(()), "{value}");
        }
        assert_eq!(key(&[b"\xff"]), Err(()));
        assert_eq!(key(&[b"a", b"a"]), Err(()));
    }
}
