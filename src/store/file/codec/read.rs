use std::collections::HashSet;
use std::ops::Range;
use std::time::SystemTime;

use super::document::{Data, Field, Format, Value, line};
use crate::clock::date_time::{self, ParseDateTimeError};
use crate::digest::TokenDigest;
use crate::principal::{Roles, Scopes};
use crate::store::file::error::{Cause, Location};
use crate::store::file::fields::{FIELDS, state_name};
use crate::store::{TokenRecord, TokenState};
use crate::token::TokenId;

/// Names of fields whose value is probably a token.
const SECRET_FIELDS: [&str; 3] = ["token", "secret", "api_key"];

/// The rule of names, subjects, roles and labels.
const TEXT: &str = "must not be empty or contain control characters";

const SCOPE: &str = "must consist of visible ASCII characters without '\"' and '\\'";

const DIGEST: &str =
    "must be 'sha256:' and 64 hexadecimal digits; the file holds digests, never tokens";

const TIME: &str = "must be a valid date, yyyy-MM-dd, or an RFC 3339 time with an offset";

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
            return Err(entry.invalid("digest", "is already used by an earlier token"));
        }
        if !ids.insert(record.id()) {
            return Err(entry.invalid("id", "is already used by an earlier token"));
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
        let problem = "must be an object with the field `tokens`";
        return Err(Cause::invalid(Location::default(), problem));
    };
    let field = Some("tokens");
    let mut tokens = None;
    for Field { name, key, value } in fields {
        let location = lines.locate(&key);
        if name != "tokens" {
            return Err(Cause::invalid(location, "unknown field, expected `tokens`"));
        }
        let location = Location { field, ..location };
        let Data::List(values) = value.data else {
            let problem = "must be an array of tokens";
            return Err(Cause::invalid(location, problem));
        };
        if tokens.replace(values).is_some() {
            return Err(Cause::invalid(location, "is given twice"));
        }
    }
    let location = Location {
        field,
        ..Location::default()
    };
    tokens.ok_or(Cause::invalid(location, "is missing"))
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
            let problem = "must be a table";
            return Err(Cause::invalid(entry.location(&entry.span), problem));
        };
        for field in fields {
            let Some(name) = FIELDS.into_iter().find(|name| *name == field.name) else {
                let location = entry.location(&field.key);
                return Err(if SECRET_FIELDS.contains(&&*field.name) {
                    Cause::Token { location }
                } else {
                    let expected = FIELDS.join(", ");
                    Cause::invalid(
                        location,
                        format!("unknown field, expected one of {expected}"),
                    )
                });
            };
            if entry.get(name).is_some() {
                return Err(entry.invalid(name, "is given twice"));
            }
            entry.fields.push(field);
        }
        Ok(entry)
    }

    fn record(&self) -> Result<TokenRecord, Cause> {
        let digest = self.text("digest", |text| text.parse().map_err(|_| DIGEST));
        let digest = digest?.ok_or_else(|| self.invalid("digest", "is missing"))?;
        let id = self.text("id", |text| {
            text.parse()
                .map_err(|_| "must be ten characters of 0-9, A-Z and a-z")
        })?;
        let mut record = TokenRecord::new(id.unwrap_or_else(|| derived_id(&digest)), digest)
            .with_name(self.text("name", check_text)?.unwrap_or_default())
            .with_roles(self.list("roles", is_role, TEXT)?)
            .with_scopes(self.list("scopes", is_scope, SCOPE)?)
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
        let wrong_type = || self.invalid(name, expected);
        converted.map(|it| it.ok_or_else(wrong_type)).transpose()
    }

    fn text<'a, T>(
        &'a self,
        field: &'static str,
        parse: impl FnOnce(&'a str) -> Result<T, &'static str>,
    ) -> Result<Option<T>, Cause> {
        let text = self.value(field, "must be a string", Value::as_text)?;
        let parsed = text.map(parse).transpose();
        parsed.map_err(|problem| self.invalid(field, problem))
    }

    /// Returns a time that is a string, or a TOML date or time.
    fn time(
        &self,
        field: &'static str,
        parse: fn(&str) -> Result<SystemTime, ParseDateTimeError>,
    ) -> Result<Option<SystemTime>, Cause> {
        let text = self.value(field, "must be a date or a time", |value| {
            match &value.data {
                Data::Text(text) | Data::Time(text) => Some(text),
                _ => None,
            }
        })?;
        let parsed = text.map(|text| parse(text)).transpose();
        parsed.map_err(|error| {
            let problem = match error {
                ParseDateTimeError::Malformed | ParseDateTimeError::Nonexistent => TIME,
                ParseDateTimeError::OutOfRange => "must be a time before the year 10000",
            };
            self.invalid(field, problem)
        })
    }

    /// Returns an array of strings. Rejects invalid and repeated strings, which a record would drop.
    fn list(
        &self,
        field: &'static str,
        is_valid: fn(&str) -> bool,
        problem: &'static str,
    ) -> Result<Vec<&str>, Cause> {
        let texts = self.value(field, "must be an array of strings", |value| {
            match &value.data {
                Data::List(values) => values.iter().map(Value::as_text).collect(),
                _ => None,
            }
        })?;
        let texts: Vec<&str> = texts.unwrap_or_default();
        if !texts.iter().all(|text| is_valid(text)) {
            return Err(self.invalid(field, problem));
        }
        let mut seen = HashSet::with_capacity(texts.len());
        if !texts.iter().all(|text| seen.insert(*text)) {
            return Err(self.invalid(field, "contains a duplicate"));
        }
        Ok(texts)
    }

    fn labels(&self) -> Result<Vec<(&str, &str)>, Cause> {
        let labels = self.value(
            "labels",
            "must be a table of strings",
            |value| match &value.data {
                Data::Map(fields) => fields.iter().map(Field::as_text).collect(),
                _ => None,
            },
        )?;
        let labels: Vec<(&str, &str)> = labels.unwrap_or_default();
        for text in labels.iter().flat_map(|(key, value)| [key, value]) {
            check_text(text).map_err(|problem| self.invalid("labels", problem))?;
        }
        let mut keys = HashSet::with_capacity(labels.len());
        if !labels.iter().all(|(key, _)| keys.insert(*key)) {
            return Err(self.invalid("labels", "contains a duplicate"));
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
    fn invalid(&self, name: &'static str, problem: &'static str) -> Cause {
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

fn check_text(text: &str) -> Result<&str, &'static str> {
    let is_valid = !text.is_empty() && !text.contains(char::is_control);
    is_valid.then_some(text).ok_or(TEXT)
}

fn is_role(text: &str) -> bool {
    !Roles::from_iter([text]).is_empty()
}

fn is_scope(text: &str) -> bool {
    !Scopes::from_iter([text]).is_empty()
}

fn state(text: &str) -> Result<TokenState, &'static str> {
    let states = [
        TokenState::Active,
        TokenState::Disabled,
        TokenState::Revoked,
    ];
    let known = states.into_iter().find(|state| state_name(*state) == text);
    known.ok_or("must be active, disabled or revoked")
}
