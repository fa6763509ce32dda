use std::collections::HashSet;
use std::ops::Range;
use std::time::SystemTime;

use super::document::{FIELDS, Field, Format, Value, line};
use crate::clock::date_time::{self, ParseDateTimeError};
use crate::digest::TokenDigest;
use crate::principal::{Roles, Scopes};
use crate::store::file::error::{Cause, Location};
use crate::store::{TokenRecord, TokenState};
use crate::token::TokenId;

/// Names of fields whose value is probably a token.
const SECRET_FIELDS: [&str; 3] = ["token", "secret", "api_key"];

/// The rule of names, subjects, owners, roles and labels.
const TEXT: &str = "must not be empty or contain control characters";

const SCOPE: &str = "must consist of visible ASCII characters without '\"' and '\\'";

const DIGEST: &str =
    "must be 'sha256:' and 64 hexadecimal digits; the file holds digests, never tokens";

const ID: &str = "must be ten characters of 0-9, A-Z and a-z";

const TIME: &str = "must be a valid date, yyyy-MM-dd, or an RFC 3339 time with an offset";

/// Reads all tokens of a file. Returns an error if any of them is invalid.
pub(in crate::store::file) fn records(
    format: Format,
    text: &str,
) -> Result<Vec<TokenRecord>, Cause> {
    let document = format.parse(text)?;
    // The places of JSON values are unknown.
    let text = (format == Format::Toml).then_some(text);
    let root = Table::new(&document, None, text)?;
    let tokens = root.value("tokens", "must be an array of tokens", Value::as_list)?;
    let tokens = tokens.ok_or_else(|| root.invalid("tokens", "is missing"))?;
    let (mut ids, mut digests) = (HashSet::new(), HashSet::new());
    let records = (1..).zip(tokens).map(|(number, value)| {
        let table = Table::new(value, Some(number), text)?;
        let record = table.record()?;
        if !digests.insert(*record.digest().as_bytes()) {
            return Err(table.invalid("digest", "is already used by an earlier token"));
        }
        if !ids.insert(record.id()) {
            return Err(table.invalid("id", "is already used by an earlier token"));
        }
        Ok(record)
    });
    records.collect()
}

/// A table whose fields are known and occur once: the whole file, or a token.
struct Table<'v> {
    fields: &'v [Field],
    span: &'v Range<usize>,
    /// The number of the token, counted from 1.
    token: Option<usize>,
    /// The text of a TOML file.
    text: Option<&'v str>,
}

impl<'v> Table<'v> {
    fn new(value: &'v Value, token: Option<usize>, text: Option<&'v str>) -> Result<Self, Cause> {
        let (known, expected): (&[&'static str], _) = match token {
            Some(_) => (&FIELDS, "must be a table"),
            None => (&["tokens"], "must be an object with the field `tokens`"),
        };
        let (span, fields) = (&value.span, value.as_map().unwrap_or_default());
        let table = Self {
            fields,
            span,
            token,
            text,
        };
        if value.as_map().is_none() {
            return Err(Cause::invalid(table.location(Some(span)), expected));
        }
        for (index, field) in fields.iter().enumerate() {
            let Some(name) = known.iter().find(|name| **name == field.name) else {
                let location = table.location(Some(&field.key));
                return Err(match token {
                    Some(_) if SECRET_FIELDS.contains(&&*field.name) => Cause::Token { location },
                    Some(_) => Cause::invalid(location, unknown_field()),
                    None => Cause::invalid(location, "unknown field, expected `tokens`"),
                });
            };
            if fields[..index].iter().any(|it| it.name == *name) {
                return Err(table.invalid(name, "is given twice"));
            }
        }
        Ok(table)
    }

    fn record(&self) -> Result<TokenRecord, Cause> {
        let digest = self.text("digest", |text| text.parse().map_err(|_| DIGEST));
        let digest = digest?.ok_or_else(|| self.invalid("digest", "is missing"))?;
        let id = self.text("id", |text| text.parse().map_err(|_| ID))?;
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
        if let Some(owner) = self.text("owner", check_text)? {
            record = record.with_owner(owner);
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
        let text = self.value(field, "must be a date or a time", Value::as_time)?;
        let parsed = text.map(parse).transpose();
        parsed.map_err(|_| self.invalid(field, TIME))
    }

    /// Returns an array of strings. Rejects invalid and repeated strings, which a record would drop.
    fn list(
        &self,
        field: &'static str,
        is_valid: fn(&str) -> bool,
        problem: &'static str,
    ) -> Result<Vec<&str>, Cause> {
        let texts = self.value(field, "must be an array of strings", Value::as_texts)?;
        let texts = texts.unwrap_or_default();
        if !texts.iter().all(|text| is_valid(text)) {
            return Err(self.invalid(field, problem));
        }
        if has_duplicate(texts.iter()) {
            return Err(self.invalid(field, "contains a duplicate"));
        }
        Ok(texts)
    }

    fn labels(&self) -> Result<Vec<(&str, &str)>, Cause> {
        let labels = self.value("labels", "must be a table of strings", Value::as_pairs)?;
        let labels = labels.unwrap_or_default();
        for text in labels.iter().flat_map(|(key, value)| [key, value]) {
            check_text(text).map_err(|problem| self.invalid("labels", problem))?;
        }
        if has_duplicate(labels.iter().map(|(key, _)| key)) {
            return Err(self.invalid("labels", "contains a duplicate"));
        }
        Ok(labels)
    }

    fn get(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    fn location(&self, span: Option<&Range<usize>>) -> Location {
        let line = |(text, span): (&str, &Range<usize>)| line(text, span.start);
        Location {
            line: self.text.zip(span).map(line),
            token: self.token,
            ..Location::default()
        }
    }

    /// Returns the error of a field. A missing field of a token is located by the token.
    fn invalid(&self, name: &'static str, problem: &'static str) -> Cause {
        let missing = self.token.map(|_| self.span);
        let span = self.get(name).map(|field| &field.key).or(missing);
        let field = Some(name);
        let location = Location {
            field,
            ..self.location(span)
        };
        Cause::invalid(location, problem)
    }
}

fn unknown_field() -> String {
    format!("unknown field, expected one of {}", FIELDS.join(", "))
}

fn has_duplicate<'a>(texts: impl Iterator<Item = &'a &'a str>) -> bool {
    let mut seen = HashSet::new();
    !texts.into_iter().all(|text| seen.insert(text))
}

/// Returns an id from the digest of the digest: an id is public and must not reveal its source.
fn derived_id(digest: &TokenDigest) -> TokenId {
    const IDS: u64 = 62_u64.pow(10);
    let digest = TokenDigest::of(&digest.to_string());
    let number = u64::from_be(digest.index()) % IDS;
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
    let known = states.into_iter().find(|state| state.as_str() == text);
    known.ok_or("must be active, disabled or revoked")
}
