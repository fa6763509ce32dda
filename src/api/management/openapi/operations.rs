use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::schema::OneOfBuilder;
use utoipa::openapi::{HttpMethod, ObjectBuilder, RefOr, Required, ResponseBuilder, Type};

use super::operation::{ApiOperation, parameter};
use super::responses::{effective_within, etag, location, replayed, success_response};
use super::schemas::{label, named, state, string, time};

const READ: &str = "service-tokens:read";
const WRITE: &str = "service-tokens:write";
const COLLECTION: &str = "/service-tokens";
const ITEM: &str = "/service-tokens/{id}";
const ROTATE: &str = "/service-tokens/{id}/rotate";
const DISABLE: &str = "/service-tokens/{id}/disable";
const ENABLE: &str = "/service-tokens/{id}/enable";
const SELF: &str = "/service-tokens/self";
const ROTATE_SELF: &str = "/service-tokens/self/rotate";
const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// Every call of the API.
pub(super) fn all() -> Vec<ApiOperation> {
    let mut calls = vec![create(), list(), update(), revoke_many(), document()];
    calls.extend(token_operations());
    calls.extend(own_token_operations());
    calls
}

fn token_operations() -> [ApiOperation; 5] {
    let post = |path, name, summary| {
        ApiOperation::new(HttpMethod::Post, path, name, summary).requires_scope(WRITE)
    };
    let switched = |call: ApiOperation| {
        call.with_response(200, with_effective_within(token_response()))
            .conditional()
    };
    let revoked = success_response("It is revoked, now or since before.", None);
    let (get, delete) = (HttpMethod::Get, HttpMethod::Delete);
    [
        ApiOperation::new(get, ITEM, "getServiceToken", "What is known of a token")
            .requires_scope(READ)
            .with_response(200, token_response()),
        ApiOperation::new(
            delete,
            ITEM,
            "revokeServiceToken",
            "Revokes a token for good",
        )
        .requires_scope(WRITE)
        .conditional()
        .with_last_admin_confirmation()
        .with_response(204, with_effective_within(revoked)),
        rotation(post(
            ROTATE,
            "rotateServiceToken",
            "Issues a new secret for a token",
        )),
        switched(post(DISABLE, "disableServiceToken", "Disables a token"))
            .with_last_admin_confirmation(),
        switched(post(
            ENABLE,
            "enableServiceToken",
            "Enables a token that was disabled",
        )),
    ]
}

fn own_token_operations() -> [ApiOperation; 3] {
    let own = |method, path, name, summary| {
        ApiOperation::new(method, path, name, summary).with_errors(&[404])
    };
    let shows = "What is known of the caller's own token";
    let rotates = "Issues a new secret for the caller's own token";
    let revokes = "Revokes the caller's own token for good";
    [
        own(HttpMethod::Get, SELF, "getOwnServiceToken", shows)
            .with_response(200, token_response()),
        own(HttpMethod::Delete, SELF, "revokeOwnServiceToken", revokes)
            .conditional()
            .with_last_admin_confirmation()
            .with_errors(&[403])
            .with_response(
                204,
                with_effective_within(success_response("It is revoked.", None)),
            ),
        rotation(own(
            HttpMethod::Post,
            ROTATE_SELF,
            "rotateOwnServiceToken",
            rotates,
        ))
        .with_errors(&[403]),
    ]
}

fn document() -> ApiOperation {
    let schema = ObjectBuilder::new().into();
    ApiOperation::public("/openapi.json", "getDocument", "This document")
        .with_response(200, success_response("The document.", Some(schema)))
}

fn create() -> ApiOperation {
    let key = parameter(
        "Idempotency-Key",
        ParameterIn::Header,
        string().pattern(Some("^[!#-~]{1,255}$")),
        "A text of your own for each token wanted, such as a random UUID: a call that is sent \
         again with it makes no second token. Also as a string in quotes. It is remembered as long \
         as the record of the token.",
    );
    let again = "Created before with this `Idempotency-Key`: the record, without its secret.";
    ApiOperation::new(
        HttpMethod::Post,
        COLLECTION,
        "createServiceToken",
        "Creates a token",
    )
    .requires_scope(WRITE)
    .parameter(key)
    .with_request_body(&[JSON], "NewServiceToken", Required::True)
    .with_response(
        201,
        with_effective_within(success_response(
            "The token, and its secret.",
            Some(named("IssuedServiceToken").into()),
        ))
        .header("Location", location()),
    )
    .with_response(
        200,
        success_response(again, Some(named("ReplayedServiceToken").into()))
            .header("Location", location())
            .header("Idempotency-Replayed", replayed()),
    )
    .with_errors(&[409])
}

fn list() -> ApiOperation {
    let limit = ObjectBuilder::new().schema_type(Type::Integer);
    let limit = limit
        .minimum(Some(1))
        .maximum(Some(1000))
        .default(Some(50.into()));
    [
        ("limit", limit, "How many at most."),
        ("cursor", string(), "The `next_cursor` of the page before."),
        ("name", string(), "With this name."),
        ("role", string(), "With this role among others."),
        ("scope", string(), "With this scope among others."),
        ("subject", string(), "Acting for this subject."),
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
        ApiOperation::new(
            HttpMethod::Get,
            COLLECTION,
            "listServiceTokens",
            "One page of the tokens",
        )
        .requires_scope(READ),
        |call, (name, schema, description)| {
            call.parameter(parameter(name, ParameterIn::Query, schema, description))
        },
    )
    .with_response(
        200,
        success_response("One page.", Some(named("ServiceTokenList").into())),
    )
    .with_errors(&[422])
}

fn update() -> ApiOperation {
    ApiOperation::new(
        HttpMethod::Patch,
        ITEM,
        "updateServiceToken",
        "Changes a token",
    )
    .requires_scope(WRITE)
    .conditional()
    .with_last_admin_confirmation()
    .with_request_body(&[MERGE_PATCH, JSON], "ServiceTokenPatch", Required::True)
    .with_response(200, with_effective_within(token_response()))
}

fn revoke_many() -> ApiOperation {
    let either = OneOfBuilder::new()
        .item(named("RevokedServiceTokens"))
        .item(named("RevocableServiceTokens"));
    let summary = "Revokes the tokens that a filter matches";
    ApiOperation::new(
        HttpMethod::Post,
        "/service-tokens/revoke",
        "revokeServiceTokens",
        summary,
    )
    .requires_scope(WRITE)
    .with_request_body(&[JSON], "Revocation", Required::True)
    .with_response(
        200,
        with_effective_within(success_response(
            "The tokens that the call revoked, or would revoke.",
            Some(RefOr::T(either.into())),
        )),
    )
    .with_errors(&[409])
}

fn rotation(call: ApiOperation) -> ApiOperation {
    let schema = named("RotatedServiceToken").into();
    call.with_request_body(&[JSON], "Rotation", Required::False)
        .with_response(
            200,
            with_effective_within(success_response(
                "The token, and its new secret.",
                Some(schema),
            )),
        )
        .conditional()
        .with_errors(&[428])
}

fn token_response() -> ResponseBuilder {
    success_response("The token.", Some(named("ServiceToken").into())).header("ETag", etag())
}

fn with_effective_within(answer: ResponseBuilder) -> ResponseBuilder {
    answer.header("Service-Token-Effective-Within", effective_within())
}
