use std::time::SystemTime;

use super::document::FIELDS;
use crate::clock::date_time;
use crate::digest::TokenDigest;
use crate::store::file::token_file_error::TokenFileError;
use crate::store::{TokenRecord, TokenState};

/// The fields of a token as TOML literals, in the order of [`FIELDS`]. A field with its default
/// value is left out.
pub(in crate::store::file) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    pub(in crate::store::file) fn of(record: &TokenRecord) -> Result<Self, TokenFileError> {
        if record.previous_digest().is_some() {
            return Err(TokenFileError::GracePeriod);
        }
        let mut labels = record.labels();
        if labels.any(|(key, value)| key.is_empty() || value.is_empty()) {
            return Err(unsupported("a label must not be empty"));
        }
        let name = Some(record.name()).filter(|name| !name.is_empty());
        let state = Some(record.state()).filter(|state| *state != TokenState::Active);
        let literals = [
            name.map(string),
            Some(string(&record.digest().to_string())),
            Some(string(&record.id().to_string())),
            array(record.roles().iter()),
            array(record.scopes().iter()),
            record.subject().map(string),
            record.owner().map(string),
            record.description().map(string),
            table(record.labels()),
            record.expires_at().map(expiry).transpose()?,
            record.not_before().map(timestamp).transpose()?,
            state.map(|state| string(state.as_str())),
        ];
        let fields = FIELDS.into_iter().zip(literals);
        let fields = fields.filter_map(|(name, literal)| Some((name, literal?)));
        Ok(Self(fields.collect()))
    }

    pub(in crate::store::file) fn get(&self, field: &str) -> Option<&str> {
        let (_, literal) = self.0.iter().find(|(name, _)| *name == field)?;
        Some(literal)
    }

    /// Returns the fields as lines of a table, or as the content of an inline table.
    pub(in crate::store::file) fn join(&self, separator: &str) -> String {
        let fields = self.0.iter();
        let fields = fields.map(|(name, literal)| format!("{name} = {literal}"));
        fields.collect::<Vec<_>>().join(separator)
    }

    /// Returns a revision that follows from the content, because the file stores none.
    pub(in crate::store::file) fn revision(&self) -> u64 {
        let content = TokenDigest::of(&self.join("\n"));
        // Within the integers that a database stores.
        u64::from_be(content.index()) >> 12
    }
}

/// Returns a basic string of TOML. JSON strings are basic strings, apart from the character DEL.
pub(in crate::store::file) fn string(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    json.replace('\u{7f}', "\\u007f")
}

fn array<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<String> = names.map(string).collect();
    (!names.is_empty()).then(|| format!("[{}]", names.join(", ")))
}

fn table<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let pairs: Vec<String> = pairs.map(|(name, value)| pair(name, value)).collect();
    (!pairs.is_empty()).then(|| format!("{{ {} }}", pairs.join(", ")))
}

/// Returns a key, without quotes if possible, and a string.
pub(in crate::store::file) fn pair(name: &str, value: &str) -> String {
    let is_bare = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
    let is_bare = name.chars().all(is_bare);
    let name = if is_bare { name } else { &string(name) };
    format!("{name} = {}", string(value))
}

/// Returns the last day of a token that expires at midnight, else the time.
fn expiry(time: SystemTime) -> Result<String, TokenFileError> {
    match date_time::last_day(time).filter(|_| date_time::is_midnight(time)) {
        Some(date) => Ok(string(&date)),
        None => timestamp(time),
    }
}

fn timestamp(time: SystemTime) -> Result<String, TokenFileError> {
    let time = date_time::format(time);
    let time = time.ok_or_else(|| unsupported("a time must not be before the year 0"))?;
    Ok(string(&time))
}

fn unsupported(rule: &str) -> TokenFileError {
    TokenFileError::UnsupportedValue(rule.to_owned())
}
