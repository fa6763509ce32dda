//! The OpenAPI document: the operations of the handlers and the schemas of [`wire`](crate::wire),
//! with what all operations share.

use http::StatusCode;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::SecurityScheme;
use utoipa::openapi::{
    Components, Content, Header, HttpMethod, ObjectBuilder, OpenApi, Ref, RefOr, Required,
    Response, ResponseBuilder, SecurityRequirement, Type,
};
use utoipa::{OpenApi as _, ToSchema};

use super::{bulk, create, document, list, token};
use crate::header::CredentialSources;
use crate::openapi::SecuritySchemes;
use crate::wire::Problem;

/// The error responses, with the codes of each status.
const ERRORS: [(u16, &str); 13] = [
    (
        400,
        "`invalid_request`: the request or its credential is malformed, or gives a member twice.",
    ),
    (
        401,
        "`missing_token`, `invalid_token`, or the state of the token.",
    ),
    (
        403,
        "`insufficient_scope`; `escalation_denied`: the changed token has roles or scopes that the \
         caller's token lacks (`missing`, or the number of `forbidden` tokens), or expires after \
         it; `unknown_actor`: the caller's token is not in the store that it changes.",
    ),
    (404, "`not_found`: there is no such token."),
    (
        409,
        "`name_taken`, `digest_taken`, `too_many_tokens`, `token_revoked`, `token_expired`, `rotated_meanwhile`, \
         `unexpected_count`, with the numbers `expected` and `found`; `last_admin`: no other token \
         may administer tokens.",
    ),
    (
        412,
        "`precondition_failed`: the token was changed since it was read. No tag in `If-Match` matches a \
         list of tokens.",
    ),
    (413, "`too_large`: the body is larger than 64 KiB."),
    (415, "`unsupported_media_type`."),
    (
        422,
        "`invalid_fields`, with `errors`; `idempotency_key_reused`.",
    ),
    (
        428,
        "`precondition_required`: a rotation with the previous secret needs `If-Match`.",
    ),
    (
        429,
        "`rate_limited`: too many unknown tokens from this client.",
    ),
    (500, "`internal`."),
    (
        503,
        "`auth_unavailable`: the store is unavailable; `change_failed`: it was unavailable during \
         the change, which may have been made.",
    ),
];

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Service tokens",
        description = "Creates, lists, updates, rotates and revokes service tokens."
    ),
    paths(
        create::handle,
        list::handle,
        bulk::handle,
        document::handle,
        token::get,
        token::update,
        token::revoke,
        token::rotate,
        token::disable,
        token::enable,
        token::get_own,
        token::revoke_own,
        token::rotate_own,
    ),
    components(schemas(Problem))
)]
struct Operations;

/// The error responses to callers that the application authenticates, where they differ.
const ACTOR_ERRORS: [(u16, &str); 2] = [
    (
        401,
        "The caller is not authenticated. `actor_rejected`: its session or token is no longer \
         accepted.",
    ),
    (
        403,
        "`cross_site_request`: a page of another site requests the change; `escalation_denied`: the \
         changed token has roles or scopes that the caller may not grant (`missing`, or the number of \
         `forbidden` tokens); `insufficient_scope` and `unknown_actor`: for callers that hold a \
         service token.",
    ),
];

/// Creates the document for requests with a token in one of these sources.
pub(super) fn document(sources: &CredentialSources) -> OpenApi {
    let schemes = SecuritySchemes::for_sources(sources);
    let mut document = Operations::openapi();
    complete_all(&mut document, Some(&schemes));
    let components = document.components.get_or_insert_with(Components::new);
    components.responses.extend(errors(|_| None));
    components.add_security_schemes_from_iter(schemes);
    document
}

/// Creates the document for callers that the application authenticates, and describes itself.
pub(super) fn document_for_actors() -> OpenApi {
    let mut document = Operations::openapi();
    let paths = &mut document.paths.paths;
    paths.retain(|path, _| !path.contains("/self"));
    complete_all(&mut document, None);
    let components = document.components.get_or_insert_with(Components::new);
    let codes_of = |status| {
        let mut errors = ACTOR_ERRORS.into_iter();
        errors.find_map(|(known, codes)| (known == status).then_some(codes))
    };
    components.responses.extend(errors(codes_of));
    document
}

