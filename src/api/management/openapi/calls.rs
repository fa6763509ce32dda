use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::schema::OneOfBuilder;
use utoipa::openapi::{HttpMethod, ObjectBuilder, RefOr, Required, ResponseBuilder, Type};

use super::answers::{done, effective_within, etag, location, replayed};
use super::call::{Call, parameter};
use super::schemas::{label, named, state, text, time};

const READ: &str = "service-tokens:read";
const WRITE: &str = "service-tokens:write";
const ALL: &str = "/service-tokens";
const ONE: &str = "/service-tokens/{id}";
const ROTATE: &str = "/service-tokens/{id}/rotate";
const DISABLE: &str = "/service-tokens/{id}/disable";
const ENABLE: &str = "/service-tokens/{id}/enable";
const OWN: &str = "/service-tokens/self";
const ROTATE_OWN: &str = "/service-tokens/self/rotate";
const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// Every call of the API.
pub(super) fn all() -> Vec<Call> {
    let mut calls = vec![create(), list(), update(), revoke_many(), document()];
    calls.extend(of_one());
    calls.extend(of_own());
    calls
}

fn of_one() -> [Call; 5] {
    let post = |path, name, summary| Call::new(HttpMethod::Post, path, name, summary).needs(WRITE);
    let switched = |call: Call| call.answered(200, changed(shown())).conditional();
    let revoked = done("It is revoked, now or since before.", None);
    let (get, delete) = (HttpMethod::Get, HttpMethod::Delete);
    [
        Call::new(get, ONE, "getServiceToken", "What is known of a token")
            .needs(READ)
            .answered(200, shown()),
        Call::new(
            delete,
            ONE,
            "revokeServiceToken",
            "Revokes a token for good",
        )
        .needs(WRITE)
        .conditional()
        .keeps_admin()
        .answered(204, changed(revoked)),
        rotation(post(
            ROTATE,
            "rotateServiceToken",
            "Issues a new secret for a token",
        )),
        switched(post(DISABLE, "disableServiceToken", "Disables a token")).keeps_admin(),
        switched(post(
            ENABLE,
            "enableServiceToken",
            "Enables a token that was disabled",
        )),
    ]
}

fn of_own() -> [Call; 3] {
    let own = |method, path, name, summary| Call::new(method, path, name, summary).refused(&[404]);
    let shows = "What is known of the caller's own token";
    let rotates = "Issues a new secret for the caller's own token";
    let revokes = "Revokes the caller's own token for good";
    [
        own(HttpMethod::Get, OWN, "getOwnServiceToken", shows).answered(200, shown()),
        own(HttpMethod::Delete, OWN, "revokeOwnServiceToken", revokes)
            .conditional()
            .keeps_admin()
            .refused(&[403])
            .answered(204, changed(done("It is revoked.", None))),
        rotation(own(
            HttpMethod::Post,
            ROTATE_OWN,
            "rotateOwnServiceToken",
            rotates,
        ))
        .refused(&[403]),
    ]
}

fn document() -> Call {
    let schema = ObjectBuilder::new().into();
    Call::open("/openapi.json", "getDocument", "This document")
        .answered(200, done("The document.", Some(schema)))
}

fn create() -> Call {
    let key = parameter(
        "Idempotency-Key",
        ParameterIn::Header,
        text().pattern(Some("^[!#-~]{1,255}$")),
        "A text of your own for each token wanted, such as a random UUID: a call that is sent \
         again with it makes no second token. Also as a string in quotes. It is remembered as long \
         as the record of the token.",
    );
    let again = "Created before with this `Idempotency-Key`: the record, without its secret.";
    Call::new(
        HttpMethod::Post,
        ALL,
        "createServiceToken",
        "Creates a token",
    )
    .needs(WRITE)
    .parameter(key)
    .takes(&[JSON], "NewServiceToken", Required::True)
    .answered(
        201,
        changed(done(
            "The token, and its secret.",
            Some(named("IssuedServiceToken").into()),
        ))
        .header("Location", location()),
    )
    .answered(
        200,
        done(again, Some(named("ReplayedServiceToken").into()))
            .header("Location", location())
            .header("Idempotency-Replayed", replayed()),
    )
    .refused(&[409])
}

fn list() -> Call {
    let limit = ObjectBuilder::new().schema_type(Type::Integer);
    let limit = limit
        .minimum(Some(1))
        .maximum(Some(1000))
        .default(Some(50.into()));
    [
        ("limit", limit, "How many at most."),
        ("cursor", text(), "The `next_cursor` of the page before."),
        ("name", text(), "With this name."),
        ("role", text(), "With this role among others."),
        ("scope", text(), "With this scope among others."),
        ("subject", text(), "Acting for this subject."),
        ("state", state(), "In this state."),
        ("label", label(), "With this label."),
        ("expires_before", time(), "Expiring before this moment."),
        (
            "last_used_before",
            time(),
            "Last used, or created, before this moment.",
        ),
    ]
    .into_iter()
    .fold(
        Call::new(
            HttpMethod::Get,
            ALL,
            "listServiceTokens",
            "One page of the tokens",
        )
        .needs(READ),
        |call, (name, schema, description)| {
            call.parameter(parameter(name, ParameterIn::Query, schema, description))
        },
    )
    .answered(
        200,
        done("One page.", Some(named("ServiceTokenList").into())),
    )
    .refused(&[422])
}

fn update() -> Call {
    Call::new(
        HttpMethod::Patch,
        ONE,
        "updateServiceToken",
        "Changes a token",
    )
    .needs(WRITE)
    .conditional()
    .keeps_admin()
    .takes(&[MERGE_PATCH, JSON], "ServiceTokenPatch", Required::True)
    .answered(200, changed(shown()))
}

fn revoke_many() -> Call {
    let either = OneOfBuilder::new()
        .item(named("RevokedServiceTokens"))
        .item(named("RevocableServiceTokens"));
    let summary = "Revokes the tokens that a filter matches";
    Call::new(
        HttpMethod::Post,
        "/service-tokens/revoke",
        "revokeServiceTokens",
        summary,
    )
    .needs(WRITE)
    .takes(&[JSON], "Revocation", Required::True)
    .answered(
        200,
        changed(done(
            "The tokens that the call revoked, or would revoke.",
            Some(RefOr::T(either.into())),
        )),
    )
    .refused(&[409])
}

fn rotation(call: Call) -> Call {
    let schema = named("RotatedServiceToken").into();
    call.takes(&[JSON], "Rotation", Required::False)
        .answered(
            200,
            changed(done("The token, and its new secret.", Some(schema))),
        )
        .conditional()
        .refused(&[428])
}

fn shown() -> ResponseBuilder {
    done("The token.", Some(named("ServiceToken").into())).header("ETag", etag())
}

fn changed(answer: ResponseBuilder) -> ResponseBuilder {
    answer.header("Service-Token-Effective-Within", effective_within())
}
