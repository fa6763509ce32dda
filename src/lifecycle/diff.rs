use std::borrow::Cow;
use std::time::SystemTime;

use crate::audit::FieldChange;
use crate::clock::date_time;
use crate::store::TokenRecord;

type Field = (&'static str, fn(&TokenRecord) -> Option<String>);

/// Returns the fields in which two records of a token differ, for audit events. Digests, and fields
/// that every change updates, are left out.
pub(super) fn changed_fields(before: &TokenRecord, after: &TokenRecord) -> Vec<FieldChange> {
    let fields: [Field; 11] = [
        ("name", |record| text(Some(record.name()))),
        ("description", |record| text(record.description())),
        ("subject", |record| text(record.subject())),
        ("owner", |record| text(record.owner())),
        ("roles", |record| listed(record.roles().iter())),
        ("scopes", |record| listed(record.scopes().iter())),
        ("labels", |record| {
            let labels = record.labels();
            joined(labels.map(|(key, value)| format!("{}={}", quoted(key), quoted(value))))
        }),
        ("state", |record| Some(record.state().as_str().to_owned())),
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
    joined(names.map(|name| quoted(name).into_owned()))
}

fn joined(parts: impl Iterator<Item = String>) -> Option<String> {
    text(Some(&parts.collect::<Vec<_>>().join(", ")))
}

/// Returns the name, quoted if it is ambiguous in a list. Different lists must have different texts,
/// because a change without a difference is not written.
fn quoted(name: &str) -> Cow<'_, str> {
    if name.contains([',', '=', '"']) {
        let escaped = name.replace('\\', r"\\").replace('"', "\\\"");
        Cow::Owned(format!("\"{escaped}\""))
    } else {
        Cow::Borrowed(name)
    }
}

fn time(time: Option<SystemTime>) -> Option<String> {
    let time = time?;
    Some(date_time::format(time).unwrap_or_else(|| "before the year 0".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::TokenState;
    use crate::token::TokenFormat;

    #[test]
    fn distinguishes_lists_with_separators_in_names() {
        let token = TokenFormat::default().mint().expect("random bytes");
        let bare = TokenRecord::from(&token);
        let with_roles = |roles: &[&str]| bare.clone().with_roles(roles);
        let with_labels = |labels: &[(&str, &str)]| {
            let labels = labels.iter();
            labels.fold(bare.clone(), |record, (key, value)| {
                record.with_label(*key, *value)
            })
        };
        for (before, after) in [
            (with_roles(&["a, b"]), with_roles(&["a", "b"])),
            (with_roles(&["a\", \"b"]), with_roles(&["a", "b"])),
            (with_roles(&["\"a\""]), with_roles(&["a"])),
            (with_labels(&[("a", "b=c")]), with_labels(&[("a=b", "c")])),
            (
                with_labels(&[("a", "b, c=d")]),
                with_labels(&[("a", "b"), ("c", "d")]),
            ),
        ] {
            assert_eq!(changed_fields(&before, &after).len(), 1, "{after:?}");
            assert_eq!(changed_fields(&after, &after), []);
        }
        let changed = changed_fields(&bare, &with_roles(&["a b", "c,d"]));
        assert_eq!(changed[0].after.as_deref(), Some(r#"a b, "c,d""#));
        let changed = changed_fields(&bare, &with_roles(&[r#"a\"b"#, "d"]));
        assert_eq!(changed[0].after.as_deref(), Some(r#""a\\\"b", d"#));
    }

    #[test]
    fn shows_states_by_their_name() {
        let token = TokenFormat::default().mint().expect("random bytes");
        let active = TokenRecord::from(&token);
        let revoked = active.clone().with_state(TokenState::Revoked);
        let changed = changed_fields(&active, &revoked);
        let change = |it: &FieldChange| (it.before.clone(), it.after.clone());
        let expected = (Some("active".to_owned()), Some("revoked".to_owned()));
        assert_eq!(change(&changed[0]), expected);
    }
}
