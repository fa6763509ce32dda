use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::store::{TokenRecord, TokenStatus};
use crate::token::TokenId;

/// A token as it is shown to people and programs: what is known of it, but for the digests.
///
/// As JSON it is the one shape of the [management API](crate#features), the client and the command
/// line: every member always, `null` where there is nothing, times as RFC 3339 has them, in UTC.
/// Members of unknown names are passed over when it is read.
///
/// ```
/// use std::time::SystemTime;
/// use tower_service_token::lifecycle::TokenInfo;
/// use tower_service_token::store::TokenRecord;
/// use tower_service_token::token::TokenFormat;
///
/// let record = TokenRecord::from(&TokenFormat::default().mint()?).with_name("ci");
/// let shown = TokenInfo::new(&record, SystemTime::now());
/// let json = serde_json::to_value(&shown)?;
/// assert_eq!(json["state"], "active");
/// assert_eq!(serde_json::from_value::<TokenInfo>(json)?.id, record.id());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "api",
    schema(description = "What is known of a token, but for its secret.")
)]
#[non_exhaustive]
pub struct TokenInfo {
    /// Its public id.
    #[serde(with = "text")]
    #[cfg_attr(feature = "api", schema(value_type = String, pattern = "^[0-9A-Za-z]{10}$"))]
    pub id: TokenId,
    /// What people call it.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[cfg_attr(feature = "api", schema(required))]
    pub description: Option<String>,
    /// Whom it acts for.
    #[serde(default)]
    #[cfg_attr(feature = "api", schema(required))]
    pub subject: Option<String>,
    /// Its roles.
    pub roles: Vec<String>,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// Its labels.
    #[serde(default)]
    #[cfg_attr(feature = "api", schema(required))]
    pub labels: BTreeMap<String, String>,
    /// Whether it works, at the moment at which it was shown.
    #[serde(with = "text")]
    #[cfg_attr(feature = "api", schema(schema_with = status_schema))]
    pub state: TokenStatus,
    /// When it was created.
    #[serde(default, with = "time")]
    #[cfg_attr(feature = "api", schema(required, value_type = Option<String>, format = DateTime))]
    pub created_at: Option<SystemTime>,
    /// The [name](super::Actor::name) of the actor that created it, such as `operator:alice` or
    /// `token:6GcLxtJEDQ`.
    #[serde(default)]
    #[cfg_attr(feature = "api", schema(required))]
    pub created_by: Option<String>,
    /// When it was last changed.
    #[serde(default, with = "time")]
    #[cfg_attr(feature = "api", schema(required, value_type = Option<String>, format = DateTime))]
    pub updated_at: Option<SystemTime>,
    /// When it stops working.
    #[serde(default, with = "time")]
    #[cfg_attr(feature = "api", schema(required, value_type = Option<String>, format = DateTime))]
    pub expires_at: Option<SystemTime>,
    /// When it starts working.
    #[serde(default, with = "time")]
    #[cfg_attr(feature = "api", schema(required, value_type = Option<String>, format = DateTime))]
    pub not_before: Option<SystemTime>,
    /// When it was last used, not to the second.
    #[serde(default, with = "time")]
    #[cfg_attr(feature = "api", schema(required, value_type = Option<String>, format = DateTime))]
    pub last_used_at: Option<SystemTime>,
    /// When its secret was last changed.
    #[serde(default, with = "time")]
    #[cfg_attr(feature = "api", schema(required, value_type = Option<String>, format = DateTime))]
    pub rotated_at: Option<SystemTime>,
    /// When the secret from before the last rotation stops working.
    #[serde(default, with = "time")]
    #[cfg_attr(feature = "api", schema(required, value_type = Option<String>, format = DateTime))]
    pub grace_ends_at: Option<SystemTime>,
    /// Its text with the secret left out.
    #[serde(default)]
    #[cfg_attr(feature = "api", schema(required))]
    pub hint: Option<String>,
    /// How often it was changed, for [`if_revision`](super::TokenUpdate::if_revision). Not part of
    /// the JSON: the management API says it as `ETag`, where it shows one token.
    #[serde(skip)]
    pub revision: Option<u64>,
}

impl TokenInfo {
    /// This token, with its state as of `now`.
    pub fn new(record: &TokenRecord, now: SystemTime) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            id: record.id(),
            name: record.name().to_owned(),
            description: owned(record.description()),
            subject: owned(record.subject()),
            roles: record.roles().iter().map(str::to_owned).collect(),
            scopes: record.scopes().iter().map(str::to_owned).collect(),
            labels: record
                .labels()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            state: record.status(now),
            created_at: record.created_at(),
            created_by: owned(record.created_by()),
            updated_at: record.updated_at(),
            expires_at: record.expires_at(),
            not_before: record.not_before(),
            last_used_at: record.last_used_at(),
            rotated_at: record.rotated_at(),
            grace_ends_at: record.grace_ends_at(),
            hint: owned(record.hint()),
            revision: Some(record.revision()),
        }
    }
}

#[cfg(feature = "api")]
fn status_schema() -> utoipa::openapi::Object {
    use TokenStatus::{Active, Disabled, Expired, Revoked};
    let status_schema = [Active, Disabled, Revoked, Expired].map(|state| state.to_string());
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::Type::String)
        .enum_values(Some(status_schema))
        .build()
}

/// What is written as a text.
mod text {
    use std::borrow::Cow;
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = Cow::<str>::deserialize(from)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Times as RFC 3339 has them, in UTC.
mod time {
    use std::time::SystemTime;

    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    #[expect(clippy::ref_option, reason = "serde passes a field by reference")]
    pub(super) fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        // What is out of the calendar's range cannot be said.
        let time = time.and_then(|time| Timestamp::try_from(time).ok());
        time.map(|time| time.to_string()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else {
            return Ok(None);
        };
        let time = text.parse::<Timestamp>();
        let time = time.map_err(|_| de::Error::custom("not a time of RFC 3339"))?;
        Ok(Some(time.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignores_unknown_members_and_requires_known_ones() {
        let json = r#"{"id":"7Hq2mX9bTe","name":"ci","roles":[],"scopes":["a:b"],
            "state":"revoked","expires_at":"2027-01-15T08:00:00Z","color":"red"}"#;
        let shown: TokenInfo = serde_json::from_str(json).expect("readable");
        assert_eq!(shown.state, TokenStatus::Revoked);
        let expiry = std::time::Duration::from_secs(1_800_000_000);
        assert_eq!(shown.expires_at, Some(SystemTime::UNIX_EPOCH + expiry));
        for (good, bad) in [
            ("7Hq2mX9bTe", "7Hq2mX9bT"),
            ("\"revoked\"", "\"gone\""),
            ("2027-01-15T08:00:00Z", "tomorrow"),
            ("\"name\"", "\"label\""),
        ] {
            let json = json.replace(good, bad);
            assert!(serde_json::from_str::<TokenInfo>(&json).is_err(), "{json}");
        }
    }
}
