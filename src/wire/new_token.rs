//! A [`NewToken`] as the body of a creation.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::token_request::CreateRequest;
use crate::lifecycle::{LifecycleError, NewToken};

impl Serialize for NewToken {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let request = CreateRequest::try_from(self).map_err(ser::Error::custom)?;
        request.serialize(to)
    }
}

impl<'de> Deserialize<'de> for NewToken {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let request = CreateRequest::deserialize(from)?;
        let problems = |problems| de::Error::custom(LifecycleError::Invalid(problems));
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

    #[test]
    fn errors_name_the_member() {
        for (json, expected) in [
            (
                r#"{"name":"ci","expires_at":"soon"}"#,
                "/expires_at: an expiry is",
            ),
            (
                r#"{"name":"ci","not_before":"soon"}"#,
                "/not_before: not a date",
            ),
            (
                r#"{"name":"ci","expires_at":"30d","expires_in":"30d"}"#,
                "/expires_in: either",
            ),
            (r#"{"name":"ci","color":"red"}"#, "unknown field `color`"),
            ("[]", "an object"),
        ] {
            let error = serde_json::from_str::<NewToken>(json).expect_err(json);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
