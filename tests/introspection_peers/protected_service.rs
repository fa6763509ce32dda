//! A service behind the layer.

use std::convert::Infallible;
use std::error::Error;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use test_support::stall::Stopwatch;
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::authorize::RequireScopesLayer;
use tower_service_token::clock::ManualClock;
use tower_service_token::introspection::{
    IntrospectionError, IntrospectionErrorKind, IntrospectionStore,
};
use tower_service_token::reject::Rejection;
use tower_service_token::{Principal, ServiceTokenLayer};

pub(crate) struct ProtectedService {
    layer: ServiceTokenLayer,
}

/// A response, with the time it took.
#[derive(Debug)]
pub(crate) struct ServiceResponse {
    pub(crate) response: Response<String>,
    pub(crate) elapsed: Duration,
    /// The part of `elapsed` in which the machine did not stall.
    pub(crate) elapsed_without_stalls: Duration,
}

impl ProtectedService {
    pub(crate) fn new(store: &IntrospectionStore) -> Self {
        Self {
            // JWTs are longer than the default limit.
            layer: ServiceTokenLayer::new(store.clone()).with_max_token_length(4096),
        }
    }

    pub(crate) fn with_clock(self, clock: &std::sync::Arc<ManualClock>) -> Self {
        Self {
            layer: self.layer.with_clock(clock.clone()),
        }
    }

    pub(crate) async fn authenticate(&self, token: &str) -> ServiceResponse {
        self.authorize(token, &[]).await
    }

    /// Requests a resource that requires these scopes.
    pub(crate) async fn authorize(&self, token: &str, scopes: &[&str]) -> ServiceResponse {
        let guard = (!scopes.is_empty()).then(|| RequireScopesLayer::all_of(scopes.to_vec()));
        let inner = tower::util::option_layer(guard).layer(service_fn(whoami));
        let request = Request::builder()
            .header("x-api-key", token)
            .body(String::new())
            .unwrap();
        let (started, watch) = (Instant::now(), Stopwatch::start());
        let outcome = self.layer.layer(inner).oneshot(request).await;
        ServiceResponse {
            response: outcome.expect("the inner service is infallible"),
            elapsed: started.elapsed(),
            elapsed_without_stalls: watch.elapsed_without_stalls(),
        }
    }

    pub(crate) async fn status(&self, token: &str) -> u16 {
        self.authenticate(token).await.status()
    }
}

impl ServiceResponse {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(crate) fn principal(&self) -> &Principal {
        let principal = self.response.extensions().get();
        principal.unwrap_or_else(|| panic!("rejected: {self:?}"))
    }

    /// Asserts that the response is 503 with `Retry-After` and without details. Returns the kind of
    /// the lookup error.
    pub(crate) fn unavailable(&self) -> IntrospectionErrorKind {
        assert_eq!(self.response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(self.response.headers().contains_key("retry-after"));
        assert!(!self.response.headers().contains_key("www-authenticate"));
        assert!(self.response.body().contains("auth_unavailable"));
        self.cause().kind()
    }

    pub(crate) fn cause(&self) -> &IntrospectionError {
        let rejection = self.response.extensions().get::<Rejection>();
        let mut cause: Option<&(dyn Error + 'static)> =
            rejection.and_then(|rejection| rejection.source());
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref() {
                return error;
            }
            cause = error.source();
        }
        panic!("{self:?} has no IntrospectionError as its cause")
    }
}

async fn whoami(mut request: Request<String>) -> Result<Response<String>, Infallible> {
    let principal = request.extensions_mut().remove::<Principal>();
    let mut response = Response::new(String::new());
    response
        .extensions_mut()
        .insert(principal.expect("the layer inserts the principal"));
    Ok(response)
}
