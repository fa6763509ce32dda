mod responses;
mod bulk;
mod operation;
mod operations;
mod schemas;

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde_json::Value;
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Paths, Server,
};

use super::endpoints::ApiState;
use crate::api::SecuritySchemes;
use crate::header::CredentialSources;

pub(super) const PATH: &str = "/openapi.json";

/// All calls, by tokens that are read from these sources.
pub(super) fn document(sources: &CredentialSources) -> OpenApi {
    let schemes = SecuritySchemes::for_sources(sources);
    let mut paths = Paths::new();
    for call in operations::all() {
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
        .responses_from_iter(responses::error_responses());
    let mut components = components.build();
    components.add_security_schemes_from_iter(schemes);
    OpenApiBuilder::new()
        .info(info.build())
        .paths(paths)
        .components(Some(components))
        .build()
}

/// The document as JSON, without the URL of its server. Rendered once per router.
pub(super) struct Template {
    before: Bytes,
    after: Bytes,
}

impl Template {
    /// The document of calls by tokens that are read from these sources.
    pub(super) fn new(sources: &CredentialSources) -> Self {
        const URL: &str = r#""{prefix}""#;
        let mut document = document(sources);
        document.servers = Some(vec![Server::new(URL.trim_matches('"'))]);
        let json = document.to_json();
        let json = Bytes::from(json.expect("texts, numbers and maps of them are JSON"));
        let url = json.windows(URL.len()).position(|it| it == URL.as_bytes());
        let url = url.expect("the document has a server");
        Self {
            before: json.slice(..url),
            after: json.slice(url + URL.len()..),
        }
    }

    /// The document of a server at this URL. Both parts are shared, so that many responses that wait
    /// for their clients occupy little.
    fn render(&self, url: &str) -> Response {
        let url = Value::from(url).to_string();
        let parts = [self.before.clone(), Bytes::from(url), self.after.clone()];
        let length: usize = parts.iter().map(Bytes::len).sum();
        let parts = parts.map(Ok::<_, Infallible>);
        let body = Body::from_stream(futures::stream::iter(parts));
        let kind = HeaderValue::from_static("application/json");
        let headers = [(CONTENT_TYPE, kind), (CONTENT_LENGTH, length.into())];
        (headers, body).into_response()
    }
}

/// The answer to a request for the document; where it was asked for tells where the calls are.
pub(super) async fn handle(
    State(state): State<Arc<ApiState>>,
    OriginalUri(target): OriginalUri,
) -> Response {
    let prefix = target.path().strip_suffix(PATH).unwrap_or_default();
    let prefix = if prefix.is_empty() { "/" } else { prefix };
    state.document().render(prefix)
}
