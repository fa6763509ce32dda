use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::store::TokenRecord;

/// A token as the API shows it: every member always, `null` where there is nothing.
pub(super) fn shown(record: &TokenRecord, now: SystemTime) -> Value {
    let labels: Map<String, Value> = record
        .labels()
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    json!({
        "id": record.id().to_string(),
        "name": record.name(),
        "description": record.description(),
        "subject": record.subject(),
        "roles": record.roles().iter().collect::<Vec<_>>(),
        "scopes": record.scopes().iter().collect::<Vec<_>>(),
        "labels": labels,
        "state": record.status(now).as_str(),
        "created_at": time(record.created_at()),
        "created_by": record.created_by(),
        "updated_at": time(record.updated_at()),
        "expires_at": time(record.expires_at()),
        "not_before": time(record.not_before()),
        "last_used_at": time(record.last_used_at()),
        "rotated_at": time(record.rotated_at()),
        "grace_ends_at": time(record.grace_ends_at()),
        "hint": record.hint(),
    })
}

/// As RFC 3339 has it, in UTC.
fn time(time: Option<SystemTime>) -> Option<String> {
    let time = Timestamp::try_from(time?).ok()?;
    Some(time.to_string())
}
