use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use axum::body::{Body, Bytes};
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde_json::Value;
use utoipa::openapi::{OpenApi, Server};

use crate::media_type;

pub(super) const PATH: &str = "/openapi.json";

/// The OpenAPI document as JSON. The first request renders it.
pub(super) struct Document {
    build: Box<dyn Fn() -> OpenApi + Send + Sync>,
    /// What precedes and follows the URL of the server.
    parts: OnceLock<[Bytes; 2]>,
}

impl Document {
    pub(super) fn new(build: impl Fn() -> OpenApi + Send + Sync + 'static) -> Self {
        Self {
            build: Box::new(build),
            parts: OnceLock::new(),
        }
    }

    fn render(&self) -> [Bytes; 2] {
        const URL: &str = r#""{prefix}""#;
        let mut document = (self.build)();
        document.servers = Some(vec![Server::new(URL.trim_matches('"'))]);
        let json = document.to_json();
        let json = Bytes::from(json.expect("the document is plain data"));
        let url = json.windows(URL.len()).position(|it| it == URL.as_bytes());
        let url = url.expect("the document has a server");
        [json.slice(..url), json.slice(url + URL.len()..)]
    }
}

/// Returns this document.
///
/// Responses share its memory, so that many slow clients occupy little.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "getServiceTokenDocument",
    responses((status = 200, description = "The document.", body = Value)),
)]
pub(super) async fn handle(
    State(document): State<Arc<Document>>,
    OriginalUri(target): OriginalUri,
) -> Response {
    // The path of the request shows where the router is nested.
    let prefix = target.path().strip_suffix(PATH).unwrap_or_default();
    let url = Value::from(if prefix.is_empty() { "/" } else { prefix }).to_string();
    let [before, after] = document.parts.get_or_init(|| document.render()).clone();
    let parts = [before, Bytes::from(url), after];
    let length: usize = parts.iter().map(Bytes::len).sum();
    let body = Body::from_stream(futures_util::stream::iter(parts.map(Ok::<_, Infallible>)));
    let media_type = HeaderValue::from_static(media_type::JSON);
    let headers = [(CONTENT_TYPE, media_type), (CONTENT_LENGTH, length.into())];
    (headers, body).into_response()
}
