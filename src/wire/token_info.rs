use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::store::{TokenRecord, TokenStatus};
use crate::token::TokenId;
use crate::unique_json::deserialize_map;

/// The public fields of a token.
///
/// As JSON this is the token of the [management API](crate#features), the client and the command
/// line. Every member is present, and `null` if it has no value. Times are RFC 3339 in UTC. Reading
/// skips unknown members.
///
/// ```
/// use std::time::SystemTime;
/// use tower_service_token::store::TokenRecord;
/// use tower_service_token::token::TokenFormat;
/// use tower_service_token::wire::TokenInfo;
///
/// let record = TokenRecord::from(&TokenFormat::default().mint()?).with_name("ci");
/// let info = TokenInfo::new(&record, SystemTime::now());
/// let json = serde_json::to_value(&info)?;
/// assert_eq!(json["state"], "active");
/// assert_eq!(serde_json::from_value::<TokenInfo>(json)?.id, record.id());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "api",
    schema(as = ServiceToken, description = "The public fields of a token, without its secret.")
)]
#[non_exhaustive]
pub struct TokenInfo {
    /// The public id.
    #[cfg_attr(feature = "api", schema(value_type = String, pattern = "^[0-9A-Za-z]{10}$"))]
    pub id: TokenId,
    /// The name, for people.
    pub name: String,
    /// What the token is for.
    #[cfg_attr(feature = "api", schema(required))]
    pub description: Option<String>,
    /// Whom the token acts for.
    #[cfg_attr(feature = "api", schema(required))]
    pub subject: Option<String>,
    /// Who manages the token. `None` also if the server is of a release without owners.
    #[serde(default)]
    #[cfg_attr(feature = "api", schema(required))]
    pub owner: Option<String>,
    /// The roles.
    pub roles: Vec<String>,
    /// The scopes.
    pub scopes: Vec<String>,
    /// The labels.
    #[serde(default, deserialize_with = "deserialize_map")]
    #[cfg_attr(feature = "api", schema(required))]
    pub labels: BTreeMap<String, String>,
    /// Whether the token is accepted, at the time of the response.
    #[cfg_attr(feature = "api", schema(schema_with = super::schema::state))]
    pub state: TokenStatus,
    /// When the token was created.
    #[serde(default, with = "time")]
    #[cfg_attr(feature = "api", schema(required, value_type = Option<String>, format = DateTime))]
    pub created_at: Option<SystemTime>,
    /// The [name](crate::lifecycle::Actor::name) of the actor that created it, such as `operator:alice` or
    /// `token:6GcLxtJEDQ`. `None` if it is unknown, or if the token got another owner since.
    #[cfg_attr(feature = "api", schema(required))]
    pub created_by: Option<String>,
    /// When the token was last changed.
    #[serde(default, with = "time")]
    #[cfg_attr(feature = "api", schema(required, value_type = Option<String>, format = DateTime))]
    pub updated_at: Option<SystemTime>,
    /// When the token expires.
    #[serde(default, with = "time")]
    #[cfg_attr(feature = "api", schema(required, value_type = Option<String>, format = DateTime))]
    pub expires_at: Option<SystemTime>,
    /// When the token starts working.
    #[serde(default, with = "time")]
    #[cfg_attr(feature = "api", schema(required, value_type = Option<String>, format = DateTime))]
    pub not_before: Option<SystemTime>,
    /// When the token was last used, approximately.
    #[serde(default, with = "time")]
    #[cfg_attr(feature = "api", schema(required, value_type = Option<String>, format = DateTime))]
    pub last_used_at: Option<SystemTime>,
    /// When the secret was last changed.
    #[serde(default, with = "time")]
    #[cfg_attr(feature = "api", schema(required, value_type = Option<String>, format = DateTime))]
    pub rotated_at: Option<SystemTime>,
    /// When the secret from before the last rotation stops working.
    #[serde(default, with = "time")]
    #[cfg_attr(feature = "api", schema(required, value_type = Option<String>, format = DateTime))]
    pub grace_ends_at: Option<SystemTime>,
    /// The text of the token with the secret redacted.
    #[cfg_attr(feature = "api", schema(required))]
    pub hint: Option<String>,
    /// The revision, for [`if_revision`](crate::lifecycle::TokenUpdate::if_revision). Not part of
    /// the JSON: the management API sends it as `ETag` of a single token.
    #[serde(skip)]
    pub revision: Option<u64>,
}

impl TokenInfo {
    /// Describes a token, with its state as of `now`.
    pub fn new(record: &TokenRecord, now: SystemTime) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self {
            id: record.id(),
            name: record.name().to_owned(),
            description: owned(record.description()),
            subject: owned(record.subject()),
            owner: owned(record.owner()),
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

/// RFC 3339 times in UTC.
pub(super) mod time {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use crate::clock::date_time;

    #[expect(clippy::ref_option, reason = "serde passes a field by reference")]
    pub(crate) fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        time.and_then(date_time::format).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else {
            return Ok(None);
        };
        date_time::parse_start(&text)
            .map(Some)
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_unknown_members_and_rejects_malformed_ones() {
        let json = r#"{"id":"7Hq2mX9bTe","name":"ci","roles":[],"scopes":["a:b"],
            "state":"revoked","expires_at":"2027-01-15T08:00:00Z","color":"red"}"#;
        let info: TokenInfo = serde_json::from_str(json).expect("readable");
        assert_eq!(info.state, TokenStatus::Revoked);
        let expiry = std::time::Duration::from_secs(1_800_000_000);
        assert_eq!(info.expires_at, Some(SystemTime::UNIX_EPOCH + expiry));
        for (good, bad) in [
            ("7Hq2mX9bTe", "7Hq2mX9bT"),
            ("\"revoked\"", "\"gone\""),
            ("2027-01-15T08:00:00Z", "tomorrow"),
            ("\"name\"", "\"label\""),
            ("\"color\":\"red\"", "\"labels\":{\"a\":\"1\",\"a\":\"2\"}"),
        ] {
            let json = json.replace(good, bad);
            assert!(serde_json::from_str::<TokenInfo>(&json).is_err(), "{json}");
        }
    }
}
