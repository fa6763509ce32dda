//! rustauth with the plugin `api_key` of rustauth-plugins.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::middleware::{Next, from_fn_with_state};
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use rustauth::RustAuth;
use rustauth_core::db::{Create, DbAdapter, MemoryAdapter};
use rustauth_core::options::RateLimitOptions;
use rustauth_plugins::api_key::{
    API_KEY_MODEL, ApiKeyConfiguration, ApiKeyOptions, ApiKeyRecord, api_key, default_key_hasher,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::runtime::Runtime;
use tower::{Layer, Service};
use tower_service_token::header::X_API_KEY;
use tower_service_token::token::MintedToken;

use crate::baseline::Trivial;
use crate::tokens;

#[derive(Serialize)]
struct Verify<'a> {
    key: &'a str,
}

/// The members of the response that the check needs.
#[derive(Deserialize)]
struct Verified {
    valid: bool,
    key: Option<Caller>,
}

/// The identity that the check inserts.
#[derive(Clone, Deserialize)]
#[expect(dead_code, reason = "only the cost of storing it matters")]
struct Caller {
    id: String,
}

pub(crate) fn service(
    tokens: &[MintedToken],
    runtime: &Runtime,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible> + 'static {
    let adapter = MemoryAdapter::new();
    for (number, token) in tokens.iter().enumerate() {
        let mut query = Create::new(API_KEY_MODEL);
        for (field, value) in record(token, number).to_record() {
            query = query.data(field, value);
        }
        let created = runtime.block_on(adapter.create(query));
        created.expect("memory is available");
    }
    let mut configuration = ApiKeyConfiguration::default();
    configuration.rate_limit.enabled = false;
    let options = ApiKeyOptions::builder()
        .configuration(configuration)
        .build();
    let plugin = options.and_then(api_key).expect("the options are valid");
    let no_limit = RateLimitOptions {
        enabled: Some(false),
        ..RateLimitOptions::default()
    };
    let builder = RustAuth::builder()
        .base_url("http://api.example.com")
        .secret("0123456789abcdef0123456789abcdef")
        .rate_limit(no_limit)
        .adapter(adapter)
        .plugin(plugin);
    let auth = runtime.block_on(builder.build());
    let auth = Arc::new(auth.expect("the options are valid"));
    from_fn_with_state(auth, check).layer(Trivial)
}

fn record(token: &MintedToken, number: usize) -> ApiKeyRecord {
    ApiKeyRecord {
        id: format!("{number:032}"),
        config_id: "default".to_owned(),
        name: Some(tokens::name(number)),
        start: None,
        prefix: None,
        key: default_key_hasher(token.expose_secret()),
        reference_id: "user".to_owned(),
        refill_interval: None,
        refill_amount: None,
        last_refill_at: None,
        enabled: true,
        rate_limit_enabled: false,
        rate_limit_time_window: None,
        rate_limit_max: None,
        request_count: 0,
        remaining: None,
        last_request: None,
        expires_at: None,
        created_at: OffsetDateTime::UNIX_EPOCH,
        updated_at: OffsetDateTime::UNIX_EPOCH,
        metadata: None,
        permissions: None,
    }
}

async fn check(
    State(auth): State<Arc<RustAuth>>,
    mut request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let key = request.headers().get(X_API_KEY);
    let key = key.and_then(|key| key.to_str().ok());
    // Built before the first await, because a reference to the request is not `Send`.
    let verification = key.and_then(verification_of);
    let Some(caller) = verify(&auth, verification).await else {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        return response;
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Returns the request to the endpoint.
fn verification_of(key: &str) -> Option<Request<Vec<u8>>> {
    let body = serde_json::to_vec(&Verify { key }).ok()?;
    Request::builder()
        .method(Method::POST)
        .uri("http://api.example.com/api/auth/api-key/verify")
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .ok()
}

async fn verify(auth: &RustAuth, verification: Option<Request<Vec<u8>>>) -> Option<Caller> {
    let response = auth.handler_async(verification?).await.ok()?;
    let verified: Verified = serde_json::from_slice(response.body()).ok()?;
    verified.key.filter(|_| verified.valid)
}
