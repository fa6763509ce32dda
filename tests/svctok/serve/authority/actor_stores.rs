//! Callers whose tokens are in a different store from the tokens that they change.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use axum::routing::{MethodRouter, post};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::json;
use tokio::net::TcpListener;
use tower_service_token::clock::{ManualClock, SystemClock};
use tower_service_token::digest::TokenDigest;
use tower_service_token::introspection::{ClientAuth, IntrospectionBuilder, IntrospectionStore};
use tower_service_token::lifecycle::{Holder, LifecycleError, NewToken};
use tower_service_token::registry::AuthorityError;
use tower_service_token::store::file::FileStore;
use tower_service_token::store::{
    ChainStore, Credential, DenialKind, StoreError, TokenRecord, verdict,
};
use tower_service_token::token::PresentedToken;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens, TokenStore};

use crate::authority::error_responses::Api;
use crate::authority::service::{TestService, request_with_body};
use crate::authority::slow_bodies::Pending;

const SECRET: &str = "break-glass-8e03978e40d543ddbc936894a57f9324";

const CREATE: &str = "POST /service-tokens";

/// A token file with one token, removed on drop.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(fields: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("svctok-authority-{}-{number}", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&file.0).unwrap();
        let digest = hex::encode(TokenDigest::of(SECRET).as_bytes());
        file.write(&format!(
            "[[tokens]]\nname = \"break glass\"\ndigest = \"sha256:{digest}\"\n{fields}\n"
        ));
        file
    }

    fn path(&self) -> PathBuf {
        self.0.join("tokens.toml")
    }

    fn write(&self, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let new = self.0.join("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    fn open(&self) -> FileStore {
        FileStore::open(self.path()).unwrap()
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts a service that looks up callers in `first`, then in the registry.
async fn start_with_chain(first: impl TokenStore + Clone, is_declared: bool) -> Arc<TestService> {
    let store = MemoryStore::new();
    let clock = ManualClock::new(SystemTime::now());
    let tokens = ServiceTokens::new(store.clone()).with_clock(clock.clone());
    let tokens = if is_declared {
        tokens.with_actor_store(first.clone())
    } else {
        tokens
    };
    let layer = ServiceTokenLayer::new(ChainStore::new(first).then(store));
    TestService::serve_in_process(tokens, layer, clock).await
}

const WRITER: &str = r#"scopes = ["service-tokens:write", "builds:*"]"#;

pub(crate) async fn rejects_changes_by_tokens_of_undeclared_store(_: Arc<TestService>) {
    let file = TokenFile::new(WRITER);
    let service = start_with_chain(file.open(), false).await;
    let target = service.create_with_scopes(&["builds:read"]).await;
    let before = service.list().await;
    let one = format!("/service-tokens/{}", target.id);
    let pipeops = format!("/api/v1/service-account-tokens/{}", target.id);
    for (api, request, body) in [
        (
            Api::Management,
            CREATE.to_owned(),
            json!({ "name": "made" }),
        ),
        (
            Api::Management,
            format!("PATCH {one}"),
            json!({ "name": "new" }),
        ),
        (Api::Management, format!("POST {one}/rotate"), json!({})),
        (Api::Management, format!("POST {one}/disable"), json!({})),
        (Api::Management, format!("DELETE {one}"), json!({})),
        (
            Api::Management,
            "POST /service-tokens/revoke".to_owned(),
            json!({ "filter": { "name": "holder" }, "expect": 1 }),
        ),
        (
            Api::PipeOps,
            format!("PATCH {pipeops}"),
            json!({ "is_active": false }),
        ),
        (Api::PipeOps, format!("DELETE {pipeops}"), json!({})),
        (
            Api::StackState,
            "POST /api/security/tokens".to_owned(),
            json!({ "name": "made" }),
        ),
    ] {
        let response = service.send(SECRET, &request, Some(body)).await;
        api.assert_rejected(&response, 403, "unknown_actor", &request);
    }
    assert_eq!(service.list().await, before);
}

pub(crate) async fn rejects_changes_after_token_is_removed_from_file(_: Arc<TestService>) {
    let file = TokenFile::new(WRITER);
    let store = file.open();
    let service = start_with_chain(store.clone(), true).await;
    let created = service
        .send(SECRET, CREATE, Some(json!({ "name": "made" })))
        .await;
    let created = created.assert(201).json();
    let creator = created["service_token"]["created_by"].as_str().unwrap();
    assert!(creator.starts_with("token:"), "{creator}");

    let before = service.list().await;
    let request = request_with_body(SECRET, CREATE, None);
    let pending = Pending::send(&service, &request, "application/json", r#"{"name":"a"}"#).await;
    // The layer has accepted the token, and the service has not yet made the change.
    let credential = Credential::new(PresentedToken::new(SECRET).unwrap());
    let found = store.find(&credential).await.unwrap();
    let principal = verdict(found, &credential, &SystemClock).unwrap();
    let actor = Holder::new(principal).with_credential(credential);
    let tokens = service.tokens().clone().acting_for(actor);

    file.write("tokens = []\n");
    store.reload().unwrap();
    let response = pending.complete().await;
    Api::Management.assert_rejected(&response, 401, "invalid_token", CREATE);
    let error = tokens.create(NewToken::new("a")).await.unwrap_err();
    let kind = match error {
        LifecycleError::Unauthorized(AuthorityError::ActorTokenRejected(kind)) => kind,
        error => panic!("{error}"),
    };
    assert_eq!(kind, DenialKind::Unknown);
    assert_eq!(service.list().await, before);
}

pub(crate) async fn distinguishes_tokens_with_same_id_in_different_stores(
    service: Arc<TestService>,
) {
    let same_id = service.create_with_scopes(&["builds:read"]).await;
    let file = TokenFile::new(&format!("{WRITER}\nid = \"{}\"", same_id.id));
    let layer = ServiceTokenLayer::new(file.open());
    let tokens = service.tokens().clone().with_actor_store(file.open());
    let other =
        TestService::serve_in_process(tokens, layer, ManualClock::new(SystemTime::now())).await;
    let before = service.list().await;
    for request in [
        "GET /service-tokens/self",
        "POST /service-tokens/self/rotate",
        "DELETE /service-tokens/self",
        &format!("POST /service-tokens/{}/rotate", same_id.id),
    ] {
        let response = other.send(SECRET, request, None).await;
        Api::Management.assert_rejected(&response, 401, "invalid_token", request);
    }
    assert_eq!(service.list().await, before);
    assert_eq!(service.status_of(&same_id.secret).await, 200);
}

/// A store that always returns the same record, like a cache without change notifications.
#[derive(Clone)]
struct StaleStore(TokenRecord);

#[async_trait]
impl TokenStore for StaleStore {
    async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        Ok(Some(self.0.clone()))
    }
}

pub(crate) async fn ignores_declared_store_for_registry_tokens(_: Arc<TestService>) {
    let store = MemoryStore::new();
    let tokens = ServiceTokens::new(store.clone());
    let writer = NewToken::new("writer").with_scopes(["service-tokens:write"]);
    let writer = tokens.create(writer).await.unwrap();
    // This is like a chain that contains the registry, behind a cache.
    let stale = StaleStore(writer.record().clone());
    let layer = ServiceTokenLayer::new(stale.clone());
    let id = writer.record().id();
    drop(tokens.rotate(id, Duration::ZERO).await.unwrap());
    let declared = tokens.with_actor_store(stale);
    let service =
        TestService::serve_in_process(declared, layer, ManualClock::new(SystemTime::now())).await;
    let body = json!({ "name": "made" });
    let response = service
        .send(writer.expose_secret(), CREATE, Some(body))
        .await;
    Api::Management.assert_rejected(&response, 401, "invalid_token", CREATE);
    assert_eq!(store.len(), 2);
}

/// Returns a store whose authorization server reports [`SECRET`] as active this many times.
async fn introspection_store(
    active: usize,
    request_count: Arc<AtomicUsize>,
    ttl: Duration,
) -> IntrospectionStore {
    let handler = async move |form: String| {
        let is_ours = form.contains(SECRET);
        let is_active = is_ours && request_count.fetch_add(1, Ordering::SeqCst) < active;
        Json(json!({ "active": is_active, "sub": "ci", "scope": "service-tokens:write" }))
    };
    introspection_store_with(post(handler), |builder| {
        builder.with_ttl(ttl).with_negative_ttl(ttl)
    })
    .await
}

/// Starts an authorization server in this process. Returns a store that uses it.
async fn introspection_store_with(
    introspect: MethodRouter,
    configure: impl FnOnce(IntrospectionBuilder) -> IntrospectionBuilder,
) -> IntrospectionStore {
    let app = Router::new().route("/introspect", introspect);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/introspect", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
    let builder = IntrospectionStore::builder(ClientAuth::basic("svctok", "secret"));
    let builder = configure(builder.allow_http_to_loopback());
    builder.build(&endpoint).unwrap()
}

pub(crate) async fn rejects_changes_after_introspected_token_becomes_inactive(_: Arc<TestService>) {
    // The layer looks the token up, then the handler after it has read the body, then the change.
    for active in 1..=3 {
        let request_count = Arc::new(AtomicUsize::new(0));
        let store = introspection_store(active, Arc::clone(&request_count), Duration::ZERO).await;
        let service = start_with_chain(store, true).await;
        let before = service.list().await;
        let response = service
            .send(SECRET, CREATE, Some(json!({ "name": "made" })))
            .await;
        if active == 3 {
            response.assert(201);
            continue;
        }
        Api::Management.assert_rejected(&response, 401, "invalid_token", CREATE);
        assert_eq!(request_count.load(Ordering::SeqCst), active + 1);
        assert_eq!(service.list().await, before);
    }
}

pub(crate) async fn rejects_changes_based_on_stale_introspection(_: Arc<TestService>) {
    let clock = ManualClock::new(SystemTime::now());
    let is_down = Arc::new(AtomicBool::new(false));
    let handler = {
        let is_down = Arc::clone(&is_down);
        async move || {
            let body = json!({ "active": true, "sub": "ci", "scope": "service-tokens:write" });
            if is_down.load(Ordering::SeqCst) {
                (StatusCode::SERVICE_UNAVAILABLE, Json(json!({})))
            } else {
                (StatusCode::OK, Json(body))
            }
        }
    };
    let store = introspection_store_with(post(handler), |builder| {
        let builder = builder.with_ttl(Duration::from_secs(1));
        let builder = builder.with_stale_if_error(Duration::from_secs(60));
        builder.with_clock(clock.clone())
    });
    let service = start_with_chain(store.await, true).await;
    let body = json!({ "name": "made" });
    let created = service.send(SECRET, CREATE, Some(body.clone())).await;
    created.assert(201);
    clock.advance(Duration::from_secs(2));
    is_down.store(true, Ordering::SeqCst);
    let verified = service.send(SECRET, "GET /verify", None).await;
    verified.assert(200);
    service.send(SECRET, CREATE, Some(body)).await.assert(503);
}

pub(crate) async fn changes_require_fresh_introspection(_: Arc<TestService>) {
    // The token is active in the first response only. The cache entry is older than the change.
    let request_count = Arc::new(AtomicUsize::new(0));
    let store = introspection_store(1, request_count, Duration::from_secs(10)).await;
    let service = start_with_chain(store, true).await;
    let before = service.list().await;
    let response = service
        .send(SECRET, CREATE, Some(json!({ "name": "made" })))
        .await;
    Api::Management.assert_rejected(&response, 401, "invalid_token", CREATE);
    assert_eq!(service.list().await, before);
}
