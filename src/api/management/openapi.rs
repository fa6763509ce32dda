//! The OpenAPI document: the operations of the handlers and the schemas of [`wire`](crate::wire),
//! with what all operations share.

use std::sync::Arc;

use http::StatusCode;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::SecurityScheme;
use utoipa::openapi::{
    Components, Content, Header, ObjectBuilder, OpenApi, Ref, RefOr, Required, Response,
    ResponseBuilder, SecurityRequirement, Type,
};
use utoipa::{Modify, OpenApi as _, ToSchema};

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
        "`auth_unavailable`: the store, or the check of the caller, is unavailable, and nothing was \
         changed; `change_failed`: the store was unavailable during the change, which may have been \
         made, or the limits of the owner were, and nothing was changed, as `detail` says.",
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

/// What the document describes.
#[derive(Clone)]
pub(super) struct Description {
    /// The headers with service tokens, or none if the application authenticates the callers.
    sources: Option<CredentialSources>,
    pub(super) operation_id_prefix: String,
    pub(super) modifier: Option<Arc<dyn Modify + Send + Sync>>,
}

impl Description {
    /// Describes an API for requests with a token in one of these sources.
    pub(super) fn for_tokens(sources: &CredentialSources) -> Self {
        Self {
            sources: Some(sources.clone()),
            ..Self::for_actors()
        }
    }

    /// Describes an API for callers that the application authenticates, and describes itself.
    pub(super) fn for_actors() -> Self {
        Self {
            sources: None,
            operation_id_prefix: String::new(),
            modifier: None,
        }
    }

    pub(super) fn document(&self) -> OpenApi {
        let mut document = match &self.sources {
            Some(sources) => document_for_tokens(sources),
            None => document_for_actors(),
        };
        for (_, _, operation) in operations(&mut document) {
            if let Some(id) = &mut operation.operation_id {
                id.insert_str(0, &self.operation_id_prefix);
            }
        }
        if let Some(modifier) = &self.modifier {
            modifier.modify(&mut document);
        }
        // Merging would apply it to the operations of the other document.
        if let Some(security) = document.security.take() {
            for (_, _, operation) in operations(&mut document) {
                operation.security.get_or_insert_with(|| security.clone());
            }
        }
        document
    }
}

fn document_for_tokens(sources: &CredentialSources) -> OpenApi {
    let schemes = SecuritySchemes::for_sources(sources);
    let mut document = Operations::openapi();
    complete_all(&mut document, Some(&schemes));
    let components = document.components.get_or_insert_with(Components::new);
    components.responses.extend(ERRORS.map(error));
    components.add_security_schemes_from_iter(schemes);
    document
}

fn document_for_actors() -> OpenApi {
    let mut document = Operations::openapi();
    let paths = &mut document.paths.paths;
    paths.retain(|path, _| !path.contains("/self"));
    complete_all(&mut document, None);
    let shared = ERRORS.into_iter();
    let shared = shared.filter(|(status, _)| !differs_for_actors(*status));
    let own = ACTOR_ERRORS.map(|(status, codes)| (actor_name(status), error((status, codes)).1));
    let components = document.components.get_or_insert_with(Components::new);
    components.responses.extend(shared.map(error).chain(own));
    document
}

fn complete_all(document: &mut OpenApi, schemes: Option<&[(String, SecurityScheme)]>) {
    for (path, is_change, operation) in operations(document) {
        complete(path, is_change, operation, schemes);
    }
}

/// Returns the operations, each with its path and whether it is a change.
fn operations(document: &mut OpenApi) -> impl Iterator<Item = (&str, bool, &mut Operation)> {
    let items = document.paths.paths.iter_mut();
    items.flat_map(|(path, item)| {
        let operations = [
            (false, &mut item.get),
            (true, &mut item.put),
            (true, &mut item.post),
            (true, &mut item.delete),
            (false, &mut item.options),
            (false, &mut item.head),
            (true, &mut item.patch),
            (false, &mut item.trace),
            (false, &mut item.query),
        ];
        let operations = operations.into_iter();
        let operations =
            operations.filter_map(|(is_change, operation)| Some((is_change, operation.as_mut()?)));
        let others = item.additional_operations.values_mut();
        let others = others.map(|operation| (true, operation));
        let all = operations.chain(others);
        all.map(|(is_change, operation)| (path.as_str(), is_change, operation))
    })
}

/// Adds the security requirements, the error responses and the headers of changes.
fn complete(
    path: &str,
    is_change: bool,
    operation: &mut Operation,
    schemes: Option<&[(String, SecurityScheme)]>,
) {
    if path == document::PATH {
        operation.tags = None;
        operation.security = Some(vec![SecurityRequirement::default()]);
        return;
    }
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
        let name = match schemes {
            None if differs_for_actors(status) => actor_name(status),
            _ => name(status),
        };
        let error = Ref::from_response_name(name);
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

/// Returns an error response with the name of its component.
fn error((status, codes): (u16, &str)) -> (String, RefOr<Response>) {
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
    format!("ServiceToken{}", reason(status))
}

/// Returns the name of an error response that differs for callers that the application authenticates,
/// so that both documents nest into one.
fn actor_name(status: u16) -> String {
    format!("ServiceTokenActor{}", reason(status))
}

fn differs_for_actors(status: u16) -> bool {
    ACTOR_ERRORS.iter().any(|(other, _)| *other == status)
}

/// Returns the reason phrase of a status, as one word.
fn reason(status: u16) -> String {
    let status = StatusCode::from_u16(status).ok();
    let reason = status.and_then(|status| status.canonical_reason());
    reason.unwrap_or_default().replace(' ', "")
}
