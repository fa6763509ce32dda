//! Schemas of members with stricter rules than their Rust types.

use std::ops::RangeInclusive;

use serde_json::Value;
use utoipa::openapi::schema::{AnyOfBuilder, SchemaType};
use utoipa::openapi::{
    Array, ArrayBuilder, KnownFormat, Object, ObjectBuilder, RefOr, Schema, SchemaFormat, Type,
};

use crate::store::TokenStatus;
use crate::text::{INVISIBLE, JOINERS};
use crate::token::DisplayId;

/// White space at the ends is removed.
const SCOPE: &str = r"^ *[!#-\[\]-~]+ *$";
/// Several lines, with tabs.
const DESCRIPTION: &str = r"^([^\u0000-\u0008\u000b-\u001f\u007f-\u009f]|\r\n)*$";
const DURATION: &str = "^(P[1-9][0-9]{0,2}[YMWD]|PT[1-9][0-9]{0,3}[HMS]|[1-9][0-9]{0,2}[ywdhms])$";
/// The largest number of an id.
const MAX_NUMBER: u64 = 9_999_999_999_999;
const DEFAULT_EXPIRY: &str = " If the caller's token expires and lacks the scope \
                              `service-tokens:admin`, the default is its expiry; `null` and later \
                              expiries are refused with 403 `escalation_denied`.";

/// One line without invisible characters and without a space at either end.
fn line_pattern() -> String {
    let (any, other, joiners) = (any_character(), other_class(), members(&JOINERS));
    let (start, visible) = (visible_character(), visible_class());
    format!("^{start}({any}*([!-~]|{visible}|{other}[{joiners}]+))?$")
}

/// No invisible characters.
fn text_pattern() -> String {
    format!("^{}*$", any_character())
}

/// No invisible characters, but a visible one. White space at the ends of a role is removed.
fn visible_pattern() -> String {
    let (any, visible) = (any_character(), visible_character());
    format!("^{any}*{visible}{any}*$")
}

/// A character that is not invisible, with its joiners: ASCII has none.
fn any_character() -> String {
    format!("([ -~]|{}[{}]*)", other_class(), members(&JOINERS))
}

fn visible_character() -> String {
    format!("([!-~]|{}[{}]*)", visible_class(), members(&JOINERS))
}

/// The characters beyond ASCII that are not invisible.
fn other_class() -> String {
    format!(
        r"[^\u0000-\u007f{}{}]",
        members(&INVISIBLE[1..]),
        members(&JOINERS)
    )
}

/// Those that are no white space either.
fn visible_class() -> String {
    other_class().replacen("[^", r"[^\s", 1)
}

/// Returns the members of a character class. JSON Schema has no escape for the characters above U+FFFF
/// that all implementations read.
fn members(ranges: &[RangeInclusive<char>]) -> String {
    let member = |char: char| match u32::from(char) {
        code @ 0..=0xffff => format!(r"\u{code:04x}"),
        _ => char.to_string(),
    };
    let ranges = ranges.iter().map(|range| (*range.start(), *range.end()));
    let ranges = ranges.map(|(start, end)| {
        if start == end {
            member(start)
        } else {
            format!("{}-{}", member(start), member(end))
        }
    });
    ranges.collect()
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn nullable(schema: ObjectBuilder) -> ObjectBuilder {
    schema.schema_type(SchemaType::from_iter([Type::String, Type::Null]))
}

fn id() -> Object {
    string().pattern(Some("^[0-9A-Za-z]{10}$")).build()
}

/// Of any form: a store may display ids of its own.
pub(super) fn display_id() -> Object {
    string()
        .min_length(Some(1))
        .max_length(Some(DisplayId::MAX_LENGTH))
        .pattern(Some(r"^[!#-\[\]-~]+$"))
        .build()
}

pub(super) fn ids() -> Array {
    let ids = ArrayBuilder::new().items(RefOr::T(Schema::Object(id())));
    ids.build()
}

fn line_text() -> ObjectBuilder {
    string()
        .min_length(Some(1))
        .max_length(Some(200))
        .pattern(Some(line_pattern()))
}

pub(super) fn line() -> Object {
    line_text().build()
}

pub(super) fn line_or_null() -> Object {
    nullable(line_text()).build()
}

pub(super) fn owner() -> Object {
    let description = "Who manages the token. A token with an owner manages at most the tokens of that \
                       owner. The default is the owner of the caller's token. Another one needs the scope \
                       `service-tokens:admin`.";
    let owner = nullable(line_text());
    owner.description(Some(description)).build()
}

pub(super) fn owner_patch() -> Object {
    let description = "Who manages the token. The holder of a token with an owner cannot change it, others need the \
         scope `service-tokens:admin`. A change ends the grace period of the last rotation, and removes \
         `created_by`.";
    let owner = nullable(line_text());
    owner.description(Some(description)).build()
}

pub(super) fn description() -> Object {
    let description = string().max_length(Some(2000)).pattern(Some(DESCRIPTION));
    nullable(description).build()
}

pub(super) fn roles() -> Array {
    names(&visible_pattern())
}

pub(super) fn scopes() -> Array {
    names(SCOPE)
}

fn names(pattern: &str) -> Array {
    let name = string().min_length(Some(1)).max_length(Some(200));
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .max_items(Some(100))
        .items(RefOr::from(name.pattern(Some(pattern))))
        .build()
}

pub(super) fn labels() -> Object {
    labels_of(string())
}

pub(super) fn label_patch() -> Object {
    labels_of(nullable(string()))
}

fn labels_of(value: ObjectBuilder) -> Object {
    let key = string()
        .min_length(Some(1))
        .max_length(Some(100))
        .pattern(Some(visible_pattern()));
    let value = value.max_length(Some(200)).pattern(Some(text_pattern()));
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .max_properties(Some(50))
        .property_names(Some(Schema::Object(key.build())))
        .additional_properties(Some(value))
        .build()
}

fn date_time() -> ObjectBuilder {
    string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

fn date() -> ObjectBuilder {
    string().format(Some(SchemaFormat::KnownFormat(KnownFormat::Date)))
}

fn null() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Null)
}

