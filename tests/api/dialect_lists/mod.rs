//! Token lists of the dialects.
//!
//! The dialects have no paging. The server streams a list page by page, limits the number of
//! concurrent lists, and aborts the response if a page fails, so that a client never takes a
//! truncated list for a complete one.

mod aborted;
mod failures;

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use futures::StreamExt;
use http::{Request, Response};
use serde_json::Value;
use tests::api_fixture::ApiFixture;
use tower::ServiceExt;
use tower_service_token::MemoryStore;
use tower_service_token::api::pipeops::PipeOpsApi;
use tower_service_token::api::stackstate::StackStateApi;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::testing::{Fault, FaultyStore};

/// The number of tokens that the server reads per page.
const PAGE: usize = 500;

const LISTS: [&str; 2] = ["/api/security/tokens", "/api/v1/service-account-tokens"];

struct Server {
    managed: ApiFixture,
    store: FaultyStore<MemoryStore>,
    app: Router,
}

impl Server {
    /// Serves both dialects from a store with this many tokens.
    async fn with(tokens: usize) -> Self {
        let store = FaultyStore::new(MemoryStore::new());
        let managed = ApiFixture::new(MemoryStore::new(), store.clone()).await;
        for number in 0..tokens {
            let new = NewToken::new(format!("token {number}"));
            let _ = managed.tokens.create(new).await.unwrap();
        }
        let stackstate = StackStateApi::new(managed.tokens.clone(), managed.layer.clone());
        let pipeops = PipeOpsApi::new(managed.tokens.clone(), managed.layer.clone());
        let app = Router::new()
            .nest("/api", stackstate.into_router())
            .merge(pipeops.into_router());
        Self {
            managed,
            store,
            app,
        }
    }

    fn request(&self, method: &str, target: &str, body: &str) -> Request<Body> {
        let token = self.managed.admin.expose_secret();
        Request::builder()
            .method(method)
            .uri(target)
            .header("x-api-key", token)
            .header("x-request-id", "req-7")
            .header("content-type", "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap()
    }

    async fn list(&self, target: &str) -> Response<Body> {
        let request = self.request("GET", target, "");
        self.app.clone().oneshot(request).await.unwrap()
    }
}

async fn collect(body: Body) -> Vec<Bytes> {
    let mut chunks = body.into_data_stream();
    let mut collected = Vec::new();
    while let Some(chunk) = chunks.next().await {
        collected.push(chunk.unwrap());
    }
    collected
}

/// Returns the token names in the list that these chunks form.
fn names(chunks: &[Bytes]) -> Vec<String> {
    let json: Value = serde_json::from_slice(&chunks.concat()).expect("one JSON document");
    let data = &json["data"];
    let tokens = if data.is_null() {
        &json
    } else {
        &data["tokens"]
    };
    let tokens = tokens.as_array().expect("an array");
    if !data.is_null() {
        assert_eq!(data["total"], tokens.len());
        assert_eq!(json["message"], "service account tokens");
        assert_eq!(
            (&json["status"], &json["success"]),
            (&"success".into(), &true.into())
        );
    }
    let name = |token: &Value| token["name"].as_str().unwrap().to_owned();
    tokens.iter().map(name).collect()
}

#[tokio::test]
async fn lists_of_any_length_are_complete() {
    for count in [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 3] {
        let server = Server::with(count).await;
        let mut expected: Vec<_> = (0..count).map(|number| format!("token {number}")).collect();
        expected.sort();
        for target in LISTS {
            let response = server.list(target).await;
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["content-type"], "application/json");
            assert_eq!(response.headers()["cache-control"], "no-store");
            let chunks = collect(response.into_body()).await;
            let mut names = names(&chunks);
            names.sort();
            assert_eq!(names, expected, "{target}");
            assert_eq!(chunks.len(), count.div_ceil(PAGE).max(1));
        }
    }
}

#[tokio::test]
async fn pages_are_read_as_the_client_consumes_them() {
    let server = Server::with(4 * PAGE).await;
    for target in LISTS {
        let before = server.store.calls();
        let response = server.list(target).await;
        let mut chunks = response.into_body().into_data_stream();
        for pages in 1..=4 {
            let read = server.store.calls() - before;
            assert!(read <= pages, "{read} pages read, {} taken", pages - 1);
            let chunk = chunks.next().await.unwrap().unwrap();
            let tokens = String::from_utf8(chunk.to_vec()).unwrap();
            let tokens = tokens.matches("\"name\":").count();
            assert_eq!(tokens, PAGE, "{target}");
        }
        assert!(chunks.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_four_lists_are_written_concurrently() {
    let server = Server::with(PAGE + 1).await;
    for target in LISTS {
        let mut open = Vec::new();
        for _ in 0..4 {
            open.push(server.list(target).await);
        }
        let start = tokio::time::Instant::now();
        let rejected = server.list(target).await;
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        assert_eq!(rejected.status(), 503);
        assert_eq!(rejected.headers()["retry-after"], "5");
        // A waiting request is admitted when a client disconnects or a list completes.
        let waiting = server.list(target);
        let disconnecting = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            open.pop();
        };
        let (admitted, ()) = futures::join!(waiting, disconnecting);
        assert_eq!(admitted.status(), 200);
        collect(admitted.into_body()).await;
        assert_eq!(server.list(target).await.status(), 200);
    }
}

#[tokio::test]
async fn failure_on_the_first_page_is_503() {
    let server = Server::with(PAGE + 1).await;
    server.store.inject(Fault::Error);
    for target in LISTS {
        let response = server.list(target).await;
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key("retry-after"));
    }
}

/// A server that delays the end of a body polls it again.
#[tokio::test]
async fn list_can_be_polled_after_its_end() {
    let server = Server::with(PAGE + 1).await;
    for target in LISTS {
        let mut chunks = server.list(target).await.into_body().into_data_stream();
        while let Some(chunk) = chunks.next().await {
            chunk.unwrap();
        }
        for _ in 0..2 {
            assert!(chunks.next().await.is_none(), "{target}");
        }
    }
}
