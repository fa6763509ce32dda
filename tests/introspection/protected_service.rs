//! A service behind the layer, which checks tokens by introspection.

use std::convert::Infallible;
use std::error::Error;
use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{Request, Response, StatusCode};
use tokio::task::JoinHandle;
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::clock::{Clock, ManualClock, SystemClock};
pub(crate) use tower_service_token::introspection::IntrospectionErrorKind as Kind;
use tower_service_token::introspection::{
    BreakerState, ClientAuth, IntrospectionBuilder, IntrospectionError, IntrospectionStore,
};
use tower_service_token::reject::Rejection;
use tower_service_token::store::{Cached, Credential, StoreError, TokenRecord};
use tower_service_token::token::PresentedToken;
use tower_service_token::{Principal, ServiceTokenLayer, TokenStore};

use crate::upstream::Upstream;

pub(crate) const ENDPOINT: &str = "https://auth.example/introspect";
pub(crate) const CLIENT_ID: &str = "billing";
pub(crate) const CLIENT_SECRET: &str = "Qm7vT2xKpL9sWd4R";

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

#[derive(Clone)]
pub(crate) struct ProtectedService {
    pub(crate) store: IntrospectionStore,
    layer: ServiceTokenLayer,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 200.
    Accepted,
    /// 401 without `Retry-After`.
    Rejected,
    /// 503 with `Retry-After`.
    Unavailable(Kind),
}

pub(crate) use Outcome::{Accepted, Rejected, Unavailable};

pub(crate) const TRANSIENT: Outcome = Unavailable(Kind::Transient);
pub(crate) const PROTOCOL: Outcome = Unavailable(Kind::Protocol);

impl ProtectedService {
    pub(crate) fn new(upstream: &Upstream, clock: &ManualClock) -> Self {
        Self::with(upstream, clock, |builder| builder)
    }

    /// Creates a service whose store is configured by `configure`.
    pub(crate) fn with(
        upstream: &Upstream,
        clock: &ManualClock,
        configure: impl FnOnce(IntrospectionBuilder) -> IntrospectionBuilder,
    ) -> Self {
        let builder = builder().with_transport(upstream.clone());
        let builder = configure(builder.with_clock(clock.clone()));
        Self::with_store(builder.build(ENDPOINT).unwrap(), clock.clone())
    }

    /// Creates a service with the standard transport and the system clock. The timeout is longer
    /// than any response takes on a busy machine.
    pub(crate) fn with_endpoint(
        endpoint: &str,
        configure: impl FnOnce(IntrospectionBuilder) -> IntrospectionBuilder,
    ) -> Self {
        let builder = builder().allow_http_to_loopback();
        let builder = configure(builder.with_timeout(30 * SECOND));
        Self::with_store(builder.build(endpoint).unwrap(), SystemClock)
    }

    pub(crate) fn with_store(store: IntrospectionStore, clock: impl Clock) -> Self {
        let layer = ServiceTokenLayer::new(store.clone()).with_clock(clock);
        Self { store, layer }
    }

    pub(crate) async fn send(&self, token: &str) -> Response<String> {
        send(&self.layer, token).await
    }

    pub(crate) async fn authenticate(&self, token: &str) -> Outcome {
        outcome(&self.send(token).await)
    }

    /// Sends a request in a separate task.
    pub(crate) fn spawn(&self, token: &str) -> JoinHandle<Outcome> {
        let (service, token) = (self.clone(), token.to_owned());
        tokio::spawn(async move { service.authenticate(&token).await })
    }

    /// Returns the principal that the inner service received.
    ///
    /// # Panics
    ///
    /// Panics if the request was rejected.
    pub(crate) async fn principal(&self, token: &str) -> Principal {
        let response = self.send(token).await;
        let principal = response.extensions().get().cloned();
        principal.unwrap_or_else(|| panic!("{:?}", outcome(&response)))
    }

    /// Looks the token up in the store, without the checks of the layer.
    pub(crate) async fn find(&self, token: &str) -> Result<Option<TokenRecord>, StoreError> {
        self.store.find(&credential(token)).await
    }

    /// Looks this token up without calling the server.
    pub(crate) fn find_cached(&self, token: &str) -> Cached {
        self.store.find_cached(&credential(token))
    }

    pub(crate) fn breaker(&self) -> BreakerState {
        self.store.status().breaker
    }
}

pub(crate) fn credential(token: &str) -> Credential<'_> {
    Credential::new(PresentedToken::new(token).unwrap())
}

fn builder() -> IntrospectionBuilder {
    IntrospectionStore::builder(ClientAuth::basic(CLIENT_ID, CLIENT_SECRET))
}

/// Sends a request with this token to a service behind this layer.
pub(crate) async fn send(layer: &ServiceTokenLayer, token: &str) -> Response<String> {
    let request = Request::builder().header("x-api-key", token);
    let request = request.body(String::new()).unwrap();
    let inner = layer.layer(service_fn(hello));
    inner.oneshot(request).await.unwrap()
}

async fn hello(request: Request<String>) -> Result<Response<String>, Infallible> {
    let mut response = Response::new(String::new());
    let principal = request.extensions().get::<Principal>().unwrap();
    response.extensions_mut().insert(principal.clone());
    Ok(response)
}

fn outcome(response: &Response<String>) -> Outcome {
    let retry_after = response.headers().get(RETRY_AFTER);
    match response.status() {
        StatusCode::OK => Accepted,
        StatusCode::UNAUTHORIZED => {
            assert_eq!(retry_after, None);
            Rejected
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            let seconds: u64 = retry_after.unwrap().to_str().unwrap().parse().unwrap();
            assert!((1..=5).contains(&seconds), "{seconds}");
            let rejection = response.extensions().get::<Rejection>().unwrap();
            let error = rejection.source().unwrap().downcast_ref();
            Unavailable(cause(error.unwrap()).kind())
        }
        status => panic!("{status}"),
    }
}

/// Returns the introspection error that caused a store error.
pub(crate) fn cause(error: &StoreError) -> &IntrospectionError {
    error.source().unwrap().downcast_ref().unwrap()
}

pub(crate) const START: u64 = 1_800_000_000;

pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Returns a clock set to [`START`].
pub(crate) fn clock() -> ManualClock {
    ManualClock::new(at(START))
}