fn complete_all(document: &mut OpenApi, schemes: Option<&[(String, SecurityScheme)]>) {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in [
            (HttpMethod::Get, &mut item.get),
            (HttpMethod::Post, &mut item.post),
            (HttpMethod::Patch, &mut item.patch),
            (HttpMethod::Delete, &mut item.delete),
        ] {
            if let Some(operation) = operation {
                complete(path, &method, operation, schemes);
            }
        }
    }
}

/// Adds the security requirements, the error responses and the headers of changes.
fn complete(
    path: &str,
    method: &HttpMethod,
    operation: &mut Operation,
    schemes: Option<&[(String, SecurityScheme)]>,
) {
    if path == document::PATH {
        operation.tags = None;
        operation.security = Some(vec![SecurityRequirement::default()]);
        return;
    }
    let is_change = *method != HttpMethod::Get;
    let scope = match (path.contains("/self"), is_change) {
        (true, _) => None,
        (false, true) => Some("service-tokens:write"),
        (false, false) => Some("service-tokens:read"),
    };
    let requirement = |(name, _): &(String, _)| SecurityRequirement::new(name, scope);
    operation.security = schemes.map(|schemes| schemes.iter().map(requirement).collect());
    operation.tags = Some(vec!["service-tokens".to_owned()]);
    operation.description = scope
        .filter(|_| schemes.is_some())
        .map(|scope| format!("Needs the scope `{scope}` or `service-tokens:admin`."));
    if let Some(RefOr::T(body)) = &mut operation.request_body
        && path.ends_with("/rotate")
    {
        body.required = Some(Required::False);
    }
    let errors: Vec<_> = errors_of(path, is_change, operation).collect();
    let responses = &mut operation.responses.responses;
    for (status, response) in responses.iter_mut() {
        let is_replay = path == "/service-tokens" && status == "200";
        if let RefOr::T(response) = response
            && is_change
            && !is_replay
        {
            let description = "The seconds after which every node sees the change, at the latest.";
            let within = header(count(), description);
            let name = "Service-Token-Effective-Within".to_owned();
            response.headers.insert(name, RefOr::T(within));
        }
    }
    for status in errors {
        let error = Ref::from_response_name(name(status));
        responses.insert(status.to_string(), RefOr::Ref(error));
    }
}

/// Returns the statuses of the errors that an operation may have.
fn errors_of(
    path: &str,
    is_change: bool,
    operation: &Operation,
) -> impl Iterator<Item = u16> + use<> {
    let (is_own, is_of_one) = (path.contains("/self"), path.contains("{id}"));
    let (is_rotation, is_of_many) = (path.ends_with("/rotate"), path == "/service-tokens");
    let has_body = operation.request_body.is_some();
    let statuses = ERRORS.into_iter().map(|(status, _)| status);
    statuses.filter(move |status| match status {
        403 => is_change || !is_own,
        404 => is_own || is_of_one,
        409 | 412 => is_change,

        413 | 415 => has_body,
        422 => has_body || is_of_many,
        428 => is_rotation,
        _ => true,
    })
}

/// Returns the error responses with their component names. `codes_of` may replace the codes of a
/// status.
fn errors(
    codes_of: impl Fn(u16) -> Option<&'static str>,
) -> impl Iterator<Item = (String, RefOr<Response>)> {
    ERRORS.into_iter().map(move |(status, codes)| {
        let codes = codes_of(status).unwrap_or(codes);
        let content = Content::new(Some(Ref::from_schema_name(Problem::name())));
        let error = ResponseBuilder::new()
            .description(codes)
            .content(Problem::MEDIA_TYPE, content);
        let error = match status {
            400 | 401 | 403 => {
                let description = "One challenge per scheme, if the credential is at fault.";
                let text = ObjectBuilder::new().schema_type(Type::String);
                error.header("WWW-Authenticate", header(text, description))
            }
            429 | 503 => error.header("Retry-After", header(count(), "In seconds.")),
            _ => error,
        };
        (name(status), error.build().into())
    })
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
    format!(
        "ServiceToken{}",
        reason.unwrap_or_default().replace(' ', "")
    )
}
