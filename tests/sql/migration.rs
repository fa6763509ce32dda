//! Migration of databases of earlier schema versions. Commit 4590bfc, the last one before version 2,
//! created those of version 1.

use std::fs;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};
use test_support::stall::Stopwatch;
use tokio::task::JoinSet;
use tower_service_token::ServiceTokens;
use tower_service_token::audit::{AuditAction, AuditEvent};
use tower_service_token::lifecycle::{LifecycleError, NewToken, Page, TokenPolicy, TokenUpdate};
use tower_service_token::registry::{ListRequest, RegistryError, TokenFilter, Write};
use tower_service_token::store::TokenRecord;

use crate::authority::find;
use crate::database::{TestDatabase, at, digest, id, minted, write};
use crate::replicas::{TIMEOUT, pause};

/// The administrator tokens of the fixtures. They are valid nowhere else.
const SQLITE_ADMIN: &str = "svctok-yzYawIjchr_eNrelvRyBtr0zOTL1sPnZDFd3Gji7s";
const POSTGRES_ADMIN: &str = "svctok-LhiCro6BR3_IcytWixJw0oV3Vk17wjWsdH40FN0lV";

const VERSION: &str = "SELECT version FROM service_token_schema";

/// The schema version of this release.
const CURRENT: i64 = 4;

/// The statement with which version 1 appends to the audit trail.
const APPEND_1: &str = "INSERT INTO service_token_events (at, actor, action, token_id, changes) \
     VALUES (1000, 'an old node', 'created', 42, '[]')";

/// Restores a database of version 1. Returns the secret of the administrator.
async fn restore(database: &TestDatabase) -> &'static str {
    if database.is_postgres() {
        database.run(include_str!("fixtures/4590bfc.sql")).await;
        // The dump resets the search path of its connection.
        return POSTGRES_ADMIN;
    }
    fs::write(database.file(), include_bytes!("fixtures/4590bfc.db")).unwrap();
    SQLITE_ADMIN
}

pub(crate) async fn migrates_version_1_and_keeps_its_tokens(database: TestDatabase) {
    let admin = restore(&database).await;
    database.run(APPEND_1).await;
    let oldest = "SELECT MIN(created_at) FROM service_tokens";
    let oldest = database.pool(1).await.number(oldest).await;
    let store = database.open().await.keep_audit_trail();
    assert_eq!(database.pool(1).await.number(VERSION).await, CURRENT);
    assert!(find(&store, admin).await.is_ok());
    let request = ListRequest::new(TokenFilter::new(), at(1));
    assert_eq!(store.list(&request).await.unwrap().records.len(), 5);

    let state = store.state().await.unwrap();
    assert_eq!(state.initialized_at(), Some(at(oldest.cast_unsigned())));
    assert_eq!(state.store_id().len(), 32);
    let reopened = database.open().await.state().await.unwrap();
    assert_eq!(reopened, state);

    let (record, address) = (minted(), "192.0.2.1".parse::<std::net::IpAddr>().unwrap());
    let event = AuditEvent::new(at(2000), "a new node", AuditAction::Created, record.id());
    let write = Write::new(record, event.with_client_address(address));
    store.insert(&write).await.unwrap();
    let events = store.audit_trail(None, 10).await.unwrap();
    let stored = events.iter().map(|it| (it.actor(), it.client_address()));
    let expected = [("a new node", Some(address)), ("an old node", None)];
    assert!(stored.eq(expected), "{events:?}");
}

pub(crate) async fn empty_version_1_is_not_initialized(database: TestDatabase) {
    restore(&database).await;
    database.run("DELETE FROM service_tokens").await;
    let state = database.open().await.state().await.unwrap();
    assert_eq!(state.initialized_at(), None);
}

