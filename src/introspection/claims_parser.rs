use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::claims::Claims;
use super::json;
use super::metrics;

/// How answers are read.
#[derive(Clone, Debug, Default)]
pub(super) struct ClaimsParser {
    /// The member that holds the roles, or the names that lead to it, parted by dots.
    pub(super) role_claim: Option<String>,
    pub(super) labels_claim: Option<String>,
    pub(super) is_lenient: bool,
}

/// Why an answer cannot be read; a text for logs.
pub(super) type ParseError = String;

impl ClaimsParser {
    /// The claims of an active token; `None` if it is not active (RFC 7662 §2.2).
    pub(super) fn parse(&self, body: &[u8]) -> Result<Option<Claims>, ParseError> {
        let members = json::object(body).map_err(|error| json_error(&error))?;
        match members.get("active") {
            Some(Value::Bool(true)) => self.claims(&members).map(Some),
            Some(Value::Bool(false)) => Ok(None),
            _ => Err("the member 'active' is neither true nor false".into()),
        }
    }

    fn claims(&self, members: &Map<String, Value>) -> Result<Claims, ParseError> {
        Ok(Claims {
            subject: name(members, "sub")?,
            client_id: name(members, "client_id")?,
            username: name(members, "username")?,
            name: members.get("name").and_then(Value::as_str).map(Into::into),
            token_type: text(members, "token_type")?,
            issuer: text(members, "iss")?,
            jti: name(members, "jti")?,
            audience: audience(members)?,
            scopes: self.scopes(members)?,
            roles: self.roles(members),
            labels: self.labels(members),
            expires_at: self.time(members, "exp")?,
            not_before: self.time(members, "nbf")?,
            issued_at: self.time(members, "iat")?,
            is_bound: members.get("cnf").is_some_and(|value| !value.is_null()),
        })
    }

    fn scopes(&self, members: &Map<String, Value>) -> Result<Vec<String>, ParseError> {
        match members.get("scope") {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(words(text)),
            Some(Value::Array(items)) if self.is_lenient => {
                texts(items).ok_or_else(|| not_a("scope", "an array of strings"))
            }
            Some(_) => Err(not_a("scope", "a string")),
        }
    }

    /// A time in whole seconds since the epoch (RFC 7519 §2, without fractions).
    fn time(
        &self,
        members: &Map<String, Value>,
        name: &str,
    ) -> Result<Option<SystemTime>, ParseError> {
        let seconds = match members.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) if number.is_u64() => number.as_u64(),
            // Before 1970 is past, however long.
            Some(Value::Number(number)) if number.is_i64() => Some(0),
            Some(Value::String(digits)) if self.is_lenient => whole_number(digits),
            Some(_) => None,
        };
        let seconds = seconds.ok_or_else(|| not_a(name, "an integer"))?;
        Ok(Some(time(seconds)))
    }

    fn roles(&self, members: &Map<String, Value>) -> Vec<String> {
        let claim = self.role_claim.as_deref();
        let roles = match claim.and_then(|path| find(members, path)) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::String(text)) => Some(words(text)),
            Some(Value::Array(items)) => texts(items),
            Some(_) => None,
        };
        roles.unwrap_or_else(|| {
            metrics::malformed_claim("roles");
            Vec::new()
        })
    }

    fn labels(&self, members: &Map<String, Value>) -> Vec<(String, String)> {
        let claim = self
            .labels_claim
            .as_ref()
            .and_then(|name| members.get(name));
        let labels = match claim {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Object(labels)) => labels
                .iter()
                .map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
            Some(_) => None,
        };
        labels.unwrap_or_else(|| {
            metrics::malformed_claim("labels");
            Vec::new()
        })
    }
}

/// The member of this name, which may be a URL, or the one that a path leads to.
fn find<'a>(members: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    members.get(path).or_else(|| {
        let mut names = path.split('.');
        let first = members.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    })
}

/// The latest time that can be told, where a server means "never".
fn time(seconds: u64) -> SystemTime {
    const LAST: u64 = 253_402_300_799;
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LAST))
}

/// The error without its excerpt of the text, which may be a secret.
fn json_error(error: &serde_json::Error) -> ParseError {
    let (line, column) = (error.line(), error.column());
    format!("the answer is not a JSON object with each member once (line {line}, column {column})")
}

fn not_a(name: &str, what: &str) -> ParseError {
    format!("the member '{name}' is not {what}")
}

fn text(members: &Map<String, Value>, name: &str) -> Result<Option<String>, ParseError> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(not_a(name, "a string")),
    }
}

/// A text that names someone or something, so not an empty one.
fn name(members: &Map<String, Value>, name: &str) -> Result<Option<String>, ParseError> {
    Ok(text(members, name)?.filter(|text| !text.is_empty()))
}

/// Digits alone: no sign.
fn whole_number(digits: &str) -> Option<u64> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

fn audience(members: &Map<String, Value>) -> Result<Vec<String>, ParseError> {
    match members.get("aud") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(items)) => {
            texts(items).ok_or_else(|| not_a("aud", "a string or an array of strings"))
        }
        Some(_) => Err(not_a("aud", "a string or an array of strings")),
    }
}

