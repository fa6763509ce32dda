//! The protected app. It returns the request that reaches it.

use std::net::SocketAddr;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

pub(crate) struct App {
    _runtime: Runtime,
    pub(crate) port: u16,
}

impl App {
    pub(crate) fn start() -> Self {
        Self::serve(Router::new().fallback(echo))
    }

    pub(crate) fn serve(router: Router) -> Self {
        let runtime = Runtime::new().expect("the runtime starts");
        let bound = runtime.block_on(TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))));
        let listener = bound.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        runtime.spawn(async { axum::serve(listener, router).await });
        Self {
            _runtime: runtime,
            port,
        }
    }
}

/// Returns the headers and the body. Responds to `/broken` with 500.
async fn echo(request: Request) -> Response {
    if request.uri().path() == "/broken" {
        return (StatusCode::INTERNAL_SERVER_ERROR, "broken").into_response();
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await;
    let mut headers = Value::Object(serde_json::Map::new());
    for (name, value) in &parts.headers {
        headers[name.as_str()] = json!(String::from_utf8_lossy(value.as_bytes()));
    }
    let body = body.map(|body| String::from_utf8_lossy(&body).into_owned());
    Json(json!({"headers": headers, "body": body.unwrap_or_default()})).into_response()
}
