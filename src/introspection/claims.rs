use std::time::SystemTime;

use serde_json::{Map, Value};

use super::metrics;
use super::times::{self, Leeway};
use crate::unique_json;

/// The claims of an active token that this crate uses.
///
/// Members that are absent or `null` are `None`, and so are empty names.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) subject: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) username: Option<String>,
    pub(super) name: Option<String>,
    /// Of a token of this crate. It confines the token, so it is read without being asked for.
    pub(super) owner: Option<String>,
    pub(super) token_type: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) jti: Option<String>,
    pub(super) audience: Vec<String>,
    pub(super) scopes: Vec<String>,
    pub(super) roles: Vec<String>,
    pub(super) labels: Vec<(String, String)>,
    /// Including the leeway, like `not_before`.
    pub(super) expires_at: Option<SystemTime>,
    pub(super) not_before: Option<SystemTime>,
    pub(super) issued_at: Option<SystemTime>,
    /// Whether the token is bound to a key whose possession the caller must prove.
    pub(super) is_bound: bool,
}

/// Reads claims from the body of a response.
#[derive(Clone, Debug, Default)]
pub(super) struct ClaimsParser {
    /// The member that holds the roles, or a path of names separated by dots.
    pub(super) role_claim: Option<String>,
    pub(super) labels_claim: Option<String>,
    pub(super) is_lenient: bool,
    pub(super) leeway: Leeway,
}

/// Why a response is malformed, for logs.
pub(super) type ParseError = String;

impl Claims {
    /// Returns about how many bytes of memory the claims use. Texts count twice, because the record
    /// has them too.
    pub(super) fn weight(&self) -> usize {
        const FIXED: usize = 1_024;
        let texts = [
            &self.subject,
            &self.client_id,
            &self.username,
            &self.name,
            &self.owner,
        ];
        let texts = texts
            .into_iter()
            .chain([&self.token_type, &self.issuer, &self.jti]);
        let texts = texts.flatten().map(String::len);
        let lists = [&self.audience, &self.scopes, &self.roles];
        let lists = lists.into_iter().flatten().map(|text| text.len() + 24);
        let labels = self.labels.iter();
        let labels = labels.map(|(key, value)| key.len() + value.len() + 48);
        let bytes: usize = texts.chain(lists).chain(labels).sum();
        FIXED + 2 * bytes
    }
}

impl ClaimsParser {
    /// Returns the claims of an active token, or `None` if the token is not active (RFC 7662 §2.2).
    pub(super) fn parse(&self, body: &[u8]) -> Result<Option<Claims>, ParseError> {
        let members = unique_json::object(body).map_err(|error| {
            // Without the message of the error, which may quote a secret.
            let (line, column) = (error.line(), error.column());
            let why = "the response is not a JSON object with unique members";
            format!("{why} (line {line}, column {column})")
        })?;
        match members.get("active") {
            Some(Value::Bool(true)) => self.claims(&members).map(Some),
            Some(Value::Bool(false)) => Ok(None),
            _ => Err("the member 'active' is neither true nor false".into()),
        }
    }

    fn claims(&self, members: &Map<String, Value>) -> Result<Claims, ParseError> {
        let text = |name| read(members.get(name), name, "a string", to_text);
        let name = |name| Ok::<_, ParseError>(text(name)?.filter(|text| !text.is_empty()));
        // A token without an owner is not confined, so what cannot be one is an error.
        let owner = |value: &Value| to_text(value).filter(|owner| !owner.is_empty());
        let owner = read(members.get("owner"), "owner", "a text", owner)?;
        // Fractions are rounded against the token's holder.
        let time = |name, round| {
            read(members.get(name), name, "a number", |value| {
                times::read(value, self.is_lenient, round)
            })
        };
        let scopes = read(members.get("scope"), "scope", "a string", |value| {
            let is_allowed = value.is_string() || self.is_lenient;
            words_or_texts(value).filter(|_| is_allowed)
        });
        let expected = "a string or an array of strings";
        let audience = read(members.get("aud"), "aud", expected, text_or_texts);
        let roles = self.role_claim.as_ref();
        let roles = roles.and_then(|path| find(members, path));
        let labels = self.labels_claim.as_ref();
        let labels = labels.and_then(|name| members.get(name));
        Ok(Claims {
            subject: name("sub")?,
            client_id: name("client_id")?,
            username: name("username")?,
            name: members.get("name").and_then(to_text),
            owner,
            token_type: text("token_type")?,
            issuer: text("iss")?,
            jti: name("jti")?,
            audience: audience?.unwrap_or_default(),
            scopes: scopes?.unwrap_or_default(),
            roles: read_or_warn(roles, "roles", words_or_texts),
            labels: read_or_warn(labels, "labels", to_labels),
            expires_at: time("exp", f64::floor)?.map(|time| self.leeway.postpone(time)),
            not_before: time("nbf", f64::ceil)?.map(|time| self.leeway.advance(time)),
            issued_at: time("iat", f64::ceil)?,
            is_bound: members.get("cnf").is_some_and(|value| !value.is_null()),
        })
    }
}