pub(crate) async fn failed_migration_leaves_version_1(database: TestDatabase) {
    let admin = restore(&database).await;
    // The migration creates this table after it has added the column.
    database
        .run("CREATE TABLE service_token_store (x BIGINT)")
        .await;
    assert!(database.try_open().await.is_err());
    let pool = database.pool(1).await;
    assert_eq!(pool.number(VERSION).await, 1);
    // The rollback has removed the column.
    pool.run("ALTER TABLE service_token_events ADD COLUMN client_address TEXT")
        .await;
    pool.run("ALTER TABLE service_token_events DROP COLUMN client_address")
        .await;
    pool.run("DROP TABLE service_token_store").await;
    pool.close().await;
    let store = database.open().await;
    assert!(find(&store, admin).await.is_ok());
}

pub(crate) async fn concurrent_opens_migrate_once(database: TestDatabase) {
    restore(&database).await;
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let database = database.clone();
        tasks.spawn(async move { database.open().await.state().await.unwrap() });
    }
    let states = tasks.join_all().await;
    assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
    assert_eq!(database.pool(1).await.number(VERSION).await, CURRENT);
}

/// A node of an earlier release may run while another node migrates.
pub(crate) async fn statements_of_earlier_versions_succeed(database: TestDatabase) {
    let store = database.open().await;
    database.run(APPEND_1).await;
    let select = "SELECT COUNT(*) FROM \
         (SELECT at, actor, action, token_id, changes FROM service_token_events) AS events";
    assert_eq!(database.pool(1).await.number(select).await, 1);
    let events = store.audit_trail(None, 10).await.unwrap();
    assert_eq!(events[0].actor(), "an old node");
    assert_eq!(events[0].client_address(), None);

    // Version 2 inserts and rotates with these statements.
    let digest = |byte: &str| {
        if database.is_postgres() {
            format!("'\\x{}'", byte.repeat(32))
        } else {
            format!("x'{}'", byte.repeat(32))
        }
    };
    let insert = format!(
        "INSERT INTO service_tokens (id, digest, state, name, roles, scopes, labels, revision) \
         VALUES (42, {}, 0, 'old', '[]', '[]', '{{}}', 1)",
        digest("ab")
    );
    database.run(&insert).await;
    let tokens = ServiceTokens::new(database.registry().await);
    let _ = tokens
        .rotate_once(id(42), Duration::ZERO, "a")
        .await
        .unwrap();
    let rotate = "UPDATE service_tokens SET digest = {}, revision = 3 WHERE id = 42";
    database.run(&rotate.replace("{}", &digest("cd"))).await;
    assert_eq!(tokens.get_by_number(42).await.unwrap().revision(), 3);

    // As version 3 renames: the owner stays, and the reserved name of the owner is released.
    let unique = TokenPolicy::new().require_unique_names();
    let tokens = tokens.with_policy(unique);
    let owned = || NewToken::new("ci").with_owner("user:1");
    let created = tokens.create(owned()).await.unwrap();
    let rename = "UPDATE service_tokens SET name = 'old', revision = 2, reserved_name = \
         COALESCE(NULL, CASE WHEN state < 2 AND reserved_name = 'old' THEN reserved_name END) \
         WHERE owner IS NOT NULL";
    database.run(rename).await;
    let record = tokens.get(created.record().id()).await.unwrap();
    assert_eq!((record.name(), record.owner()), ("old", Some("user:1")));
    let _ = tokens.create(owned()).await.unwrap();
}

