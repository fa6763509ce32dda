//! The output of the lifecycle types.

use std::time::{Duration, SystemTime};

use futures::executor::block_on;
use tower_service_token::audit::{AuditAction, AuditEvent, AuditSink, TracingAuditSink};
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{
    Actor, CallbackError, Expiry, FieldProblem, Holder, LifecycleError, NewToken, Operator, Owner,
    Page, TokenPolicy, TokenUpdate,
};
use tower_service_token::registry::{
    AuthorityError, Cursor, LastUsed, ListOrder, ListRequest, RegistryError, TokenFilter,
    TokenRegistry, Write,
};
use tower_service_token::store::{ChangeFeed, Credential, DenialKind, TokenChange, TokenStatus};
use tower_service_token::token::PresentedToken;
use tower_service_token::wire::TokenInfo;
use tower_service_token::{MemoryStore, ServiceTokens};

use super::public_types::{Formatted, debug_text, error_text, principal};
use super::{SECRET, assert_no_secret, minted_record, token_id};

fn event() -> AuditEvent {
    AuditEvent::new(
        SystemTime::UNIX_EPOCH,
        "ci",
        AuditAction::Created,
        token_id(),
    )
}

fn write() -> Write {
    let rotated =
        minted_record().with_previous_digest((TokenDigest::of(SECRET), SystemTime::now()));
    Write::new(rotated, event())
}

pub(super) fn registry_types() -> Vec<Formatted> {
    let store = MemoryStore::new();
    block_on(TokenRegistry::insert(&store, &write())).expect("an empty store");
    let request = ListRequest::new(TokenFilter::new(), SystemTime::now());
    let page = block_on(store.list(&request)).expect("a store in memory");
    let last_used = LastUsed::new(store.clone());
    last_used.record(token_id(), SystemTime::now());
    let change = TokenChange::between(None, Some(write().record()));
    vec![
        debug_text("AuditAction", &AuditAction::Created),
        debug_text("AuditEvent", &event()),
        debug_text("TracingAuditSink", &TracingAuditSink),
        debug_text("Write", &write()),
        debug_text("TokenChange", &change),
        debug_text("ChangeFeed", &ChangeFeed::default()),
        debug_text("LastUsed", &last_used),
        debug_text("ListRequest", &request),
        debug_text("TokenFilter", request.filter()),
        debug_text("TokenPage", &page),
        debug_text("ListOrder", &request.order()),
        debug_text(
            "Cursor",
            &Cursor::at(ListOrder::CreatedAt, &page.records[0]),
        ),
        debug_text("TokenStatus", &TokenStatus::Active),
        error_text("RegistryError", &RegistryError::DuplicateDigest),
        error_text(
            "RegistryError",
            &block_on(TokenRegistry::insert(&store, &write())).expect_err("a duplicate ID"),
        ),
    ]
}

