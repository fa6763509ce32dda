use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::session::{Column, NamedColumns, Value};
use crate::clock::UnixMillis;
use crate::digest::TokenDigest;
use crate::store::{RotationKey, TokenRecord, TokenState};
use crate::token::TokenId;

/// The columns of a record, in the order of [`values`].
macro_rules! columns {
    () => {
        "id, digest, previous_digest, grace_ends_at, state, name, description, subject, roles, \
         scopes, labels, created_at, created_by, updated_at, rotated_at, expires_at, not_before, \
         revision, hint, rotation_key, owner, last_used_at"
    };
}
pub(super) use columns;

/// Returns the position of one of the [`columns`]. A lookup of each name took a tenth of the time of
/// a query in SQLite.
const fn position(name: &str) -> usize {
    let (columns, name) = (columns!().as_bytes(), name.as_bytes());
    let (mut position, mut start, mut end) = (0, 0, 0);
    loop {
        let is_end = end == columns.len();
        assert!(!is_end || end > start, "no column has this name");
        if is_end || columns[end] == b',' {
            let mut same = 0;
            while start + same < end && same < name.len() && columns[start + same] == name[same] {
                same += 1;
            }
            if same == name.len() && start + same == end {
                return position;
            }
            assert!(!is_end, "no column has this name");
            position += 1;
            start = end + ", ".len();
            end = start;
        } else {
            end += 1;
        }
    }
}

/// One of the [`columns`].
macro_rules! column {
    ($name:literal) => {
        const { Column::at(position($name), $name) }
    };
}

/// The number of the [`columns`].
pub(super) const COLUMN_COUNT: usize = position("last_used_at") + 1;

/// The positions of the columns that are blobs.
pub(super) const BLOBS: [usize; 3] = [
    position("digest"),
    position("previous_digest"),
    position("rotation_key"),
];

