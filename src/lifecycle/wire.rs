//! What is asked for, as the members that the management API reads.
//!
//! A time out of the calendar's range cannot be said and is a problem. An expiry that counts from
//! the call goes as a duration, so that the server's clock alone counts.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::expiry::Kind;
use super::update::Patch;
use super::{Expiry, FieldProblem, NewToken, Page, TokenUpdate};
use crate::registry::TokenFilter;

type JsonObject = Map<String, Value>;

/// The longest grace that is asked for, in seconds: about 9,500 years, which durations can hold.
const MAX_GRACE_SECONDS: u64 = 300_000_000_000;

impl NewToken {
    pub(crate) fn to_json(&self) -> Result<JsonObject, FieldProblem> {
        let mut members = JsonObject::new();
        let mut add = |name: &str, value| members.insert(name.to_owned(), value);
        add("name", json!(self.name));
        add("roles", json!(self.roles));
        add("scopes", json!(self.scopes));
        add("labels", json!(self.labels));
        if let Some(text) = &self.description {
            add("description", json!(text));
        }
        if let Some(text) = &self.subject {
            add("subject", json!(text));
        }
        if let Some(start) = self.not_before {
            add("not_before", time("/not_before", start)?.into());
        }
        if let Some(expiry) = &self.expiry {
            let (name, value) = expiry_member(expiry)?;
            add(name, value);
        }
        Ok(members)
    }
}

impl TokenUpdate {
    /// The merge patch (RFC 7396) for a token that has labels of these keys.
    ///
    /// The keys matter only if the update [replaces](Self::replaces_labels) all labels.
    pub(crate) fn merge_patch<'a>(
        &'a self,
        known_labels: impl IntoIterator<Item = &'a str>,
    ) -> Result<JsonObject, FieldProblem> {
        let mut members = JsonObject::new();
        let mut add = |name: &str, value| members.insert(name.to_owned(), value);
        if let Some(name) = &self.name {
            add("name", json!(name));
        }
        for (name, patch) in [
            ("description", &self.description),
            ("subject", &self.subject),
        ] {
            if let Some(value) = patch_value(patch, |text| Ok(json!(text)))? {
                add(name, value);
            }
        }
        for (name, list) in [("roles", &self.roles), ("scopes", &self.scopes)] {
            if let Some(list) = list {
                add(name, json!(list));
            }
        }
        if let Some(value) = self.labels_patch(known_labels) {
            add("labels", value);
        }
        let start = |start: &SystemTime| Ok(time("/not_before", *start)?.into());
        if let Some(value) = patch_value(&self.not_before, start)? {
            add("not_before", value);
        }
        if let Some(expiry) = &self.expiry {
            let (name, value) = expiry_member(expiry)?;
            add(name, value);
        }
        Ok(members)
    }

    /// Whether a merge patch needs to know the token's labels: it can clear them or add to them,
    /// and both only one by one.
    pub(crate) fn replaces_labels(&self) -> bool {
        self.clears_labels && self.labels.values().any(Option::is_some)
    }

    /// The revision that the token must be at.
    pub(crate) fn revision(&self) -> Option<u64> {
        self.revision
    }

    fn labels_patch<'a>(&'a self, known: impl IntoIterator<Item = &'a str>) -> Option<Value> {
        if self.clears_labels && !self.replaces_labels() {
            return Some(Value::Null);
        }
        let cleared = known.into_iter().filter(|_| self.clears_labels);
        let mut labels: JsonObject = cleared.map(|key| (key.to_owned(), Value::Null)).collect();
        let named = self.labels.iter();
        labels.extend(named.map(|(key, value)| (key.clone(), json!(value))));
        (!labels.is_empty()).then(|| labels.into())
    }
}

impl Page {
    pub(crate) fn query_params(&self) -> Vec<(&'static str, String)> {
        let limit = ("limit", self.limit.to_string());
        let cursor = self.after.map(|cursor| ("cursor", cursor.to_string()));
        [limit].into_iter().chain(cursor).collect()
    }

    /// The most tokens that the page can have.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }
}

/// The conditions of a filter, for a query or an object.
pub(crate) fn filter_params(
    filter: &TokenFilter,
) -> Result<Vec<(&'static str, String)>, FieldProblem> {
    let mut members = Vec::new();
    for (name, text) in [
        ("name", &filter.name),
        ("role", &filter.role),
        ("scope", &filter.scope),
        ("subject", &filter.subject),
    ] {
        members.extend(text.clone().map(|text| (name, text)));
    }
    members.extend(filter.status.map(|status| ("state", status.to_string())));
    if filter.without_revoked {
        let detail = "the management API has no such filter; filter by a state instead";
        return Err(FieldProblem::new("/filter/without_revoked", detail));
    }
    if filter.label_or_none.is_some() {
        let detail = "the management API has no such filter";
        return Err(FieldProblem::new("/filter/label_or_none", detail));
    }
    if let Some((key, value)) = &filter.label {
        // It would be read as another key, and so mean other tokens.
        if key.contains('=') {
            let detail = "tokens cannot be asked for by a label whose key has an equals sign";
            return Err(FieldProblem::new("/filter/label", detail));
        }
        members.push(("label", format!("{key}={value}")));
    }
    if let Some(end) = filter.expires_before {
        members.push(("expires_before", time("/filter/expires_before", end)?));
    }
    if let Some(end) = filter.last_used_before {
        members.push(("last_used_before", time("/filter/last_used_before", end)?));
    }
    Ok(members)
}

