//! Schemas of members with stricter rules than their Rust types.

use serde_json::Value;
use utoipa::openapi::schema::{AnyOfBuilder, SchemaType};
use utoipa::openapi::{
    Array, ArrayBuilder, KnownFormat, Object, ObjectBuilder, RefOr, Schema, SchemaFormat, Type,
};

use crate::store::TokenStatus;

/// The members of a character class: control and invisible characters.
macro_rules! invisible {
    () => {
        r"\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff0-\ufffb"
    };
}

/// One line without invisible characters and without a space at either end.
const LINE: &str = concat!(
    r"^[^\s",
    invisible!(),
    "]([^",
    invisible!(),
    r"]*[^\s",
    invisible!(),
    "])?$"
);
const VISIBLE: &str = concat!("^[^", invisible!(), "]*$");
/// Not blank. White space at the ends is removed.
const ROLE: &str = concat!(
    "^[^",
    invisible!(),
    r"]*[^\s",
    invisible!(),
    "][^",
    invisible!(),
    "]*$"
);
/// White space at the ends is removed.
const SCOPE: &str = r"^ *[!#-\[\]-~]+ *$";
/// Several lines, with tabs.
const DESCRIPTION: &str = r"^([^\u0000-\u0008\u000b-\u001f\u007f-\u009f]|\r\n)*$";
const DURATION: &str = "^(P[1-9][0-9]{0,2}[YMWD]|PT[1-9][0-9]{0,3}[HMS]|[1-9][0-9]{0,2}[ywdhms])$";
const DEFAULT_EXPIRY: &str = " If the caller's token expires and lacks the scope \
                              `service-tokens:admin`, the default is its expiry; `null` and later \
                              expiries are refused with 403 `escalation_denied`.";

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn nullable(schema: ObjectBuilder) -> ObjectBuilder {
    schema.schema_type(SchemaType::from_iter([Type::String, Type::Null]))
}

pub(super) fn id() -> Object {
    string().pattern(Some("^[0-9A-Za-z]{10}$")).build()
}

pub(super) fn ids() -> Array {
    let ids = ArrayBuilder::new().items(RefOr::T(Schema::Object(id())));
    ids.build()
}

fn line_text() -> ObjectBuilder {
    string()
        .min_length(Some(1))
        .max_length(Some(200))
        .pattern(Some(LINE))
}

pub(super) fn line() -> Object {
    line_text().build()
}

pub(super) fn line_or_null() -> Object {
    nullable(line_text()).build()
}

pub(super) fn owner() -> Object {
    let description = "Who manages the token. A token with an owner manages at most the tokens of that \
                       owner. The default is the owner of the caller's token.";
    let owner = nullable(line_text());
    owner.description(Some(description)).build()
}

pub(super) fn owner_patch() -> Object {
    let description =
        "Who manages the token. The holder of a token with an owner cannot change it.";
    let owner = nullable(line_text());
    owner.description(Some(description)).build()
}

pub(super) fn description() -> Object {
    let description = string().max_length(Some(2000)).pattern(Some(DESCRIPTION));
    nullable(description).build()
}

pub(super) fn roles() -> Array {
    names(ROLE)
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
        .pattern(Some(VISIBLE));
    let value = value.max_length(Some(200)).pattern(Some(VISIBLE));
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

pub(super) fn expires_at() -> Schema {
    expires_at_with_default("")
}

pub(super) fn new_expires_at() -> Schema {
    expires_at_with_default(DEFAULT_EXPIRY)
}

fn expires_at_with_default(default: &str) -> Schema {
    let date = string().format(Some(SchemaFormat::KnownFormat(KnownFormat::Date)));
    let never = ObjectBuilder::new().schema_type(Type::Null);
    let description =
        format!("A time in the future, or a date: through its end, UTC. `null` is never.{default}");
    let expires_at = AnyOfBuilder::new().item(date_time()).item(date).item(never);
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
    let null = ObjectBuilder::new().schema_type(Type::Null);
    null.description(Some(description)).build()
}

fn constant(value: bool) -> Object {
    let constant = ObjectBuilder::new().schema_type(Type::Boolean);
    constant.enum_values(Some([value])).build()
}
