//! The schemas of bulk revocation.

use serde_json::Value;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, RefOr, Schema, Type};

use super::schemas::{closed_object, count, id, label, nullable, string, time};

/// Each of these schemas, by its name.
pub(super) fn all() -> [(&'static str, RefOr<Schema>); 3] {
    [
        ("Revocation", revocation()),
        ("RevokedServiceTokens", revoked()),
        ("RevocableServiceTokens", revocable()),
    ]
}

fn revocation() -> RefOr<Schema> {
    let filter = closed_object()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .property("name", nullable(string()))
        .property("role", nullable(string()))
        .property("scope", nullable(string()))
        .property("subject", nullable(string()))
        .property("state", nullable_state())
        .property("label", nullable(label()))
        .property("expires_before", nullable(time()))
        .property("last_used_before", nullable(time()))
        .description(Some("The tokens that match: all, if it has no condition."));
    let expect = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Integer, Type::Null]))
        .minimum(Some(0))
        .description(Some(
            "How many tokens match: if the number differs, nothing is revoked. Needed if more than \
             100 tokens match, more than half of those neither revoked nor expired, or the caller's \
             own.",
        ));
    let dry_run = SchemaType::from_iter([Type::Boolean, Type::Null]);
    closed_object()
        .property("filter", filter)
        .property("dry_run", ObjectBuilder::new().schema_type(dry_run))
        .property("expect", expect)
        .into()
}

fn revoked() -> RefOr<Schema> {
    let remaining = "How many matching tokens are still to be revoked. If it is not 0, repeat the \
                     call with this number as `expect`.";
    ObjectBuilder::new()
        .property("dry_run", constant(false))
        .required("dry_run")
        .property("ids", ids())
        .required("ids")
        .property("revoked", count("How many tokens the call revoked."))
        .required("revoked")
        .property("remaining", count(remaining))
        .required("remaining")
        .into()
}

fn revocable() -> RefOr<Schema> {
    let sample = "Up to 100 of the matching tokens, the oldest first.";
    let forbidden = "How many of the matching tokens the caller may not revoke. If it is not 0, the \
                     call is refused.";
    let ends_administration = "Whether no other valid token could administer tokens afterwards. If \
                               so, the call is refused with 409 `last_admin`.";
    let flag = |description| {
        let flag = ObjectBuilder::new().schema_type(Type::Boolean);
        flag.description(Some(description))
    };
    ObjectBuilder::new()
        .property("dry_run", constant(true))
        .required("dry_run")
        .property("count", count("How many tokens match."))
        .required("count")
        .property(
            "sample",
            ids().description(Some(sample)).max_items(Some(100)),
        )
        .required("sample")
        .property("forbidden", count(forbidden))
        .required("forbidden")
        .property("needs_expect", flag("Whether the call needs `expect`."))
        .required("needs_expect")
        .property("ends_administration", flag(ends_administration))
        .required("ends_administration")
        .into()
}

fn ids() -> ArrayBuilder {
    ArrayBuilder::new().items(RefOr::from(id()))
}

fn constant(value: bool) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .enum_values(Some([value]))
}

fn nullable_state() -> ObjectBuilder {
    let states = ["active", "disabled", "revoked", "expired"].map(Value::from);
    nullable(string()).enum_values(Some(states.into_iter().chain([Value::Null])))
}
