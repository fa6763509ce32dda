use utoipa::PartialSchema;
use utoipa::openapi::schema::{AdditionalProperties, AnyOfBuilder, SchemaType};
use utoipa::openapi::{
    ArrayBuilder, KnownFormat, ObjectBuilder, Ref, RefOr, Schema, SchemaFormat, Type,
};

use crate::lifecycle::TokenInfo;

/// One line without control characters and without a space at either end.
const LINE: &str = r"^[^\s\u0000-\u001f\u007f-\u009f]([^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f])?$";
const NO_CONTROL: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";
const SCOPE: &str = r"^[!#-\[\]-~]+$";
const DURATION: &str = "^(P[1-9][0-9]{0,2}[YMWD]|PT[1-9][0-9]{0,3}[HMS]|[1-9][0-9]{0,2}[ywdhms])$";
const GRACE: &str = "^(P[0-9]{1,3}[WD]|PT[0-9]{1,4}[HMS]|[0-9]{1,3}[wdhms])$";

/// Each schema that calls and answers refer to, by its name, but for those of bulk revocation.
pub(super) fn all() -> Vec<(&'static str, RefOr<Schema>)> {
    vec![
        ("ServiceToken", TokenInfo::schema()),
        ("NewServiceToken", new_token()),
        ("ServiceTokenPatch", patch()),
        ("IssuedServiceToken", issued()),
        ("ReplayedServiceToken", replayed()),
        ("RotatedServiceToken", rotated()),
        ("ServiceTokenList", list()),
        ("Rotation", rotation()),
        ("Problem", problem()),
    ]
}

pub(super) fn named(name: &str) -> Ref {
    Ref::from_schema_name(name)
}

pub(super) fn id() -> ObjectBuilder {
    string().pattern(Some("^[0-9A-Za-z]{10}$"))
}

pub(super) fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

