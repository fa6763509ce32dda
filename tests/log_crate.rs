//! Events for an application that uses the crate `log`: it enables `tracing/log` and installs no
//! subscriber. A subscriber of another test would end that for the whole process, so this binary has
//! none.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use futures::executor::block_on;
use http::Request;
use log::{LevelFilter, Log, Metadata, Record};
use tower::ServiceExt;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::principal::Requirement;
use tower_service_token::reject::Rejection;
use tower_service_token::store::{Credential, StoreError, TokenRecord};
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, ServiceTokens, TokenStore};

static LOGGER: Logger = Logger(Mutex::new(Vec::new()));

struct Logger(Mutex<Vec<String>>);

impl Logger {
    /// Returns the lines of the library since the last call.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "tower_service_token"
    }

    fn log(&self, record: &Record<'_>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(format!("{} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

/// A store that is down.
struct Down;

#[async_trait]
impl TokenStore for Down {
    async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        Err(StoreError::unavailable("refused"))
    }
}

/// Sends a request to a route for administrators. Returns the status and the lines that it logs.
fn call(layer: ServiceTokenLayer, token: Option<&str>) -> (u16, Vec<String>) {
    let admins = async |caller: Principal| -> Result<(), Rejection> {
        caller.require(Requirement::all_roles(["admin"]))
    };
    let app: Router = Router::new().route("/", get(admins)).route_layer(layer);
    let mut request = Request::get("/").header("x-request-id", "request-1");
    if let Some(token) = token {
        request = request.header("x-api-key", token);
    }
    let request = request.body(Body::empty()).expect("a request");
    let response = block_on(app.oneshot(request)).expect("a response");
    (response.status().as_u16(), LOGGER.take())
}

/// One test, because the logger and its level are those of the process.
#[test]
fn rejections_reach_the_log_crate_without_a_subscriber() {
    log::set_logger(&LOGGER).expect("the only logger");
    log::set_max_level(LevelFilter::Info);
    let store = MemoryStore::new();
    let tokens = ServiceTokens::new(store.clone());
    let issued = block_on(tokens.create(NewToken::new("ci"))).expect("a token");
    let (secret, id) = (issued.expose_secret(), issued.record().id());
    let layer = ServiceTokenLayer::new(store);
    LOGGER.take();

    for (layer, token, status, expected) in [
        (
            layer.clone(),
            None,
            401,
            r#"INFO request rejected reason="missing_token" code="missing_token" status=401 request_id="request-1""#.to_owned(),
        ),
        (
            layer.clone(),
            Some(secret),
            403,
            format!(r#"INFO request rejected reason="insufficient_scope" code="insufficient_scope" status=403 token_id={id}"#),
        ),
        (
            ServiceTokenLayer::new(Down),
            Some(secret),
            503,
            r#"ERROR request rejected reason="store_unavailable" code="auth_unavailable" status=503 error=the token store is unavailable: refused request_id="request-1""#.to_owned(),
        ),
    ] {
        let (found, lines) = call(layer, token);
        assert_eq!(found, status);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with(&expected), "{lines:?}");
        assert!(!lines[0].contains(secret), "{lines:?}");
    }

    log::set_max_level(LevelFilter::Warn);
    assert_eq!(call(layer, None), (401, Vec::new()));
}