/// A row that is not a valid record.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("invalid column {0} of token {1}")]
    Column(&'static str, TokenId),
    #[error("invalid column {0}")]
    Id(&'static str),
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// Reads a record.
pub(super) fn decode(row: &impl NamedColumns) -> Result<TokenRecord, DecodeError> {
    let id = row.int(column!("id"))?.and_then(TokenId::from_i64);
    let id = id.ok_or(DecodeError::Id("id"))?;
    let invalid = |column| DecodeError::Column(column, id);
    let at = |column: Column| row.int(column).map(|millis| millis.map(time));

    let digest = digest(row.bytes(column!("digest"))?).ok_or(invalid("digest"))?;
    let revision = row.int(column!("revision"))?.ok_or(invalid("revision"))?;
    let mut record = TokenRecord::new(id, digest)
        .with_state(state(row.int(column!("state"))?).ok_or(invalid("state"))?)
        .with_name(row.text(column!("name"))?.ok_or(invalid("name"))?)
        .with_roles(names(row.text(column!("roles"))?).ok_or(invalid("roles"))?)
        .with_scopes(names(row.text(column!("scopes"))?).ok_or(invalid("scopes"))?)
        .with_expires_at(at(column!("expires_at"))?)
        .with_created_at(at(column!("created_at"))?)
        .with_revision(revision.cast_unsigned());
    if let Some(previous) = row.bytes(column!("previous_digest"))? {
        let previous = self::digest(Some(previous)).ok_or(invalid("previous_digest"))?;
        let until = at(column!("grace_ends_at"))?.ok_or(invalid("grace_ends_at"))?;
        record = record.with_previous_digest((previous, until));
    }
    if let Some(subject) = row.text(column!("subject"))? {
        record = record.with_subject(subject);
    }
    if let Some(owner) = row.text(column!("owner"))? {
        record = record.with_owner(owner);
    }
    for (key, value) in labels(row.text(column!("labels"))?).ok_or(invalid("labels"))? {
        record = record.with_label(key.0, value.0);
    }
    if let Some(start) = at(column!("not_before"))? {
        record = record.with_not_before(start);
    }
    if let Some(key) = row.bytes(column!("rotation_key"))? {
        let key = key.try_into().map_err(|_| invalid("rotation_key"))?;
        record = record.with_rotation_key(RotationKey::from_bytes(key));
    }
    Ok(record
        .with_description(row.text(column!("description"))?)
        .with_created_by(row.text(column!("created_by"))?)
        .with_updated_at(at(column!("updated_at"))?)
        .with_rotated_at(at(column!("rotated_at"))?)
        .with_last_used_at(at(column!("last_used_at"))?)
        .with_hint(row.text(column!("hint"))?))
}

/// Returns the columns of a record with their values. The last one is the last use, which an
/// update does not change.
pub(super) fn values(record: &TokenRecord) -> [(&'static str, Value<'_>); COLUMN_COUNT] {
    let at = |time: Option<SystemTime>| time.map(millis).into();
    let labels: BTreeMap<&str, &str> = record.labels().collect();
    let previous = record.previous_digest();
    [
        ("id", record.id().as_i64().into()),
        ("digest", Value::Bytes(Some(record.digest().as_bytes()))),
        (
            "previous_digest",
            Value::Bytes(previous.map(|digest| &digest.as_bytes()[..])),
        ),
        ("grace_ends_at", at(record.grace_ends_at())),
        ("state", state_number(record.state()).into()),
        ("name", record.name().into()),
        ("description", record.description().into()),
        ("subject", record.subject().into()),
        ("roles", json_array(record.roles().iter()).into()),
        ("scopes", json_array(record.scopes().iter()).into()),
        ("labels", json(&labels).into()),
        ("created_at", at(record.created_at())),
        ("created_by", record.created_by().into()),
        ("updated_at", at(record.updated_at())),
        ("rotated_at", at(record.rotated_at())),
        ("expires_at", at(record.expires_at())),
        ("not_before", at(record.not_before())),
        ("revision", record.revision().cast_signed().into()),
        ("hint", record.hint().into()),
        (
            "rotation_key",
            Value::Bytes(record.rotation_key().map(|key| &key.as_bytes()[..])),
        ),
        ("owner", record.owner().into()),
        ("last_used_at", at(record.last_used_at())),
    ]
}

/// A role, scope or label of a token, in a row of its own so that an index finds tokens by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attribute<'a> {
    pub(super) kind: i64,
    pub(super) value: Cow<'a, str>,
}

impl<'a> Attribute<'a> {
    pub(super) fn role(name: &'a str) -> Self {
        let value = name.into();
        Self { kind: 1, value }
    }

    pub(super) fn scope(scope: &'a str) -> Self {
        let value = scope.into();
        Self { kind: 2, value }
    }

    pub(super) fn label(key: &str, value: &str) -> Self {
        let value = json_array([key, value]).into();
        Self { kind: 3, value }
    }

    /// Returns the prefix of the values of all labels with this key.
    pub(super) fn label_prefix(key: &str) -> String {
        let key = json_array([key]);
        format!("{},", key.strip_suffix(']').expect("an array ends with ]"))
    }

    pub(super) fn all(record: &'a TokenRecord) -> Vec<Self> {
        let roles = record.roles().iter().map(Self::role);
        let scopes = record.scopes().iter().map(Self::scope);
        let labels = record.labels();
        let labels = labels.map(|(key, value)| Self::label(key, value));
        roles.chain(scopes).chain(labels).collect()
    }
}

pub(super) fn time(millis: i64) -> SystemTime {
    UnixMillis::from_millis(millis).into()
}

pub(super) fn millis(time: SystemTime) -> i64 {
    UnixMillis::from(time).as_millis()
}

pub(super) fn state_number(state: TokenState) -> i64 {
    match state {
        TokenState::Active => 0,
        TokenState::Disabled => 1,
        TokenState::Revoked => 2,
    }
}

fn state(number: Option<i64>) -> Option<TokenState> {
    match number? {
        0 => Some(TokenState::Active),
        1 => Some(TokenState::Disabled),
        2 => Some(TokenState::Revoked),
        _ => None,
    }
}

fn digest(bytes: Option<&[u8]>) -> Option<TokenDigest> {
    bytes?.try_into().ok().map(TokenDigest::from_bytes)
}

/// A text of a JSON array, copied only if it has escapes.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
struct Text<'j>(#[serde(borrow)] Cow<'j, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

fn names(json: Option<&str>) -> Option<Vec<Text<'_>>> {
    match json? {
        "[]" => Some(Vec::new()),
        json => serde_json::from_str(json).ok(),
    }
}

fn labels(json: Option<&str>) -> Option<BTreeMap<Text<'_>, Text<'_>>> {
    match json? {
        "{}" => Some(BTreeMap::new()),
        json => serde_json::from_str(json).ok(),
    }
}

fn json_array<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    json(&texts.into_iter().collect::<Vec<_>>())
}

/// Encodes strings and numbers, which cannot fail.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers are valid JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_order_of_the_columns() {
        let record = TokenRecord::new(
            TokenId::from_i64(1).expect("in range"),
            TokenDigest::of("a"),
        );
        let names = values(&record).map(|(name, _)| name);
        assert_eq!(names.join(", "), columns!());
        let positions = names.map(position);
        assert!(positions.into_iter().eq(0..names.len()));
    }
}