fn time_or_date() -> AnyOfBuilder {
    AnyOfBuilder::new().item(date_time()).item(date())
}

fn nullable_start(description: &str) -> Schema {
    let start = time_or_date().item(null());
    start.description(Some(description)).into()
}

/// A start in a query.
pub(super) fn start() -> Schema {
    time_or_date().into()
}

pub(super) fn expires_before() -> Schema {
    nullable_start("Expires before this time. A date means its start, UTC.")
}

pub(super) fn last_used_before() -> Schema {
    nullable_start("Last used, or created, before this time. A date means its start, UTC.")
}

pub(super) fn not_before() -> Schema {
    nullable_start(
        "When the token starts working: before the expiry. A time, or a date: from its start, UTC.",
    )
}

/// The number of an id in a query.
pub(super) fn number() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0))
        .maximum(Some(MAX_NUMBER))
        .build()
}

pub(super) fn number_or_null() -> Object {
    let types = [Type::Integer, Type::String, Type::Null];
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter(types))
        .minimum(Some(0))
        .maximum(Some(MAX_NUMBER))
        .pattern(Some("^(0|[1-9][0-9]{0,12})$"))
        .description(Some(
            "The number of the id, of at most 13 digits, as clients with integer ids show it.",
        ))
        .build()
}

pub(super) fn expires_at() -> Schema {
    expires_at_with_default("")
}

pub(super) fn new_expires_at() -> Schema {
    expires_at_with_default(DEFAULT_EXPIRY)
}

fn expires_at_with_default(default: &str) -> Schema {
    let description =
        format!("A time in the future, or a date: through its end, UTC. `null` is never.{default}");
    let expires_at = time_or_date().item(null());
    expires_at.description(Some(description)).into()
}

pub(super) fn expires_in() -> Object {
    expires_in_with_default("")
}

pub(super) fn new_expires_in() -> Object {
    expires_in_with_default(DEFAULT_EXPIRY)
}

fn expires_in_with_default(default: &str) -> Object {
    let description = format!(
        "A duration from now, instead of `expires_at`: ISO 8601, or such as `30d`. Longer forms, \
         such as `1y 6mo`, are accepted too.{default}"
    );
    let duration = nullable(string().pattern(Some(DURATION)));
    duration.description(Some(description)).build()
}

fn states() -> [String; 4] {
    use TokenStatus::{Active, Disabled, Expired, Revoked};
    [Active, Disabled, Revoked, Expired].map(|state| state.to_string())
}

pub(super) fn state() -> Object {
    string().enum_values(Some(states())).build()
}

pub(super) fn state_or_null() -> Object {
    let states = states().map(Value::from).into_iter().chain([Value::Null]);
    nullable(string()).enum_values(Some(states)).build()
}

pub(super) fn always_true() -> Object {
    constant(true)
}

pub(super) fn always_false() -> Object {
    constant(false)
}

pub(super) fn no_secret() -> Object {
    let description = "The secret is not shown again. Rotate the token for another one.";
    null().description(Some(description)).build()
}

fn constant(value: bool) -> Object {
    let constant = ObjectBuilder::new().schema_type(Type::Boolean);
    constant.enum_values(Some([value])).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::is_invisible;

    /// Reads the members of a class, as a regular expression does.
    fn read(members: &str) -> Vec<RangeInclusive<char>> {
        let mut chars = members.chars().peekable();
        let member = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let char = chars.next()?;
            if char != '\\' {
                return Some(char);
            }
            assert_eq!(chars.next(), Some('u'), "{members}");
            let code: String = chars.by_ref().take(4).collect();
            char::from_u32(u32::from_str_radix(&code, 16).unwrap())
        };
        let mut ranges = Vec::new();
        while let Some(start) = member(&mut chars) {
            let end = match chars.next_if_eq(&'-') {
                Some(_) => member(&mut chars).unwrap(),
                None => start,
            };
            ranges.push(start..=end);
        }
        ranges
    }

    #[test]
    fn patterns_reject_the_characters_that_the_service_rejects() {
        let class = other_class();
        let members = class.strip_prefix("[^").unwrap().strip_suffix(']').unwrap();
        let rejected = read(members);
        for char in '\u{80}'..=char::MAX {
            let is_rejected = rejected.iter().any(|range| range.contains(&char));
            let is_joiner = JOINERS.iter().any(|range| range.contains(&char));
            assert_eq!(
                is_rejected,
                is_invisible(char) || is_joiner,
                "{:?}",
                char.escape_unicode()
            );
        }
        let is_ascii = |char: char| is_invisible(char) != (' '..='~').contains(&char);
        assert!(('\0'..'\u{80}').all(is_ascii));
        for pattern in [text_pattern(), line_pattern(), visible_pattern()] {
            assert!(pattern.contains(&any_character()), "{pattern}");
        }
    }
}
