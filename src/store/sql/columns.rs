use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use super::session::{Row, Value};
use crate::clock::Timestamp;
use crate::digest::TokenDigest;
use crate::store::{TokenRecord, TokenState};
use crate::token::TokenId;

/// The columns that a record is read from, in the order of `read`; `written` has the same order.
macro_rules! columns {
    () => {
        "id, digest, previous_digest, grace_ends_at, state, name, description, subject, roles, \
         scopes, labels, created_at, created_by, updated_at, rotated_at, last_used_at, expires_at, \
         not_before, revision, hint"
    };
}
pub(super) use columns;

/// How many columns there are.
pub(super) const COUNT: usize = 20;

/// Where these columns stand.
pub(super) const STATE: usize = 4;
pub(super) const UPDATED_AT: usize = 13;
pub(super) const LAST_USED_AT: usize = 15;
pub(super) const REVISION: usize = 18;

/// A row that no record can be made of.
#[derive(Debug)]
pub(super) enum DecodeError {
    Column(&'static str, Option<TokenId>),
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for DecodeError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(column, Some(id)) => {
                write!(f, "column {column} of token {id} makes no sense")
            }
            Self::Column(column, None) => write!(f, "column {column} makes no sense"),
            Self::Sql(error) => write!(f, "{error}"),
        }
    }
}

/// Makes a record of the columns.
pub(super) fn decode(row: &Row) -> Result<TokenRecord, DecodeError> {
    let id = row.int(0)?.and_then(TokenId::from_i64);
    let id = id.ok_or(DecodeError::Column("id", None))?;
    let bad = |column| DecodeError::Column(column, Some(id));
    let digest = digest(row.bytes(1)?).ok_or(bad("digest"))?;
    let mut record = TokenRecord::new(id, digest)
        .with_state(state(row.int(4)?).ok_or(bad("state"))?)
        .with_name(row.text(5)?.ok_or(bad("name"))?)
        .with_roles(names(row.text(8)?).ok_or(bad("roles"))?)
        .with_scopes(names(row.text(9)?).ok_or(bad("scopes"))?)
        .with_expires_at(row.int(16)?.map(time))
        .with_created_at(row.int(11)?.map(time))
        .with_revision(row.int(18)?.ok_or(bad("revision"))?.cast_unsigned());
    if let Some(previous) = row.bytes(2)? {
        let previous = self::digest(Some(previous)).ok_or(bad("previous_digest"))?;
        let until = row.int(3)?.ok_or(bad("grace_ends_at"))?;
        record = record.with_previous_digest((previous, time(until)));
    }
    if let Some(subject) = row.text(7)? {
        record = record.with_subject(subject);
    }
    for (key, value) in labels(row.text(10)?).ok_or(bad("labels"))? {
        record = record.with_label(key, value);
    }
    if let Some(start) = row.int(17)? {
        record = record.with_not_before(time(start));
    }
    Ok(record
        .with_description(row.text(6)?)
        .with_created_by(row.text(12)?)
        .with_updated_at(row.int(13)?.map(time))
        .with_rotated_at(row.int(14)?.map(time))
        .with_last_used_at(row.int(15)?.map(time))
        .with_hint(row.text(19)?))
}

/// The texts that a record's columns borrow from.
pub(super) struct EncodedLists {
    roles: String,
    scopes: String,
    labels: String,
}

impl EncodedLists {
    pub(super) fn of(record: &TokenRecord) -> Self {
        let labels: BTreeMap<&str, &str> = record.labels().collect();
        Self {
            roles: json_array(record.roles().iter()),
            scopes: json_array(record.scopes().iter()),
            labels: serde_json::to_string(&labels).expect("texts make JSON"),
        }
    }
}

/// The values of the columns.
pub(super) fn encode<'a>(record: &'a TokenRecord, lists: &'a EncodedLists) -> [Value<'a>; COUNT] {
    let int = |number: i64| Value::Int(Some(number));
    let at = |time: Option<SystemTime>| Value::Int(time.map(millis));
    [
        int(record.id().as_i64()),
        Value::Bytes(Some(record.digest().as_bytes())),
        Value::Bytes(
            record
                .previous_digest()
                .map(|digest| &digest.as_bytes()[..]),
        ),
        at(record.grace_ends_at()),
        int(state_number(record.state())),
        Value::Text(Some(record.name())),
        Value::Text(record.description()),
        Value::Text(record.subject()),
        Value::Text(Some(&lists.roles)),
        Value::Text(Some(&lists.scopes)),
        Value::Text(Some(&lists.labels)),
        at(record.created_at()),
        Value::Text(record.created_by()),
        at(record.updated_at()),
        at(record.rotated_at()),
        at(record.last_used_at()),
        at(record.expires_at()),
        at(record.not_before()),
        int(record.revision().cast_signed()),
        Value::Text(record.hint()),
    ]
}

/// What a token has many of, each with its own row, so that an index finds tokens by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) kind: i64,
    pub(super) value: String,
}

impl Attribute {
    pub(super) fn role(name: &str) -> Self {
        let value = name.to_owned();
        Self { kind: 1, value }
    }

    pub(super) fn scope(scope: &str) -> Self {
        let value = scope.to_owned();
        Self { kind: 2, value }
    }

    pub(super) fn label(key: &str, value: &str) -> Self {
        let value = json_array([key, value]);
        Self { kind: 3, value }
    }

    /// How the values of all labels with this key begin.
    pub(super) fn label_prefix(key: &str) -> String {
        let key = json_array([key]);
        format!("{},", key.strip_suffix(']').expect("an array"))
    }

    pub(super) fn all(record: &TokenRecord) -> Vec<Self> {
        let roles = record.roles().iter().map(Self::role);
        let scopes = record.scopes().iter().map(Self::scope);
        let labels = record.labels();
        let labels = labels.map(|(key, value)| Self::label(key, value));
        roles.chain(scopes).chain(labels).collect()
    }
}

pub(super) fn time(millis: i64) -> SystemTime {
    Timestamp::from_millis(millis).into()
}

pub(super) fn millis(time: SystemTime) -> i64 {
    Timestamp::from(time).as_millis()
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

fn names(json: Option<&str>) -> Option<Vec<String>> {
    match json? {
        "[]" => Some(Vec::new()),
        json => serde_json::from_str(json).ok(),
    }
}

fn labels(json: Option<&str>) -> Option<BTreeMap<String, String>> {
    match json? {
        "{}" => Some(BTreeMap::new()),
        json => serde_json::from_str(json).ok(),
    }
}

fn json_array<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts: Vec<&str> = texts.into_iter().collect();
    serde_json::to_string(&texts).expect("texts make JSON")
}
