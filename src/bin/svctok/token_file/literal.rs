use std::time::SystemTime;

use jiff::Timestamp;
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::expiry_date;
use tower_service_token::store::{TokenRecord, TokenState};

use super::error::TokenFileError;
use crate::context::toml_string;

/// All that a file holds of a token, as it is written in TOML; what is not there has its default.
pub(super) fn literals(
    record: &TokenRecord,
) -> Result<Vec<(&'static str, String)>, TokenFileError> {
    check(record)?;
    let text = |text: Option<&str>| text.map(toml_string);
    let fields = [
        (
            "name",
            text(Some(record.name()).filter(|it| !it.is_empty())),
        ),
        ("digest", Some(toml_string(&record.digest().to_string()))),
        ("id", Some(toml_string(&record.id().to_string()))),
        ("roles", list(record.roles().iter())),
        ("scopes", list(record.scopes().iter())),
        ("subject", text(record.subject())),
        ("description", text(record.description())),
        ("labels", table(record.labels())),
        (
            "expires_at",
            record.expires_at().map(expiry_literal).transpose()?,
        ),
        (
            "not_before",
            record.not_before().map(timestamp_literal).transpose()?,
        ),
        ("state", state(record.state()).map(toml_string)),
    ];
    let fields = fields.into_iter();
    Ok(fields.filter_map(|(name, it)| Some((name, it?))).collect())
}

/// The record without what a file does not hold, with a revision that follows from the rest: the
/// file itself counts none.
pub(super) fn as_stored(record: &TokenRecord) -> Result<TokenRecord, TokenFileError> {
    let content = TokenDigest::of(&format!("{:?}", literals(record)?));
    let (first, _) = content.as_bytes().split_first_chunk().expect("32 bytes");
    // Within the integers that a database keeps.
    let revision = u64::from_be_bytes(*first) >> 12;
    let labels = record.labels();
    let bare = TokenRecord::new(record.id(), *record.digest())
        .with_name(record.name())
        .with_roles(record.roles().iter())
        .with_scopes(record.scopes().iter())
        .with_subject(record.subject())
        .with_description(record.description())
        .with_expires_at(record.expires_at())
        .with_not_before(record.not_before())
        .with_state(record.state())
        .with_revision(revision);
    Ok(labels.fold(bare, |bare, (key, value)| bare.with_label(key, value)))
}

fn check(record: &TokenRecord) -> Result<(), TokenFileError> {
    if record.previous_digest().is_some() {
        return Err(TokenFileError::GracePeriod);
    }
    if record
        .labels()
        .any(|(key, value)| key.is_empty() || value.is_empty())
    {
        let rule = "a label must not be empty".to_owned();
        return Err(TokenFileError::UnsupportedValue(rule));
    }
    Ok(())
}

fn state(state: TokenState) -> Option<&'static str> {
    match state {
        TokenState::Active => None,
        TokenState::Disabled => Some("disabled"),
        TokenState::Revoked => Some("revoked"),
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<String> = names.map(toml_string).collect();
    (!names.is_empty()).then(|| format!("[{}]", names.join(", ")))
}

fn table<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let pairs = pairs.map(|(name, value)| format!("{} = {}", key(name), toml_string(value)));
    let pairs: Vec<String> = pairs.collect();
    (!pairs.is_empty()).then(|| format!("{{ {} }}", pairs.join(", ")))
}

/// Without quotes, where it needs none.
fn key(name: &str) -> String {
    let is_bare = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
    if name.chars().all(is_bare) {
        name.to_owned()
    } else {
        toml_string(name)
    }
}

/// The day, if it works through the end of it; else the moment.
fn expiry_literal(time: SystemTime) -> Result<String, TokenFileError> {
    expiry_date(time).map_or_else(|| timestamp_literal(time), |day| Ok(toml_string(&day)))
}

fn timestamp_literal(time: SystemTime) -> Result<String, TokenFileError> {
    let time = Timestamp::try_from(time).map_err(|_| {
        TokenFileError::UnsupportedValue("a time must lie before the year 10000".to_owned())
    })?;
    Ok(toml_string(&time.to_string()))
}
