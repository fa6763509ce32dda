//! apikeys-rs.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::task::{Context, Poll};

use apikeys_rs::axum_layer::ApiKeyLayer;
use apikeys_rs::errors::ApiKeyLimiterError;
use apikeys_rs::manager::KeyManager;
use apikeys_rs::storage::memory_storage::HashMapStorage;
use apikeys_rs::traits::{ApiKeyLimiter, ApiKeyStorage};
use apikeys_rs::types::{ApiKey, ApiKeyLimit, ApiKeyLimits, ApiKeyRestrictions, ApiKeyStatus};
use async_trait::async_trait;
use axum::body::Body;
use axum_07::body::Body as InnerBody;
use chrono::{DateTime, Utc};
use http::{Request, Response};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt};
use tower_service_token::token::MintedToken;

/// The inner service, with the body type of axum 0.7.
#[derive(Clone)]
struct Inner;

impl Service<Request<InnerBody>> for Inner {
    type Response = Response<InnerBody>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<InnerBody>) -> Self::Future {
        drop(black_box(request));
        ready(Ok(Response::new(InnerBody::empty())))
    }
}

/// Allows everything. The crate has only a limiter that uses Redis.
#[derive(Clone)]
struct NoLimit;

#[async_trait]
impl ApiKeyLimiter for NoLimit {
    async fn use_key(&self, _: &ApiKey) -> Result<(), ApiKeyLimiterError> {
        Ok(())
    }
}

pub(crate) fn service(
    tokens: &[MintedToken],
    runtime: &Runtime,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible> + 'static {
    let mut storage = HashMapStorage::new();
    for token in tokens {
        let text = token.expose_secret();
        let stored = runtime.block_on(storage.store_api_key(text, &key(text)));
        stored.expect("memory is available");
    }
    ApiKeyLayer::new(KeyManager::new(storage, NoLimit))
        .layer(Inner)
        .map_request(|request: Request<Body>| request.map(|_| InnerBody::empty()))
        .map_response(|response: Response<InnerBody>| response.map(|_| Body::empty()))
}

fn key(text: &str) -> ApiKey {
    ApiKey {
        key: text.to_owned(),
        limits: ApiKeyLimits {
            max_reads_per_minute: ApiKeyLimit::Unlimited,
            max_writes_per_minute: ApiKeyLimit::Unlimited,
        },
        restrictions: ApiKeyRestrictions {
            allowed_domains: Vec::new(),
        },
        status: ApiKeyStatus::Active,
        created_at: DateTime::<Utc>::UNIX_EPOCH,
        updated_at: DateTime::<Utc>::UNIX_EPOCH,
    }
}
