//! A [`NewToken`] as the body of a creation.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use serde_json::Value;

use super::json::from_members;
use super::token_request::CreateRequest;
use crate::lifecycle::{LifecycleError, NewToken};
use crate::unique_json::UniqueValue;

impl Serialize for NewToken {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let request = CreateRequest::try_from(self).map_err(ser::Error::custom)?;
        request.serialize(to)
    }
}

impl<'de> Deserialize<'de> for NewToken {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let UniqueValue(Value::Object(members)) = UniqueValue::deserialize(from)? else {
            return Err(D::Error::custom("a new token is an object"));
        };
        let request: CreateRequest = from_members(members).map_err(D::Error::custom)?;
        let problems = |problems| D::Error::custom(LifecycleError::Invalid(problems));
        request.try_into().map_err(problems)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use serde_json::json;

    use super::*;
    use crate::lifecycle::Expiry;

    #[test]
    fn round_trips_every_member_but_the_idempotency_key() {
        let new = NewToken::new("ci")
            .with_description("d")
            .with_subject("s")
            .with_owner("o")
            .with_roles(["r"])
            .with_scopes(["a:b"])
            .with_label("k", "v")
            .with_not_before(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
            .with_expiry("30d".parse().expect("an expiry"));
        let json = json!(new.clone().with_idempotency_key("key"));
        assert_eq!(
            json,
            json!({
                "name": "ci", "description": "d", "subject": "s", "owner": "o",
                "roles": ["r"], "scopes": ["a:b"], "labels": { "k": "v" }, "not_before": "1970-01-01T00:00:01Z", "expires_in": "P30D",
            })
        );
        let read: NewToken = serde_json::from_value(json).expect("what was written");
        assert_eq!(format!("{read:?}"), format!("{new:?}"));
    }

    #[test]
    fn absent_expiry_is_that_of_the_policy_and_null_is_never() {
        let expiry = |json: &str| {
            let new: NewToken = serde_json::from_str(json).expect(json);
            new.expiry
                .map(|expiry| expiry.resolve(SystemTime::UNIX_EPOCH))
        };
        assert_eq!(expiry(r#"{"name":"ci"}"#), None);
        assert_eq!(expiry(r#"{"name":"ci","expires_at":null}"#), Some(Ok(None)));
        let never = NewToken::new("ci").with_expiry(Expiry::NEVER);
        assert_eq!(json!(never)["expires_at"], json!(null));
        assert_eq!(json!(NewToken::new("ci")).get("expires_at"), None);
    }

    fn error(json: &str) -> String {
        let error = serde_json::from_str::<NewToken>(json).expect_err(json);
        assert!(error.is_data(), "{json}: {error}");
        let error = error.to_string();
        assert!(!error.contains("hush"), "{error}");
        error
    }

    #[test]
    fn errors_name_the_member() {
        for (json, expected) in [
            (
                r#"{"name":"ci","expires_at":"soon"}"#,
                "/expires_at: an expiry is",
            ),
            (
                r#"{"name":"ci","expires_in":""}"#,
                "/expires_in: an expiry is",
            ),
            (
                r#"{"name":"ci","expires_in":" "}"#,
                "/expires_in: an expiry is",
            ),
            (
                r#"{"name":"ci","not_before":"soon"}"#,
                "/not_before: not a date",
            ),
            (
                r#"{"name":"ci","expires_at":"30d","expires_in":"30d"}"#,
                "/expires_in: either",
            ),
            (r#"{"name":"ci","color":"red"}"#, "/color: unknown member"),
            (r#"{"name":["hush"]}"#, "/name: not a string"),
            (r#"{"name":"ci","scopes":"hush"}"#, "/scopes: not an array"),
            (r#"{"name":"ci","roles":["a",5]}"#, "/roles/1: not a string"),
            (
                r#"{"name":"ci","labels":["hush"]}"#,
                "/labels: not an object",
            ),
        ] {
            let error = error(json);
            assert!(error.starts_with(expected), "{error}");
        }
    }

    /// Otherwise the sender chooses which of two values a reader of the same text uses.
    #[test]
    fn rejects_repeated_members() {
        for (json, pointer) in [
            (r#"{"name":"hush","name":"ci"}"#, "/name"),
            (
                r#"{"name":"ci","labels":{"a/b":"hush","a/b":"2"}}"#,
                "/labels/a~1b",
            ),
            (
                r#"{"name":"ci","scopes":[],"scop\u0065s":["hush"]}"#,
                "/scopes",
            ),
        ] {
            let expected = format!("{pointer}: the member is given twice");
            let error = error(json);
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    /// Also in formats that are not JSON: an array of members has no names.
    #[test]
    fn rejects_what_is_no_object() {
        for json in ["[]", r#"["hush"]"#, r#""hush""#, "5", "true", "null"] {
            let error = error(json);
            assert!(error.starts_with("a new token is an object"), "{error}");
        }
        let members = serde::de::value::SeqDeserializer::<_, serde_json::Error>::new(
            ["ci", "description"].into_iter(),
        );
        assert!(NewToken::deserialize(members).is_err());
    }

    /// So that axum's `Json` responds with 400 instead of 422.
    #[test]
    fn broken_syntax_is_a_syntax_error() {
        for json in [r#"{"name":"ci""#, r#"{"name":}"#, "{]"] {
            let error = serde_json::from_str::<NewToken>(json).expect_err(json);
            assert!(!error.is_data(), "{json}: {error}");
        }
    }
}