pub(super) fn lifecycle_types() -> Vec<Formatted> {
    let store = MemoryStore::new();
    let tokens = ServiceTokens::new(store).with_audit_sink(LeakCheckingSink);
    let digest = TokenDigest::of(SECRET);
    let imported = block_on(tokens.import(NewToken::new("ci"), digest)).expect("a new digest");
    let duplicate =
        block_on(tokens.import(NewToken::new("ci"), digest)).expect_err("a duplicate digest");
    let rotated = block_on(tokens.rotate(imported.id(), Duration::from_secs(60))).expect("rotated");
    let update = TokenUpdate::new().with_name("cd");
    let changed = block_on(tokens.update(imported.id(), update.clone())).expect("updated");
    let all = TokenFilter::new();
    let preview = block_on(tokens.preview_revocation(all.clone())).expect("a store that works");
    let revoked = block_on(tokens.revoke_where(all.clone(), 1)).expect("one token");
    let unexpected = block_on(tokens.revoke_where(all, 1)).expect_err("no active token");
    let once = NewToken::new("once").with_idempotency_key("key");
    let created = block_on(tokens.create(once.clone())).expect("created");
    let repeated = block_on(tokens.create(once)).expect_err("created before");
    for text in debug_text("LifecycleError", &repeated).1 {
        assert!(!text.contains(&created.expose_secret()[18..]), "{text}");
    }
    let (_, texts) = debug_text("IssuedToken", &rotated);
    for text in &texts {
        assert!(!text.contains(&rotated.expose_secret()[18..]), "{text}");
    }
    vec![
        ("IssuedToken", texts),
        debug_text("ServiceTokens", &tokens),
        debug_text(
            "TokenPolicy",
            &TokenPolicy::new().with_name_rule(|_| Err(SECRET.to_owned())),
        ),
        debug_text("NewToken", &NewToken::new("ci")),
        debug_text(
            "TokenInfo",
            &TokenInfo::new(&minted_record(), SystemTime::now()),
        ),
        debug_text("TokenUpdate", &update),
        debug_text("ChangedToken", &changed),
        debug_text("BulkRevocation", &revoked),
        debug_text("BulkPreview", &preview),
        debug_text("Actor", &Actor::from(holder())),
        debug_text("Holder", &holder()),
        debug_text(
            "Operator",
            &Operator::new("alice").with_check(|| async { Ok(None) }),
        ),
        debug_text(
            "Owner",
            &Owner::new("user:1").with_check(|| async { Ok(None) }),
        ),
        error_text(
            "CallbackError",
            &CallbackError::unavailable("no route to host"),
        ),
        error_text(
            "AuthorityError",
            &AuthorityError::ActorTokenRejected(DenialKind::Revoked),
        ),
        debug_text("Page", &Page::default()),
        debug_text("Expiry", &Expiry::NEVER),
        error_text("LifecycleError", &duplicate),
        error_text("LifecycleError", &unexpected),
        error_text("LifecycleError", &repeated),
    ]
}

/// Returns the holder of a token as the actor, with the presented credential.
fn holder() -> Holder {
    let token = PresentedToken::new(SECRET).expect("visible ASCII");
    Holder::new(principal()).with_credential(Credential::new(token).into_owned())
}

/// Returns errors about fields that contain the secret, as if a caller put a token in the wrong
/// field.
pub(super) fn errors_about_the_secret() -> Vec<Formatted> {
    let tokens = ServiceTokens::new(MemoryStore::new());
    // The text breaks the rules of every field.
    let text = format!("{SECRET}\0").repeat(5);
    let new = NewToken::new(text.as_str())
        .with_subject(text.as_str())
        .with_owner(text.as_str())
        .with_roles([text.as_str()])
        .with_scopes([text.as_str()])
        .with_label("key", text.as_str());
    let invalid = block_on(tokens.create(new)).expect_err("breaks every rule");
    let LifecycleError::Invalid(problems) = &invalid else {
        panic!("{invalid}");
    };
    assert!(problems.len() >= 5, "{problems:?}");
    let mut formatted: Vec<Formatted> = problems
        .iter()
        .map(|it: &FieldProblem| debug_text("FieldProblem", it))
        .collect();
    formatted.extend([
        error_text("LifecycleError", &invalid),
        error_text(
            "ExpiryError",
            &SECRET.parse::<Expiry>().expect_err("no expiry"),
        ),
        error_text(
            "CursorError",
            &SECRET.parse::<Cursor>().expect_err("no cursor"),
        ),
        error_text(
            "ParseTokenStatusError",
            &SECRET.parse::<TokenStatus>().expect_err("no status"),
        ),
        error_text(
            "ParseAuditActionError",
            &SECRET.parse::<AuditAction>().expect_err("no action"),
        ),
    ]);
    formatted
}

/// Checks the audit event of every change while the sink receives it.
struct LeakCheckingSink;

impl AuditSink for LeakCheckingSink {
    fn record(&self, event: &AuditEvent) {
        let (_, texts) = debug_text("FieldChange", event);
        assert!(
            texts.iter().any(|text| text.contains("FieldChange")),
            "{texts:?}"
        );
        for text in texts {
            assert_no_secret("FieldChange", &text);
        }
    }
}

