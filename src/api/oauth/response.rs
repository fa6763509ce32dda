use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use crate::clock::UnixMillis;
use crate::principal::Principal;
use crate::store::TokenRecord;

/// The introspection of any other token.
pub(super) const INACTIVE: &str = r#"{"active":false}"#;

/// The introspection of a valid token (RFC 7662 §2.2).
#[derive(Serialize)]
pub(super) struct Introspection<'a> {
    active: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    scope: String,
    client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    jti: String,
    token_type: &'static str,
    roles: Vec<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aud: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'a str, &'a str>,
}

impl<'a> Introspection<'a> {
    pub(super) fn new(record: &'a TokenRecord, principal: &Principal) -> Self {
        let grace_end = record.grace_ends_at();
        let grace_end = grace_end.filter(|_| principal.uses_previous_secret());
        let ends = record.expires_at().into_iter().chain(grace_end);
        let scopes: Vec<_> = record.scopes().iter().collect();
        Self {
            active: true,
            scope: scopes.join(" "),
            client_id: record.display_id().to_string(),
            sub: record.subject(),
            owner: record.owner(),
            exp: ends.min().map(seconds),
            iat: record.created_at().map(seconds),
            nbf: record.not_before().map(seconds),
            jti: record.display_id().to_string(),
            token_type: "Bearer",
            roles: record.roles().iter().collect(),
            name: record.name(),
            iss: None,
            aud: None,
            labels: record.labels().collect(),
        }
    }
}

/// Returns the seconds since 1970, rounded down, so that no reader accepts a token for too long.
fn seconds(time: SystemTime) -> i64 {
    // 9999-12-31T23:59:59Z. RFC 3339 has no later second.
    const LAST: i64 = 253_402_300_799;
    UnixMillis::from(time)
        .as_millis()
        .div_euclid(1000)
        .min(LAST)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn rounds_down_on_both_sides_of_the_epoch() {
        let part = Duration::from_millis(1999);
        assert_eq!(seconds(UNIX_EPOCH + part), 1);
        assert_eq!(seconds(UNIX_EPOCH - part), -2);
        assert_eq!(seconds(UNIX_EPOCH - Duration::from_secs(2)), -2);
        let end = UNIX_EPOCH + Duration::from_secs(253_402_300_800);
        assert_eq!(seconds(end), 253_402_300_799);
    }
}