/// Two tokens of version 2 may share a number, and have a name that this release rejects.
pub(crate) async fn migrates_version_2_and_keeps_ambiguous_numbers(database: TestDatabase) {
    const PAIR: [i64; 2] = [7, 10_000_000_000_007];
    if database.is_postgres() {
        database.run(include_str!("fixtures/ba5acd0.sql")).await;
    } else {
        fs::write(database.file(), include_bytes!("fixtures/ba5acd0.db")).unwrap();
    }
    for number in PAIR {
        let digest = if database.is_postgres() {
            format!("sha256('{number}')")
        } else {
            format!("CAST(printf('%032d', {number}) AS BLOB)")
        };
        let table = if database.is_postgres() {
            "public.service_tokens"
        } else {
            "service_tokens"
        };
        let insert = format!(
            "INSERT INTO {table} (id, digest, state, name, roles, scopes, labels, revision) \
             VALUES ({number}, {digest}, 0, 'of\u{202e}old', '[\" admin\"]', '[]', '{{}}', 1)"
        );
        database.run(&insert).await;
    }
    let store = database.open().await;
    assert_eq!(database.pool(1).await.number(VERSION).await, CURRENT);
    let tokens = ServiceTokens::new(database.registry().await);
    let all = tokens
        .list(TokenFilter::new(), Page::default())
        .await
        .unwrap();
    assert_eq!(all.records.len(), 7);
    for record in all
        .records
        .iter()
        .filter(|it| !PAIR.contains(&it.id().as_i64()))
    {
        let found = tokens.get_by_number(record.id().number()).await.unwrap();
        assert_eq!(found.id(), record.id());
        assert_eq!(found.rotation_key(), None);
    }
    let ambiguous = tokens.get_by_number(7).await;
    assert!(matches!(ambiguous, Err(LifecycleError::AmbiguousNumber)));
    // Both can be changed and removed, but a third token with this number is rejected.
    let update = TokenUpdate::new().with_description("d");
    let changed = tokens.update(id(PAIR[1]), update).await.unwrap();
    assert!(changed.record.roles().iter().eq([" admin"]));
    let third = TokenRecord::new(id(20_000_000_000_007), digest("third"));
    let rejected = store.insert(&write(&third)).await;
    assert!(
        matches!(rejected, Err(RegistryError::DuplicateNumber)),
        "{rejected:?}"
    );
    tokens.revoke(id(PAIR[0])).await.unwrap();
    assert_eq!(tokens.get_by_number(7).await.unwrap().id(), id(PAIR[1]));

    let rotated = tokens
        .rotate_once(id(PAIR[1]), Duration::ZERO, "key")
        .await
        .unwrap();
    store.close().await;
    let reopened = ServiceTokens::new(database.registry().await);
    let repeated = reopened
        .rotate_once(id(PAIR[1]), Duration::ZERO, "key")
        .await;
    let Err(LifecycleError::AlreadyRotated(token)) = repeated else {
        panic!("{repeated:?}");
    };
    assert_eq!(token.record.digest(), rotated.record().digest());
}

/// A transaction that reads the audit trail blocks the migration. The waiting migration must not block
/// nodes of the earlier release that append to the trail.
pub(crate) async fn waiting_migration_blocks_changes_for_at_most_two_seconds(
    database: TestDatabase,
) {
    const MAX_WAIT: Duration = Duration::from_secs(2);
    const SLACK: Duration = Duration::from_secs(2);
    const WAITING: &str = "SELECT COUNT(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock'";

    restore(&database).await;
    let (_, url) = database.url();
    let mut reader = PgConnection::connect(url).await.unwrap();
    let read = "BEGIN; SELECT COUNT(*) FROM public.service_token_events;";
    reader.execute(read).await.unwrap();
    let opening = database.clone();
    let opening = tokio::spawn(async move { opening.open().await });
    let pool = database.pool(1).await;
    for _ in 0..2 {
        let started = Stopwatch::start();
        while pool.number(WAITING).await == 0 {
            assert!(
                started.elapsed_without_stalls() < TIMEOUT,
                "the migration does not wait"
            );
            pause().await;
        }
        let started = Stopwatch::start();
        pool.run(APPEND_1).await;
        let elapsed = started.elapsed_without_stalls();
        assert!(elapsed < MAX_WAIT + SLACK, "{elapsed:?}");
    }
    reader.close().await.unwrap();
    opening.await.unwrap().state().await.unwrap();
    assert_eq!(pool.number(VERSION).await, CURRENT);
}
