use http::StatusCode;
use utoipa::openapi::{
    Content, Header, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Schema, Type,
};

use super::schemas::{named, string};

/// Each refusal that several calls share, by its status, with the codes it may tell.
const ERROR_RESPONSES: [(u16, &str); 13] = [
    (
        400,
        "`invalid_request`: the request, or its credential, cannot be read.",
    ),
    (
        401,
        "`missing_token`, `invalid_token`, or what became of the token.",
    ),
    (
        403,
        "`insufficient_scope`; `escalation_denied`: the caller's token does not cover the token \
         that it changes, with the roles and scopes that are `missing` or the number of `forbidden` \
         tokens, or expires before it; `unknown_actor`: the caller's token is not in the store that \
         it changes.",
    ),
    (404, "`not_found`: there is no such token."),
    (
        409,
        "`name_taken`, `too_many_tokens`, `token_revoked`, `token_expired`, `rotated_meanwhile`, \
         `unexpected_count`, with the numbers `expected` and `found`; `last_admin`: no other token may administer tokens.",
    ),
    (
        412,
        "`precondition_failed`: the token was changed since it was read.",
    ),
    (413, "`too_large`: the body is larger than 64 KiB."),
    (415, "`unsupported_media_type`."),
    (
        422,
        "`invalid_fields`, with `errors`; `idempotency_key_reused`.",
    ),
    (
        428,
        "`precondition_required`: a token is rotated with its previous secret only with `If-Match`.",
    ),
    (
        429,
        "`rate_limited`: too many unknown tokens from this client.",
    ),
    (500, "`internal`."),
    (503, "`auth_unavailable`: the store could not be asked."),
];

/// The refusals, by the names that calls refer to them by.
pub(super) fn error_responses() -> impl Iterator<Item = (String, Response)> {
    ERROR_RESPONSES.into_iter().map(|(status, codes)| {
        let content = Content::new(Some(named("Problem")));
        let response = ResponseBuilder::new()
            .description(codes)
            .content("application/problem+json", content);
        let response = match status {
            400 | 401 | 403 => response.header(
                "WWW-Authenticate",
                header(
                    string(),
                    "A challenge for each scheme, where a credential is at fault.",
                ),
            ),
            429 | 503 => response.header("Retry-After", header(count(), "In seconds.")),
            _ => response,
        };
        (name(status), response.build())
    })
}

/// The refusal with this status.
pub(super) fn error_response(status: u16) -> Ref {
    Ref::from_response_name(name(status))
}

/// What a call that was done is answered with: JSON of this schema, if any.
pub(super) fn success_response(
    description: &str,
    schema: Option<RefOr<Schema>>,
) -> ResponseBuilder {
    let done = ResponseBuilder::new().description(description);
    match schema {
        Some(schema) => done.content("application/json", Content::new(Some(schema))),
        None => done,
    }
}

pub(super) fn etag() -> Header {
    header(string(), "The revision of the token, for `If-Match`.")
}

pub(super) fn location() -> Header {
    header(string(), "Where the token is.")
}

pub(super) fn effective_within() -> Header {
    header(
        count(),
        "After how many seconds, at the latest, every node knows.",
    )
}

pub(super) fn replayed() -> Header {
    header(
        string().enum_values(Some(["true"])),
        "The token was created before.",
    )
}

fn count() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0))
}

fn header(schema: ObjectBuilder, description: &str) -> Header {
    let mut header = Header::new(schema);
    header.description = Some(description.to_owned());
    header
}

fn name(status: u16) -> String {
    let status = StatusCode::from_u16(status).ok();
    let reason = status.and_then(|status| status.canonical_reason());
    reason.unwrap_or_default().replace(' ', "")
}
