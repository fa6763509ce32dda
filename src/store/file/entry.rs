use std::collections::HashSet;
use std::time::SystemTime;

use super::document::{Data, Value};
use super::error::{Cause, Location, Problem};
use crate::clock::date_time::{self, ParseDateTimeError};
use crate::digest::TokenDigest;
use crate::principal::{Roles, Scopes};
use crate::store::{TokenRecord, TokenState};
use crate::token::TokenId;

/// All a token in a file may have.
pub(super) const FIELDS: [&str; 11] = [
    "name",
    "digest",
    "id",
    "roles",
    "scopes",
    "subject",
    "description",
    "labels",
    "expires_at",
    "not_before",
    "state",
];

/// Names under which people write a token down.
const SECRET_FIELDS: [&str; 3] = ["token", "secret", "api_key"];

/// The records of a whole file; or of none of it.
pub(super) fn records(document: Value) -> Result<Vec<TokenRecord>, Cause> {
    let (mut ids, mut digests) = (HashSet::new(), HashSet::new());
    let entries = entries(document)?.into_iter().enumerate();
    let records = entries.map(|(index, value)| {
        let entry = Entry::read(index + 1, value)?;
        let record = entry.record()?;
        if !digests.insert(*record.digest().as_bytes()) {
            return Err(entry.invalid("digest", Problem::Duplicate));
        }
        if !ids.insert(record.id()) {
            return Err(entry.invalid("id", Problem::Duplicate));
        }
        Ok(record)
    });
    records.collect()
}

fn entries(document: Value) -> Result<Vec<Value>, Cause> {
    let at = |line, field| Location {
        line,
        field,
        ..Location::default()
    };
    let Data::Map(fields) = document.data else {
        let problem = Problem::WrongType("an object with the field `tokens`");
        return Err(invalid(Location::default(), problem));
    };
    let mut tokens = None;
    for (name, value) in fields {
        if name != "tokens" {
            return Err(invalid(at(value.line, None), Problem::UnknownTopLevelField));
        }
        let location = at(value.line, Some("tokens"));
        let Data::List(values) = value.data else {
            return Err(invalid(location, Problem::WrongType("a list of tokens")));
        };
        if tokens.replace(values).is_some() {
            return Err(invalid(location, Problem::Repeated));
        }
    }
    tokens.ok_or_else(|| invalid(at(None, Some("tokens")), Problem::Missing))
}

fn invalid(location: Location, problem: Problem) -> Cause {
    Cause::Content { location, problem }
}

/// One token as it was written, its fields known and each there once.
struct Entry {
    number: usize,
    line: Option<usize>,
    fields: Vec<(&'static str, Value)>,
}

impl Entry {
    fn read(number: usize, value: Value) -> Result<Self, Cause> {
        let mut entry = Self {
            number,
            line: value.line,
            fields: Vec::new(),
        };
        let Data::Map(fields) = value.data else {
            return Err(invalid(
                entry.location(None),
                Problem::WrongType("a table of fields"),
            ));
        };
        for (name, value) in fields {
            let known = FIELDS.into_iter().find(|field| *field == name);
            let Some(field) = known else {
                let line = value.line.or(entry.line);
                let location = Location {
                    line,
                    ..entry.location(None)
                };
                return Err(if SECRET_FIELDS.contains(&&*name) {
                    Cause::Token { location }
                } else {
                    invalid(location, Problem::UnknownField)
                });
            };
            if entry.get(field).is_some() {
                return Err(entry.invalid(field, Problem::Repeated));
            }
            entry.fields.push((field, value));
        }
        Ok(entry)
    }

    fn record(&self) -> Result<TokenRecord, Cause> {
        let digest = self.text("digest", |text| text.parse().map_err(|_| Problem::Digest));
        let digest = digest?.ok_or_else(|| self.invalid("digest", Problem::Missing))?;
        let id = self.text("id", |text| text.parse().map_err(|_| Problem::Id))?;
        let mut record = TokenRecord::new(id.unwrap_or_else(|| derived_id(&digest)), digest)
            .with_name(self.text("name", check_text)?.unwrap_or_default())
            .with_roles(self.list("roles", is_role, Problem::Text)?)
            .with_scopes(self.list("scopes", is_scope, Problem::Scope)?)
            .with_state(self.text("state", state)?.unwrap_or_default());
        if let Some(subject) = self.text("subject", check_text)? {
            record = record.with_subject(subject);
        }
        if let Some(description) = self.text("description", Ok)? {
            record = record.with_description(description);
        }
        for (key, value) in self.labels()? {
            record = record.with_label(key, value);
        }
        if let Some(time) = self.time("expires_at", date_time::parse_end)? {
            record = record.with_expires_at(time);
        }
        if let Some(time) = self.time("not_before", date_time::parse_start)? {
            record = record.with_not_before(time);
        }
        Ok(record)
    }