#[cfg(feature = "testing")]
pub(super) fn testing_types() -> Vec<Formatted> {
    use tower::Layer;
    use tower_service_token::testing::{Fault, FaultyStore, PrincipalBuilder, SetCallerLayer};

    let store = FaultyStore::new(MemoryStore::new());
    block_on(TokenRegistry::insert(&store, &write())).expect("an empty store");
    store.inject(Fault::Error);
    let error = block_on(TokenRegistry::insert(&store, &write())).expect_err("a fault");
    vec![
        debug_text("FaultyStore", &store),
        debug_text("Fault", &Fault::Hang),
        error_text("FaultyStore", &error),
        debug_text("PrincipalBuilder", &PrincipalBuilder::from(minted_record())),
        debug_text("SetCallerLayer", &SetCallerLayer::new(principal())),
        debug_text("SetCaller", &SetCallerLayer::new(principal()).layer(())),
    ]
}

#[cfg(not(feature = "testing"))]
pub(super) fn testing_types() -> Vec<Formatted> {
    [
        "FaultyStore",
        "Fault",
        "PrincipalBuilder",
        "SetCallerLayer",
        "SetCaller",
    ]
    .map(|name| (name, Vec::new()))
    .to_vec()
}

#[cfg(feature = "openapi")]
pub(super) fn openapi_types() -> Vec<Formatted> {
    let schemes = tower_service_token::openapi::SecuritySchemes;
    vec![debug_text("SecuritySchemes", &schemes)]
}

#[cfg(not(feature = "openapi"))]
pub(super) fn openapi_types() -> Vec<Formatted> {
    vec![("SecuritySchemes", Vec::new())]
}

#[cfg(feature = "tokio")]
pub(super) fn tokio_types() -> Vec<Formatted> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let last_used = LastUsed::new(MemoryStore::new());
    last_used.record(token_id(), SystemTime::now());
    let cached = tower_service_token::store::CachedStore::new(MemoryStore::new());
    vec![
        debug_text("FlushTask", &last_used.flush_every(Duration::from_secs(60))),
        debug_text("CacheOccupancy", &cached.occupancy()),
        debug_text("CachedStore", &cached),
    ]
}

#[cfg(not(feature = "tokio"))]
pub(super) fn tokio_types() -> Vec<Formatted> {
    ["FlushTask", "CachedStore", "CacheOccupancy"]
        .map(|name| (name, Vec::new()))
        .to_vec()
}

#[cfg(all(feature = "sqlite", feature = "postgres"))]
pub(super) fn sql_types() -> Vec<Formatted> {
    use tower_service_token::store::FeedStatus;
    use tower_service_token::store::sql::{OpenStoreErrorKind, PostgresStore, SqliteStore};

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let store = SqliteStore::in_memory().await.expect("memory");
        TokenRegistry::insert(&store, &write())
            .await
            .expect("an empty store");
        let duplicate = TokenRegistry::insert(&store, &write()).await;
        let mut formatted = vec![
            debug_text("SqlStore", &store),
            debug_text(
                "SqlTicketStore",
                &store.ticket_store().await.expect("a table"),
            ),
            debug_text("FeedStatus", &FeedStatus::Connected),
            debug_text("StoreState", &store.state().await.expect("a row")),
            debug_text("OpenStoreErrorKind", &OpenStoreErrorKind::Configuration),
            error_text("RegistryError", &duplicate.expect_err("a duplicate ID")),
        ];
        // No server listens on port 1. A malformed URL may contain a password, too.
        for url in [
            format!("postgres://tokens:{SECRET}@127.0.0.1:1/tokens"),
            format!("postgres://tokens:{SECRET}@[127.0.0.1/tokens"),
            SECRET.to_owned(),
        ] {
            let error = PostgresStore::connect(&url).await.expect_err("no server");
            formatted.push(error_text("OpenStoreError", &error));
        }
        formatted
    })
}

#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
pub(super) fn sql_types() -> Vec<Formatted> {
    [
        "FeedStatus",
        "SqlStore",
        "SqlTicketStore",
        "StoreState",
        "OpenStoreError",
        "OpenStoreErrorKind",
    ]
    .map(|name| (name, Vec::new()))
    .to_vec()
}