/// Reads an optional member. `expected` names its type.
fn read<T>(
    value: Option<&Value>,
    name: &str,
    expected: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<Option<T>, ParseError> {
    let value = value.filter(|value| !value.is_null());
    let malformed = || format!("the member '{name}' is not {expected}");
    value
        .map(|value| read(value).ok_or_else(malformed))
        .transpose()
}

/// Reads a claim that the user has named. One of another type is empty and logged.
fn read_or_warn<T: Default>(
    value: Option<&Value>,
    claim: &'static str,
    to_claim: impl FnOnce(&Value) -> Option<T>,
) -> T {
    let claim = read(value, claim, "valid", to_claim).unwrap_or_else(|_| {
        metrics::malformed_claim(claim);
        None
    });
    claim.unwrap_or_default()
}

/// Returns the member of this name, which may be a URL, or else the one at this path.
fn find<'a>(members: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    members.get(path).or_else(|| {
        let mut names = path.split('.');
        let first = members.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    })
}

fn to_text(value: &Value) -> Option<String> {
    value.as_str().map(Into::into)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(to_text).collect()
}

fn text_or_texts(value: &Value) -> Option<Vec<String>> {
    let text = to_text(value).map(|text| vec![text]);
    text.or_else(|| texts(value))
}

/// Reads a string of words separated by spaces, or an array of strings.
fn words_or_texts(value: &Value) -> Option<Vec<String>> {
    let Some(text) = value.as_str() else {
        return texts(value);
    };
    let words = text.split(' ').filter(|word| !word.is_empty());
    Some(words.map(Into::into).collect())
}

fn to_labels(value: &Value) -> Option<Vec<(String, String)>> {
    let labels = value.as_object()?.iter();
    labels
        .map(|(key, value)| Some((key.clone(), to_text(value)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(body: &str) -> Result<Option<Claims>, ParseError> {
        ClaimsParser::default().parse(body.as_bytes())
    }

    fn active(members: &str) -> Result<Claims, ParseError> {
        Ok(parse(&format!("{{\"active\":true,{members}}}"))?.expect("active"))
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
        assert!(parse(r#"{"active":true}"#).unwrap().is_some());
        assert!(parse(r#"{"active":false,"exp":"odd"}"#).unwrap().is_none());
        for other in ["\"true\"", "1", "null", "[true]", "{}"] {
            assert!(
                parse(&format!("{{\"active\":{other}}}")).is_err(),
                "{other}"
            );
        }
        assert!(parse("{}").is_err());
        assert!(parse(r#"{"Active":true}"#).is_err());
    }

    #[test]
    fn lenient_mode_accepts_string_times_and_scope_arrays() {
        let claims_parser = ClaimsParser {
            is_lenient: true,
            ..ClaimsParser::default()
        };
        let body = br#"{"active":true,"exp":"5","scope":["a","b"]}"#;
        let claims = claims_parser.parse(body).unwrap().unwrap();
        let fifth_second = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
        assert_eq!(claims.expires_at, Some(fifth_second));
        assert_eq!(claims.scopes, ["a", "b"]);
        for odd in [
            r#""exp":"5s""#,
            r#""exp":"""#,
            r#""exp":"+5""#,
            r#""exp":"1.5""#,
            r#""scope":[1]"#,
        ] {
            let body = format!("{{\"active\":true,{odd}}}");
            assert!(claims_parser.parse(body.as_bytes()).is_err(), "{odd}");
        }
    }

    #[test]
    fn rejects_members_of_the_wrong_type() {
        for name in "sub client_id username token_type iss jti scope owner".split(' ') {
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
            let error = parse(body).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