    fn text<'a, T>(
        &'a self,
        field: &'static str,
        parse: impl FnOnce(&'a str) -> Result<T, Problem>,
    ) -> Result<Option<T>, Cause> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        let Data::Text(text) = &value.data else {
            return Err(self.invalid(field, Problem::WrongType("a text")));
        };
        let parsed = parse(text).map_err(|problem| self.invalid(field, problem))?;
        Ok(Some(parsed))
    }

    /// As text, or as TOML writes times without quotes.
    fn time(
        &self,
        field: &'static str,
        parse: fn(&str) -> Result<SystemTime, ParseDateTimeError>,
    ) -> Result<Option<SystemTime>, Cause> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        let (Data::Text(text) | Data::Time(text)) = &value.data else {
            return Err(self.invalid(field, Problem::WrongType("a date or a time")));
        };
        let time = parse(text).map_err(|error| {
            let problem = match error {
                ParseDateTimeError::Malformed | ParseDateTimeError::Nonexistent => Problem::Time,
                ParseDateTimeError::OutOfRange => Problem::TimeOverflow,
            };
            self.invalid(field, problem)
        })?;
        Ok(Some(time))
    }

    /// Texts that are all good and each there once: the record would leave others out in silence.
    fn list(
        &self,
        field: &'static str,
        is_valid: fn(&str) -> bool,
        problem: Problem,
    ) -> Result<Vec<&str>, Cause> {
        let Some(value) = self.get(field) else {
            return Ok(Vec::new());
        };
        let Data::List(values) = &value.data else {
            return Err(self.invalid(field, Problem::WrongType("a list of texts")));
        };
        let mut texts: Vec<&str> = Vec::with_capacity(values.len());
        let mut seen = HashSet::with_capacity(values.len());
        for value in values {
            let Data::Text(text) = &value.data else {
                return Err(self.invalid(field, Problem::WrongType("a list of texts")));
            };
            if !is_valid(text) {
                return Err(self.invalid(field, problem));
            }
            if !seen.insert(&**text) {
                return Err(self.invalid(field, Problem::Repeated));
            }
            texts.push(text);
        }
        Ok(texts)
    }

    fn labels(&self) -> Result<Vec<(&str, &str)>, Cause> {
        let Some(value) = self.get("labels") else {
            return Ok(Vec::new());
        };
        let Data::Map(fields) = &value.data else {
            return Err(self.invalid("labels", Problem::WrongType("a table of texts")));
        };
        let mut labels: Vec<(&str, &str)> = Vec::with_capacity(fields.len());
        for (key, value) in fields {
            let Data::Text(value) = &value.data else {
                return Err(self.invalid("labels", Problem::WrongType("a table of texts")));
            };
            for text in [key, value] {
                check_text(text).map_err(|problem| self.invalid("labels", problem))?;
            }
            if labels.iter().any(|(known, _)| known == key) {
                return Err(self.invalid("labels", Problem::Repeated));
            }
            labels.push((key, value));
        }
        Ok(labels)
    }

    fn get(&self, field: &str) -> Option<&Value> {
        let mut fields = self.fields.iter();
        let (_, value) = fields.find(|(name, _)| *name == field)?;
        Some(value)
    }

    fn location(&self, field: Option<&'static str>) -> Location {
        let line = field.and_then(|field| self.get(field)?.line);
        Location {
            line: line.or(self.line),
            token: Some(self.number),
            field,
            ..Location::default()
        }
    }

    fn invalid(&self, field: &'static str, problem: Problem) -> Cause {
        invalid(self.location(Some(field)), problem)
    }
}

/// From the digest of the digest: an id is public, and must tell nothing of what it is made from.
fn derived_id(digest: &TokenDigest) -> TokenId {
    const IDS: u64 = 62_u64.pow(10);
    let digest = TokenDigest::of(&digest.to_string());
    let (first, _) = digest
        .as_bytes()
        .split_first_chunk::<8>()
        .expect("32 bytes");
    let number = u64::from_be_bytes(*first) % IDS;
    let id = i64::try_from(number).ok().and_then(TokenId::from_i64);
    id.expect("62^10 is the number of ids")
}

fn check_text(text: &str) -> Result<&str, Problem> {
    let is_plain = !text.is_empty() && !text.contains(char::is_control);
    is_plain.then_some(text).ok_or(Problem::Text)
}

fn is_role(text: &str) -> bool {
    !Roles::from_iter([text]).is_empty()
}

fn is_scope(text: &str) -> bool {
    !Scopes::from_iter([text]).is_empty()
}

fn state(text: &str) -> Result<TokenState, Problem> {
    match text {
        "active" => Ok(TokenState::Active),
        "disabled" => Ok(TokenState::Disabled),
        "revoked" => Ok(TokenState::Revoked),
        _ => Err(Problem::State),
    }
}
