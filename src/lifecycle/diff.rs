use std::borrow::Cow;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::store::{FieldChange, TokenRecord};

type Field = (&'static str, fn(&TokenRecord) -> Option<String>);

/// The fields in which two records of a token differ, for the audit trail: no digest, and nothing
/// that every change brings along.
pub(super) fn changed_fields(before: &TokenRecord, after: &TokenRecord) -> Vec<FieldChange> {
    let fields: [Field; 10] = [
        ("name", |record| text(Some(record.name()))),
        ("description", |record| text(record.description())),
        ("subject", |record| text(record.subject())),
        ("roles", |record| listed(record.roles().iter())),
        ("scopes", |record| listed(record.scopes().iter())),
        ("labels", |record| {
            let labels = record.labels();
            let labels: Vec<String> = labels
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            listed(labels.iter().map(String::as_str))
        }),
        ("state", |record| {
            Some(format!("{:?}", record.state()).to_lowercase())
        }),
        ("expires_at", |record| time(record.expires_at())),
        ("not_before", |record| time(record.not_before())),
        ("grace_ends_at", |record| time(record.grace_ends_at())),
    ];
    let changes = fields.into_iter().map(|(field, value)| FieldChange {
        field: Cow::Borrowed(field),
        before: value(before),
        after: value(after),
    });
    changes
        .filter(|change| change.before != change.after)
        .collect()
}

fn text(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    text(Some(&names.collect::<Vec<_>>().join(", ")))
}

fn time(time: Option<SystemTime>) -> Option<String> {
    let time = time?;
    Some(
        Timestamp::try_from(time)
            .map_or_else(|_| "beyond dates".to_owned(), |time| time.to_string()),
    )
}