fn texts(items: &[Value]) -> Option<Vec<String>> {
    let texts = items.iter().map(|item| item.as_str().map(Into::into));
    texts.collect()
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(' ').filter(|word| !word.is_empty());
    words.map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Option<Claims>, ParseError> {
        ClaimsParser::default().parse(body.as_bytes())
    }

    fn active(members: &str) -> Result<Claims, ParseError> {
        Ok(read(&format!("{{\"active\":true,{members}}}"))?.expect("active"))
    }

    fn roles(path: &str, members: &str) -> Vec<String> {
        let claims_parser = ClaimsParser {
            role_claim: Some(path.into()),
            ..ClaimsParser::default()
        };
        let body = format!("{{\"active\":true,{members}}}");
        claims_parser.parse(body.as_bytes()).unwrap().unwrap().roles
    }

    #[test]
    fn active_must_be_a_json_boolean() {
        assert!(read(r#"{"active":true}"#).unwrap().is_some());
        assert!(read(r#"{"active":false,"exp":"odd"}"#).unwrap().is_none());
        for other in ["\"true\"", "1", "null", "[true]", "{}"] {
            assert!(read(&format!("{{\"active\":{other}}}")).is_err(), "{other}");
        }
        assert!(read("{}").is_err());
        assert!(read(r#"{"Active":true}"#).is_err());
    }

    #[test]
    fn times_are_integers_and_do_not_overflow() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(
            active(r#""exp":1500000000"#).unwrap().expires_at,
            at(1_500_000_000)
        );
        assert_eq!(active(r#""exp":null"#).unwrap().expires_at, None);
        assert_eq!(active(r#""exp":-1"#).unwrap().expires_at, at(0));
        let never = active(r#""exp":18446744073709551615"#).unwrap().expires_at;
        assert_eq!(never, at(253_402_300_799));
        for odd in [
            "1e20",
            "1.5",
            "\"5\"",
            "[5]",
            "true",
            "{}",
            "99999999999999999999",
        ] {
            for name in ["exp", "nbf", "iat"] {
                assert!(
                    active(&format!("\"{name}\":{odd}")).is_err(),
                    "{name} {odd}"
                );
            }
        }
    }

    #[test]
    fn lenient_mode_accepts_string_times_and_scope_arrays() {
        let claims_parser = ClaimsParser {
            is_lenient: true,
            ..ClaimsParser::default()
        };
        let body = br#"{"active":true,"exp":"5","scope":["a","b"]}"#;
        let claims = claims_parser.parse(body).unwrap().unwrap();
        assert_eq!(claims.expires_at, Some(time(5)));
        assert_eq!(claims.scopes, ["a", "b"]);
        for odd in [
            r#""exp":"5s""#,
            r#""exp":"""#,
            r#""exp":"+5""#,
            r#""exp":1.5"#,
            r#""scope":[1]"#,
        ] {
            let body = format!("{{\"active\":true,{odd}}}");
            assert!(claims_parser.parse(body.as_bytes()).is_err(), "{odd}");
        }
    }

    #[test]
    fn rejects_members_of_the_wrong_type() {
        for name in [
            "sub",
            "client_id",
            "username",
            "token_type",
            "iss",
            "jti",
            "scope",
        ] {
            for odd in ["5", "[\"a\"]", "{}", "true"] {
                assert!(
                    active(&format!("\"{name}\":{odd}")).is_err(),
                    "{name} {odd}"
                );
            }
            assert!(active(&format!("\"{name}\":null")).is_ok(), "{name}");
        }
        for odd in ["5", "{}", "[1]", "[\"a\",null]"] {
            assert!(active(&format!("\"aud\":{odd}")).is_err(), "aud {odd}");
        }
    }

    #[test]
    fn scopes_are_split_at_spaces() {
        assert_eq!(
            active(r#""scope":" a  b:c ""#).unwrap().scopes,
            ["a", "b:c"]
        );
        assert!(active(r#""scope":"""#).unwrap().scopes.is_empty());
        assert!(active(r#""sub":"x""#).unwrap().scopes.is_empty());
    }

    #[test]
    fn reads_roles_from_the_configured_path() {
        let members = r#""roles":["a","b"],"realm_access":{"roles":"c d"},"n":5,"m":["a",5],
            "https://example.com/roles":["e"]"#;
        assert_eq!(roles("roles", members), ["a", "b"]);
        assert_eq!(roles("realm_access.roles", members), ["c", "d"]);
        assert_eq!(roles("https://example.com/roles", members), ["e"]);
        for nowhere in [
            "n",
            "m",
            "roles.0",
            "realm_access",
            "realm_access.roles.x",
            "other.roles",
        ] {
            assert!(roles(nowhere, members).is_empty(), "{nowhere}");
        }
        assert!(active(members).unwrap().roles.is_empty());
    }

    #[test]
    fn detects_key_bound_tokens() {
        assert!(active(r#""cnf":{"jkt":"x"}"#).unwrap().is_bound);
        assert!(active(r#""cnf":false"#).unwrap().is_bound);
        assert!(!active(r#""cnf":null"#).unwrap().is_bound);
    }

    #[test]
    fn parse_errors_do_not_quote_the_response() {
        for body in [
            r#"{"active":secret}"#,
            r#"{"active":true,"secret":1,"secret":2}"#,
        ] {
            let error = read(body).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