pub(super) fn time() -> ObjectBuilder {
    string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

pub(super) fn state() -> ObjectBuilder {
    string().enum_values(Some(["active", "disabled", "revoked", "expired"]))
}

pub(super) fn label() -> ObjectBuilder {
    string()
        .pattern(Some("="))
        .description(Some("`key=value`."))
}

pub(super) fn nullable(schema: ObjectBuilder) -> ObjectBuilder {
    schema.schema_type(SchemaType::from_iter([Type::String, Type::Null]))
}

fn line() -> ObjectBuilder {
    string()
        .min_length(Some(1))
        .max_length(Some(200))
        .pattern(Some(LINE))
}

fn names(pattern: &str) -> ArrayBuilder {
    let name = string().min_length(Some(1)).max_length(Some(200));
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .max_items(Some(100))
        .items(RefOr::from(name.pattern(Some(pattern))))
}

fn labels(value: ObjectBuilder) -> ObjectBuilder {
    let key = string()
        .min_length(Some(1))
        .max_length(Some(100))
        .pattern(Some(NO_CONTROL));
    let value = value.max_length(Some(200)).pattern(Some(NO_CONTROL));
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .max_properties(Some(50))
        .property_names(Some(Schema::Object(key.build())))
        .additional_properties(Some(value))
}

/// An object with no members but those it names.
pub(super) fn closed_object() -> ObjectBuilder {
    ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

/// What people choose of a token.
fn editable_fields(label: ObjectBuilder, default_expiry: &str) -> ObjectBuilder {
    let date = string().format(Some(SchemaFormat::KnownFormat(KnownFormat::Date)));
    let never = ObjectBuilder::new().schema_type(Type::Null);
    let expires_at = AnyOfBuilder::new().item(time()).item(date).item(never);
    let expires_at_description = format!(
        "A moment in the future, or a date: through its end, UTC. `null` is never.{default_expiry}"
    );
    let expires_in_description = format!(
        "In place of `expires_at`: a duration of ISO 8601, or as people write it, counted from now. \
         Longer forms, such as `1y 6mo`, are read too.{default_expiry}"
    );
    closed_object()
        .property("name", line())
        .property("description", nullable(string().max_length(Some(2000))))
        .property("subject", nullable(line()))
        .property("roles", names(NO_CONTROL))
        .property("scopes", names(SCOPE))
        .property("labels", labels(label))
        .property(
            "not_before",
            nullable(time()).description(Some("Before the expiry.")),
        )
        .property(
            "expires_at",
            expires_at.description(Some(expires_at_description)),
        )
        .property(
            "expires_in",
            nullable(string().pattern(Some(DURATION))).description(Some(expires_in_description)),
        )
}

fn new_token() -> RefOr<Schema> {
    let default_expiry = " If the caller's token expires and lacks the scope \
                          `service-tokens:admin`, the default is its expiry; `null` and later \
                          expiries are refused with 403 `escalation_denied`.";
    editable_fields(string(), default_expiry)
        .required("name")
        .into()
}

fn patch() -> RefOr<Schema> {
    let description = "A merge patch (RFC 7396): what is not named stays, `null` clears.";
    editable_fields(nullable(string()), "")
        .description(Some(description))
        .into()
}

fn token_and_secret(token: ObjectBuilder) -> ObjectBuilder {
    ObjectBuilder::new()
        .property("token", token)
        .required("token")
        .property("service_token", named("ServiceToken"))
        .required("service_token")
}

fn secret() -> ObjectBuilder {
    string().description(Some("The secret. It is not shown again."))
}

fn issued() -> RefOr<Schema> {
    token_and_secret(secret()).into()
}

fn replayed() -> RefOr<Schema> {
    let none = ObjectBuilder::new()
        .schema_type(Type::Null)
        .description(Some(
            "The secret is not told again: rotate the token for another.",
        ));
    token_and_secret(none).into()
}

fn rotated() -> RefOr<Schema> {
    token_and_secret(secret())
        .property("grace_ends_at", nullable(time()))
        .required("grace_ends_at")
        .into()
}

fn list() -> RefOr<Schema> {
    let description = "For the next page; `null` on the last.";
    ObjectBuilder::new()
        .property(
            "service_tokens",
            ArrayBuilder::new().items(named("ServiceToken")),
        )
        .required("service_tokens")
        .property(
            "next_cursor",
            nullable(string()).description(Some(description)),
        )
        .required("next_cursor")
        .into()
}

fn rotation() -> RefOr<Schema> {
    let description = "How long the current secret stays valid: a duration in weeks, days or \
         shorter units. None by default. A rotation with the token's previous secret ends the \
         current one, which was lost, and keeps the previous one for at most the rest of its \
         grace.";
    let grace = nullable(string().pattern(Some(GRACE))).description(Some(description));
    closed_object().property("grace", grace).into()
}

pub(super) fn count(description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0))
        .description(Some(description))
}

/// RFC 9457, with the members of this API.
fn problem() -> RefOr<Schema> {
    let error = ObjectBuilder::new()
        .property(
            "pointer",
            string().description(Some("The field, as RFC 6901 has it.")),
        )
        .required("pointer")
        .property("detail", string())
        .required("detail");
    let required = ObjectBuilder::new()
        .property("match", string().enum_values(Some(["any", "all"])))
        .required("match")
        .property("scopes", ArrayBuilder::new().items(RefOr::from(string())));
    let status = ObjectBuilder::new().schema_type(Type::Integer);
    let expected = "The `expect` of the call; `null` if it had none and needs one.";
    let expected = count(expected).schema_type(SchemaType::from_iter([Type::Integer, Type::Null]));
    ["type", "title", "status", "detail", "code"]
        .into_iter()
        .fold(ObjectBuilder::new(), ObjectBuilder::required)
        .property("type", string())
        .property("title", string())
        .property("status", status)
        .property(
            "detail",
            string().description(Some("What is wrong, for people.")),
        )
        .property(
            "code",
            string().description(Some("What is wrong, for programs.")),
        )
        .property("token_id", id())
        .property("errors", ArrayBuilder::new().items(RefOr::from(error)))
        .property("missing", ArrayBuilder::new().items(RefOr::from(string())))
        .property(
            "forbidden",
            count("How many tokens the caller may not revoke."),
        )
        .property("expected", expected)
        .property("found", count("How many tokens the filter matches."))
        .property("required", required)
        .into()
}
