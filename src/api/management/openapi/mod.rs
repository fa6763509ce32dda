mod answers;
mod bulk;
mod call;
mod calls;
mod schemas;

use std::sync::Arc;

use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Paths, Server,
};

use super::endpoints::Shared;
use crate::api::SecuritySchemes;
use crate::header::CredentialSources;

pub(super) const PATH: &str = "/openapi.json";

/// All calls, by tokens that are read from these sources.
pub(super) fn document(sources: &CredentialSources) -> OpenApi {
    let schemes = SecuritySchemes::of(sources);
    let mut paths = Paths::new();
    for call in calls::all() {
        let (path, method) = (call.path, call.method.clone());
        let item = PathItem::new(method, call.into_operation(&schemes));
        match paths.paths.get_mut(path) {
            Some(known) => known.merge_operations(item),
            None => drop(paths.paths.insert(path.to_owned(), item)),
        }
    }
    let info = InfoBuilder::new()
        .title("Service tokens")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Service tokens: created, listed, changed, rotated, revoked.",
        ));
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas::all())
        .schemas_from_iter(bulk::all())
        .responses_from_iter(answers::refusals());
    let mut components = components.build();
    components.add_security_schemes_from_iter(schemes);
    OpenApiBuilder::new()
        .info(info.build())
        .paths(paths)
        .components(Some(components))
        .build()
}

/// The answer to a request for the document; where it was asked for tells where the calls are.
pub(super) async fn handle(
    State(shared): State<Arc<Shared>>,
    OriginalUri(target): OriginalUri,
) -> Response {
    let prefix = target.path().strip_suffix(PATH).unwrap_or_default();
    let prefix = if prefix.is_empty() { "/" } else { prefix };
    let mut document = document(shared.sources());
    document.servers = Some(vec![Server::new(prefix)]);
    let document = document.to_json();
    let document = document.expect("texts, numbers and maps of them are JSON");
    let kind = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, kind)], document).into_response()
}
