use std::collections::HashSet;
use std::ops::Range;
use std::time::SystemTime;

use super::document::{Data, Field, Format, Value, line};
use crate::clock::date_time::{self, ParseDateTimeError};
use crate::digest::TokenDigest;
use crate::principal::{Roles, Scopes};
use crate::store::file::error::{Cause, Location, Problem};
use crate::store::file::fields::{FIELDS, state_name};
use crate::store::{TokenRecord, TokenState};
use crate::token::TokenId;

/// Names of fields whose value is probably a token.
const SECRET_FIELDS: [&str; 3] = ["token", "secret", "api_key"];

/// Reads all tokens of a file. Returns an error if any of them is invalid.
pub(in crate::store::file) fn records(
    format: Format,
    text: &str,
) -> Result<Vec<TokenRecord>, Cause> {
    let lines = Lines((format == Format::Toml).then_some(text));
    let (mut ids, mut digests) = (HashSet::new(), HashSet::new());
    let tokens = tokens(format.parse(text)?, lines)?.into_iter();
    let records = tokens.enumerate().map(|(index, value)| {
        let entry = Entry::read(index + 1, value, lines)?;
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

/// The TOML text whose lines errors name. The places of JSON values are unknown.
#[derive(Clone, Copy)]
struct Lines<'t>(Option<&'t str>);

impl Lines<'_> {
    fn locate(self, span: &Range<usize>) -> Location {
        Location::line(self.0.map(|text| line(text, span.start)))
    }
}

/// Returns the elements of `tokens`, which must be the only field of the document.
fn tokens(document: Value, lines: Lines<'_>) -> Result<Vec<Value>, Cause> {
    let Data::Map(fields) = document.data else {
        let problem = Problem::WrongType("an object with the field `tokens`");
        return Err(Cause::invalid(Location::default(), problem));
    };
    let field = Some("tokens");
    let mut tokens = None;
    for Field { name, key, value } in fields {
        let location = lines.locate(&key);
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
    let location = Location {
        field,
        ..Location::default()
    };
    tokens.ok_or(Cause::invalid(location, Problem::Missing))
}

/// A token of a file. Each field is known and occurs once.
struct Entry<'t> {
    number: usize,
    span: Range<usize>,
    fields: Vec<Field>,
    lines: Lines<'t>,
}

impl<'t> Entry<'t> {
    fn read(number: usize, value: Value, lines: Lines<'t>) -> Result<Self, Cause> {
        let (span, fields) = (value.span, Vec::new());
        let mut entry = Self {
            number,
            span,
            fields,
            lines,
        };
        let Data::Map(fields) = value.data else {
            let problem = Problem::WrongType("a table");
            return Err(Cause::invalid(entry.location(&entry.span), problem));
        };
        for field in fields {
            let Some(name) = FIELDS.into_iter().find(|name| *name == field.name) else {
                let location = entry.location(&field.key);
                return Err(if SECRET_FIELDS.contains(&&*field.name) {
                    Cause::Token { location }
                } else {
                    Cause::invalid(location, Problem::UnknownField)
                });
            };
            if entry.get(name).is_some() {
                return Err(entry.invalid(name, Problem::Repeated));
            }
            entry.fields.push(field);
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
        // Set only if present, because each of these allocates the cold part of a record.
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

    /// Converts the value of a field. Returns an error if `convert` does not accept its type.
    fn value<'a, T>(
        &'a self,
        name: &'static str,
        expected: &'static str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Cause> {
        let converted = self.get(name).map(|field| convert(&field.value));
        let wrong_type = || self.invalid(name, Problem::WrongType(expected));
        converted.map(|it| it.ok_or_else(wrong_type)).transpose()
    }

    fn text<'a, T>(
        &'a self,
        field: &'static str,
        parse: impl FnOnce(&'a str) -> Result<T, Problem>,
    ) -> Result<Option<T>, Cause> {
        let text = self.value(field, "a string", Value::as_text)?;
        let parsed = text.map(parse).transpose();
        parsed.map_err(|problem| self.invalid(field, problem))
    }

    /// Returns a time that is a string, or a TOML date or time.
    fn time(
        &self,
        field: &'static str,
        parse: fn(&str) -> Result<SystemTime, ParseDateTimeError>,
    ) -> Result<Option<SystemTime>, Cause> {
        let text = self.value(field, "a date or a time", |value| match &value.data {
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

    /// Returns an array of strings. Rejects invalid and repeated strings, which a record would drop.
    fn list(
        &self,
        field: &'static str,
        is_valid: fn(&str) -> bool,
        problem: Problem,
    ) -> Result<Vec<&str>, Cause> {
        let texts = self.value(field, "an array of strings", |value| match &value.data {
            Data::List(values) => values.iter().map(Value::as_text).collect(),
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
        let labels = self.value("labels", "a table of strings", |value| match &value.data {
            Data::Map(fields) => fields.iter().map(Field::as_text).collect(),
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

    fn get(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    fn location(&self, span: &Range<usize>) -> Location {
        let token = Some(self.number);
        Location {
            token,
            ..self.lines.locate(span)
        }
    }

    /// Returns the error of a field. A missing field is located by its token.
    fn invalid(&self, name: &'static str, problem: Problem) -> Cause {
        let span = self.get(name).map_or(&self.span, |field| &field.key);
        let field = Some(name);
        let location = Location {
            field,
            ..self.location(span)
        };
        Cause::invalid(location, problem)
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
