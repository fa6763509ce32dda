use std::collections::HashSet;
use std::time::SystemTime;

use super::document::{Data, Value};
use crate::clock::date_time::{self, ParseDateTimeError};
use crate::digest::TokenDigest;
use crate::principal::{Roles, Scopes};
use crate::store::file::error::{Cause, Location, Problem};
use crate::store::file::fields::{FIELDS, state_name};
use crate::store::{TokenRecord, TokenState};
use crate::token::TokenId;

/// Field names that suggest that the value is a token.
const SECRET_FIELDS: [&str; 3] = ["token", "secret", "api_key"];

/// Reads all tokens of a file. Returns an error if any of them is invalid.
pub(in crate::store::file) fn records(document: Value) -> Result<Vec<TokenRecord>, Cause> {
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
    let Data::Map(fields) = document.data else {
        let problem = Problem::WrongType("an object with the field `tokens`");
        return Err(Cause::invalid(Location::default(), problem));
    };
    let field = Some("tokens");
    let mut tokens = None;
    for (name, value) in fields {
        let location = Location::line(value.line);
        if name != "tokens" {
            return Err(Cause::invalid(location, Problem::UnknownTopLevelField));
        }
        let location = Location { field, ..location };
        let Data::List(values) = value.data else {
            let problem = Problem::WrongType("an array of tokens");
            return Err(Cause::invalid(location, problem));
        };
        if tokens.replace(values).is_some() {
            return Err(Cause::invalid(location, Problem::Repeated));
        }
    }
    tokens.ok_or_else(|| {
        let location = Location {
            field,
            ..Location::default()
        };
        Cause::invalid(location, Problem::Missing)
    })
}

/// One token of a file: each field is known and occurs once.
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
            let problem = Problem::WrongType("a table");
            return Err(Cause::invalid(entry.location(None), problem));
        };
        for (name, value) in fields {
            let Some(field) = FIELDS.into_iter().find(|field| *field == name) else {
                let location = Location {
                    line: value.line.or(entry.line),
                    ..entry.location(None)
                };
                return Err(if SECRET_FIELDS.contains(&&*name) {
                    Cause::Token { location }
                } else {
                    Cause::invalid(location, Problem::UnknownField)
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
            .with_expires_at(self.time("expires_at", date_time::parse_end)?)
            .with_state(self.text("state", state)?.unwrap_or_default());
        // Only what is there, because each of these allocates the cold part of a record.
        if let Some(subject) = self.text("subject", check_text)? {
            record = record.with_subject(subject);
        }
        if let Some(description) = self.text("description", Ok)? {
            record = record.with_description(description);
        }
        if let Some(time) = self.time("not_before", date_time::parse_start)? {
            record = record.with_not_before(time);
        }
        for (key, value) in self.labels()? {
            record = record.with_label(key, value);
        }
        Ok(record)
    }

    /// Returns what `get` makes of the value of a field, or an error if it returns nothing.
    fn value<'a, T>(
        &'a self,
        field: &'static str,
        expected: &'static str,
        get: impl FnOnce(&'a Data) -> Option<T>,
    ) -> Result<Option<T>, Cause> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        let found = get(&value.data);
        let found = found.ok_or_else(|| self.invalid(field, Problem::WrongType(expected)));
        found.map(Some)
    }

    fn text<'a, T>(
        &'a self,
        field: &'static str,
        parse: impl FnOnce(&'a str) -> Result<T, Problem>,
    ) -> Result<Option<T>, Cause> {
        let text = self.value(field, "a string", Data::as_text)?;
        let parsed = text.map(parse).transpose();
        parsed.map_err(|problem| self.invalid(field, problem))
    }

    /// Returns a time that is a string, or a TOML date or time.
    fn time(
        &self,
        field: &'static str,
        parse: fn(&str) -> Result<SystemTime, ParseDateTimeError>,
    ) -> Result<Option<SystemTime>, Cause> {
        let text = self.value(field, "a date or a time", |data| match data {
            Data::Text(text) | Data::Time(text) => Some(text),
            _ => None,
        })?;
        let parsed = text.map(|text| parse(text)).transpose();
        parsed.map_err(|error| {
            let problem = match error {
                ParseDateTimeError::Malformed | ParseDateTimeError::Nonexistent => Problem::Time,
                ParseDateTimeError::OutOfRange => Problem::TimeOverflow,
            };
            self.invalid(field, problem)
        })
    }

    /// Returns an array of strings. Refuses invalid and repeated ones, which a record would drop.
    fn list(
        &self,
        field: &'static str,
        is_valid: fn(&str) -> bool,
        problem: Problem,
    ) -> Result<Vec<&str>, Cause> {
        let texts = self.value(field, "an array of strings", |data| match data {
            Data::List(values) => values.iter().map(|value| value.data.as_text()).collect(),
            _ => None,
        })?;
        let texts: Vec<&str> = texts.unwrap_or_default();
        if !texts.iter().all(|text| is_valid(text)) {
            return Err(self.invalid(field, problem));
        }
        let mut seen = HashSet::with_capacity(texts.len());
        if !texts.iter().all(|text| seen.insert(*text)) {
            return Err(self.invalid(field, Problem::RepeatedElement));
        }
        Ok(texts)
    }

    fn labels(&self) -> Result<Vec<(&str, &str)>, Cause> {
        let labels = self.value("labels", "a table of strings", |data| match data {
            Data::Map(fields) => {
                let fields = fields.iter();
                let labels = fields.map(|(key, value)| Some((&**key, value.data.as_text()?)));
                labels.collect()
            }
            _ => None,
        })?;
        let labels: Vec<(&str, &str)> = labels.unwrap_or_default();
        for text in labels.iter().flat_map(|(key, value)| [key, value]) {
            check_text(text).map_err(|problem| self.invalid("labels", problem))?;
        }
        let mut keys = HashSet::with_capacity(labels.len());
        if !labels.iter().all(|(key, _)| keys.insert(*key)) {
            return Err(self.invalid("labels", Problem::RepeatedElement));
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
            token: Some(self.number),
            field,
            ..Location::line(line.or(self.line))
        }
    }

    fn invalid(&self, field: &'static str, problem: Problem) -> Cause {
        Cause::invalid(self.location(Some(field)), problem)
    }
}

/// Returns an id from the digest of the digest: an id is public and must not reveal its source.
fn derived_id(digest: &TokenDigest) -> TokenId {
    const IDS: u64 = 62_u64.pow(10);
    let digest = TokenDigest::of(&digest.to_string());
    let (first, _) = digest
        .as_bytes()
        .split_first_chunk::<8>()
        .expect("a digest has 32 bytes");
    let number = u64::from_be_bytes(*first) % IDS;
    let id = i64::try_from(number).ok().and_then(TokenId::from_i64);
    id.expect("62^10 is the number of ids")
}

fn check_text(text: &str) -> Result<&str, Problem> {
    let is_valid = !text.is_empty() && !text.contains(char::is_control);
    is_valid.then_some(text).ok_or(Problem::Text)
}

fn is_role(text: &str) -> bool {
    !Roles::from_iter([text]).is_empty()
}

fn is_scope(text: &str) -> bool {
    !Scopes::from_iter([text]).is_empty()
}

fn state(text: &str) -> Result<TokenState, Problem> {
    let states = [
        TokenState::Active,
        TokenState::Disabled,
        TokenState::Revoked,
    ];
    let known = states.into_iter().find(|state| state_name(*state) == text);
    known.ok_or(Problem::State)
}