/// How long an old secret goes on working, as ISO 8601 has it.
pub(crate) fn grace_to_json(grace: Duration) -> JsonObject {
    let grace = grace.min(Duration::from_secs(MAX_GRACE_SECONDS));
    let text = format!("PT{}.{:09}S", grace.as_secs(), grace.subsec_nanos());
    JsonObject::from_iter([("grace".to_owned(), text.into())])
}

/// `None` for a field that is kept.
fn patch_value<T>(
    patch: &Patch<T>,
    serialized: impl FnOnce(&T) -> Result<Value, FieldProblem>,
) -> Result<Option<Value>, FieldProblem> {
    match patch {
        Patch::Keep => Ok(None),
        Patch::Clear => Ok(Some(Value::Null)),
        Patch::Set(value) => serialized(value).map(Some),
    }
}

fn expiry_member(expiry: &Expiry) -> Result<(&'static str, Value), FieldProblem> {
    Ok(match &expiry.0 {
        Kind::Never => ("expires_at", Value::Null),
        Kind::At(end) => ("expires_at", time("/expires_at", *end)?.into()),
        Kind::After(span) => ("expires_in", span.to_string().into()),
    })
}

fn time(pointer: &'static str, time: SystemTime) -> Result<String, FieldProblem> {
    let time = Timestamp::try_from(time);
    let time = time.map_err(|_| FieldProblem::new(pointer, "no time of the years up to 9999"))?;
    Ok(time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serializes_relative_expiry_as_duration() {
        let serialized = |expiry: Expiry| {
            let new = NewToken::new("ci").with_expiry(expiry);
            let members = new.to_json().unwrap();
            let name = |name: &&str| members.contains_key(*name);
            let name = ["expires_at", "expires_in"].into_iter().find(name).unwrap();
            (name, members[name].clone())
        };
        let half = Duration::from_millis(1_500);
        for (expiry, name, value) in [
            ("1y 30d".parse().unwrap(), "expires_in", json!("P1Y30D")),
            (Expiry::after(half), "expires_in", json!("PT1.5S")),
            (Expiry::NEVER, "expires_at", Value::Null),
            (
                Expiry::at(SystemTime::UNIX_EPOCH + half),
                "expires_at",
                json!("1970-01-01T00:00:01.5Z"),
            ),
        ] {
            assert_eq!(serialized(expiry), (name, value));
        }
        let without_expiry = NewToken::new("ci").to_json().unwrap();
        assert!(
            without_expiry
                .keys()
                .all(|name| !name.starts_with("expires"))
        );
    }

    #[test]
    fn rejects_filters_that_the_api_lacks() {
        let problem = filter_params(&TokenFilter::new().without_revoked()).unwrap_err();
        assert_eq!(problem.pointer, "/filter/without_revoked");
        let problem = filter_params(&TokenFilter::new().with_label("a=b", "c")).unwrap_err();
        assert_eq!(problem.pointer, "/filter/label");
    }

    #[test]
    fn replacing_labels_clears_known_labels() {
        let labels = |update: TokenUpdate| {
            let members = update.merge_patch(["a", "b"]).unwrap();
            members.get("labels").cloned()
        };
        let update = TokenUpdate::new;
        assert_eq!(labels(update()), None);
        let added = update().with_label("a", "1").without_label("c");
        assert!(!added.replaces_labels());
        assert_eq!(labels(added), Some(json!({ "a": "1", "c": null })));
        let cleared = update().without_labels().without_label("c");
        assert!(!cleared.replaces_labels());
        assert_eq!(labels(cleared), Some(Value::Null));
        let replaced = update().without_labels().with_label("a", "1");
        assert!(replaced.replaces_labels());
        assert_eq!(labels(replaced), Some(json!({ "a": "1", "b": null })));
    }

    #[test]
    fn serializes_grace_period_to_the_nanosecond_within_parsable_range() {
        let serialized = |grace| grace_to_json(grace)["grace"].as_str().unwrap().to_owned();
        assert_eq!(serialized(Duration::ZERO), "PT0.000000000S");
        assert_eq!(serialized(Duration::new(5_400, 7)), "PT5400.000000007S");
        assert!(serialized(Duration::MAX).parse::<jiff::Span>().is_ok());
    }
}
