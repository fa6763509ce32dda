use std::time::SystemTime;

use serde::Serialize;
use tower_service_token::internal::format_time;
use tower_service_token::lifecycle::expiry_date;
use tower_service_token::wire::TokenInfo;

use super::table::{columns, details};

/// A token in JSON and YAML output: that of the management API, with its revision.
#[derive(Serialize)]
pub(crate) struct TokenData<'a> {
    #[serde(flatten)]
    token: &'a TokenInfo,
    revision: Option<u64>,
}

impl<'a> TokenData<'a> {
    pub(crate) fn new(token: &'a TokenInfo) -> Self {
        let revision = token.revision;
        Self { token, revision }
    }
}

/// Formats a table with one line per token. `with_state` adds a column with the state of each.
pub(crate) fn token_table(tokens: &[TokenInfo], with_state: bool) -> String {
    let rows = tokens.iter().map(|token| {
        [
            token.id.to_string(),
            token.name.clone(),
            token.expires_at.map(expiration).unwrap_or_default(),
            list(&token.roles),
        ]
    });
    if !with_state {
        return columns(["ID", "NAME", "EXPIRATION", "ROLES"], rows);
    }
    let states = tokens.iter().map(|token| token.state.to_string());
    let rows = rows
        .zip(states)
        .map(|([id, name, expiration, roles], state)| [id, name, state, expiration, roles]);
    columns(["ID", "NAME", "STATE", "EXPIRATION", "ROLES"], rows)
}

/// Formats a table with all fields of one token.
pub(crate) fn token_details(token: &TokenInfo) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let time = |time: Option<SystemTime>| time.map(timestamp).unwrap_or_default();
    let labels = token
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    details([
        ("ID", token.id.to_string()),
        ("NAME", token.name.clone()),
        ("STATE", token.state.to_string()),
        (
            "EXPIRATION",
            token.expires_at.map(expiration).unwrap_or_default(),
        ),
        ("ROLES", list(&token.roles)),
        ("SCOPES", list(&token.scopes)),
        ("SUBJECT", text(&token.subject)),
        ("OWNER", text(&token.owner)),
        ("DESCRIPTION", text(&token.description)),
        ("LABELS", list(&labels.collect::<Vec<_>>())),
        ("CREATED", time(token.created_at)),
        ("CREATED BY", text(&token.created_by)),
        ("UPDATED", time(token.updated_at)),
        ("STARTS", time(token.not_before)),
        ("LAST USED", time(token.last_used_at)),
        ("ROTATED", time(token.rotated_at)),
        ("GRACE ENDS", time(token.grace_ends_at)),
        ("HINT", text(&token.hint)),
        (
            "REVISION",
            token.revision.map(|it| it.to_string()).unwrap_or_default(),
        ),
    ])
}

fn list(names: &[String]) -> String {
    format!("[{}]", names.join(" "))
}

/// Formats an expiry: as a date if the token is valid through the end of that day, else as a time.
fn expiration(time: SystemTime) -> String {
    expiry_date(time).unwrap_or_else(|| timestamp(time))
}

/// Formats a time to the second.
fn timestamp(time: SystemTime) -> String {
    let text = format_time(time).unwrap_or_default();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn formats_expiries_as_dates_or_times() {
        let midnight = SystemTime::UNIX_EPOCH + Duration::from_secs(1_801_440_000);
        assert_eq!(expiration(midnight), "2027-01-31");
        let later = midnight + Duration::from_millis(3_600_500);
        assert_eq!(expiration(later), "2027-02-01T01:00:00Z");
    }
}
