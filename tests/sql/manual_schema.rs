//! Tables that a database administrator creates with the scripts, for a role without DDL rights.

use std::error::Error;
use std::fs;
use std::time::SystemTime;

use sqlx::postgres::PgPool;
use tower_service_token::digest::TokenDigest;
use tower_service_token::registry::{ListRequest, TokenFilter};
use tower_service_token::store::sql::{OpenStoreErrorKind, PostgresStore};
use tower_service_token::store::{TokenRecord, TokenState};
use tower_service_token::streams::{RightsDigest, StoredTicket, TicketStore};

use crate::database::{Store, TestDatabase, at, id, minted, write};

const VERSION: &str = "SELECT version FROM service_token_schema";

/// The scripts of each schema version, for SQLite and PostgreSQL.
const SCRIPTS: [[&str; 2]; 4] = [
    [
        include_str!("../../src/store/sql/schema/sqlite_1.sql"),
        include_str!("../../src/store/sql/schema/postgres_1.sql"),
    ],
    [
        include_str!("../../src/store/sql/schema/sqlite_2.sql"),
        include_str!("../../src/store/sql/schema/postgres_2.sql"),
    ],
    [
        include_str!("../../src/store/sql/schema/sqlite_3.sql"),
        include_str!("../../src/store/sql/schema/postgres_3.sql"),
    ],
    [
        include_str!("../../src/store/sql/schema/sqlite_4.sql"),
        include_str!("../../src/store/sql/schema/postgres_4.sql"),
    ],
];

async fn run_scripts(database: &TestDatabase, versions: &[[&str; 2]]) {
    let scripts = versions
        .iter()
        .map(|it| it[usize::from(database.is_postgres())]);
    let scripts: String = scripts.collect();
    database.run(&format!("BEGIN; {scripts} COMMIT;")).await;
}

pub(crate) async fn scripts_create_all_tables_of_a_store(database: TestDatabase) {
    run_scripts(&database, &SCRIPTS).await;
    let pool = database.pool(1).await;
    assert_eq!(pool.number(VERSION).await, 4);
    let stored = pool.text("SELECT store_id FROM service_token_store").await;
    let store = database.open().await;
    let state = store.state().await.unwrap();
    assert_eq!(state.store_id(), stored);
    assert_eq!(stored.len(), 32);
    assert!(stored.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(state.initialized_at(), None);
    store.insert(&write(&minted())).await.unwrap();
    store.check_writable().await.unwrap();
}

pub(crate) async fn scripts_migrate_version_1(database: TestDatabase) {
    run_scripts(&database, &SCRIPTS[..1]).await;
    let pool = database.pool(1).await;
    assert_eq!(pool.number(VERSION).await, 1);
    pool.run(&crate::plans::rows(3, database.is_postgres()))
        .await;
    run_scripts(&database, &SCRIPTS[1..]).await;
    assert_eq!(pool.number(VERSION).await, 4);
    let state = database.open().await.state().await.unwrap();
    assert_eq!(state.initialized_at(), Some(at(10)));
}

/// Creates a role for the test. Returns its name and its URL.
async fn create_role(database: &TestDatabase, name: &str, privileges: &str) -> (String, String) {
    let role = format!("svctok_{name}_{}", std::process::id());
    let grants = privileges.replace("TO service", &format!("TO {role}"));
    let revoke = "REVOKE CREATE ON SCHEMA public FROM PUBLIC";
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'hush'; {revoke}; {grants}");
    database.run(&create).await;
    let (_, url) = database.url();
    let (_, rest) = url.split_once('@').unwrap();
    let url = format!("postgres://{role}:hush@{rest}");
    (role, url)
}

async fn drop_role(database: &TestDatabase, role: &str) {
    database
        .run(&format!("DROP OWNED BY {role}; DROP ROLE {role};"))
        .await;
}

/// Returns the privileges in the documentation of `PostgresStore`: those of every store, and that for
/// pruning.
fn documented_privileges() -> (String, String) {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../src/store/sql/postgres/mod.rs"
    );
    let source = fs::read_to_string(path).unwrap();
    let lines = source.lines().filter_map(|line| line.strip_prefix("/// "));
    let lines = lines.filter(|line| line.starts_with("GRANT ") || line.starts_with("-- "));
    let lines: Vec<_> = lines.collect();
    let end = lines.iter().position(|line| line.starts_with("-- "));
    let (always, for_pruning) = lines.split_at(end.unwrap());
    assert_eq!((always.len(), for_pruning.len()), (5, 2));
    (always.concat(), for_pruning[1].to_owned())
}

pub(crate) async fn role_without_ddl_rights_uses_tables_created_by_scripts(database: TestDatabase) {
    run_scripts(&database, &SCRIPTS).await;
    let (privileges, for_pruning) = documented_privileges();
    let (role, url) = create_role(&database, "reader", &privileges).await;
    let pool = PgPool::connect(&url).await.unwrap();
    let create = sqlx::query("CREATE TABLE unused (x BIGINT)");
    create.execute(&pool).await.unwrap_err();
    pool.close().await;

    let store = PostgresStore::connect(&url).await.unwrap();
    let store = Store::Postgres(store).keep_audit_trail();
    use_every_operation(&store).await;
    let Store::Postgres(inner) = &store else {
        unreachable!("connected above")
    };
    inner
        .prune_audit_trail(SystemTime::now())
        .await
        .unwrap_err();
    let grant = for_pruning.replace("TO service", &format!("TO {role}"));
    database.run(&grant).await;
    assert!(store.prune_audit_trail(SystemTime::now()).await > 0);
    store.close().await;
    drop_role(&database, &role).await;
}

async fn use_every_operation(store: &Store) {
    let record = minted().with_name("first").with_roles(["role"]);
    let other = minted().with_name("second");
    let owned = minted().with_name("first").with_owner("user:1");
    for record in [&record, &other, &owned] {
        let write = write(record)
            .reserve_name(true)
            .with_max_tokens(10)
            .with_max_tokens_of_owner(10);
        store.insert(&write).await.unwrap();
    }
    let found = store.find_by_digest(record.digest()).await.unwrap();
    assert_eq!(found.unwrap().id(), record.id());
    assert!(store.get(id(1)).await.unwrap().is_none());
    let all = || TokenFilter::new();
    let page = store.list(&ListRequest::new(all(), at(1))).await.unwrap();
    assert_eq!(page.records.len(), 3);
    let owned = all().with_owner("user:1");
    assert_eq!(store.count(&owned, at(1)).await.unwrap(), 1);
    let renamed = record.with_name("renamed").with_roles(["other"]);
    let renamed = store.update(&write(&renamed)).await.unwrap();
    let revoked = |record: &TokenRecord| write(&record.clone().with_state(TokenState::Revoked));
    for outcome in store
        .update_many(&[revoked(&renamed), revoked(&other)])
        .await
    {
        outcome.unwrap();
    }
    store.touch(&[(other.id(), at(5))]).await.unwrap();
    let other = store.get(other.id()).await.unwrap().unwrap();
    store.delete(&write(&other)).await.unwrap();
    assert!(!store.audit_trail(None, 10).await.unwrap().is_empty());
    store.mark_initialized(at(2000)).await;
    let state = store.state().await.unwrap();
    assert_eq!(state.initialized_at(), Some(at(2000)));
    store.check_writable().await.unwrap();
}

pub(crate) async fn role_without_ddl_rights_cannot_migrate_version_1(database: TestDatabase) {
    run_scripts(&database, &SCRIPTS[..1]).await;
    let all = "GRANT ALL ON ALL TABLES IN SCHEMA public TO service";
    let (role, url) = create_role(&database, "restricted", all).await;
    let error = PostgresStore::connect(&url).await.err().unwrap();
    assert_eq!(error.kind(), OpenStoreErrorKind::Rejected);
    let source = error.source().unwrap().to_string();
    assert!(source.contains("must be owner of table"), "{source}");
    assert_eq!(database.pool(1).await.number(VERSION).await, 1);
    drop_role(&database, &role).await;
}

/// Runs the script and the statement in the documentation of `ticket_store`.
pub(crate) async fn role_without_ddl_rights_uses_the_table_of_tickets(database: TestDatabase) {
    run_scripts(&database, &SCRIPTS).await;
    let (privileges, _) = documented_privileges();
    let (role, url) = create_role(&database, "streams", &privileges).await;
    let store = PostgresStore::connect(&url).await.unwrap();
    let error = store.ticket_store().await.err().unwrap();
    assert_eq!(error.kind(), OpenStoreErrorKind::Rejected);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../src/store/sql");
    let script = fs::read_to_string(format!("{folder}/schema/postgres_tickets.sql")).unwrap();
    database.run(&script).await;
    let source = fs::read_to_string(format!("{folder}/tickets.rs")).unwrap();
    let mut lines = source
        .lines()
        .map(|line| line.trim_start_matches("    /// "));
    let grant = lines.find(|line| line.starts_with("GRANT ")).unwrap();
    let grant = grant.replace("TO service", &format!("TO {role}"));
    database.run(&grant).await;
    let tickets = store.ticket_store().await.unwrap();
    let ticket = StoredTicket {
        digest: TokenDigest::of("ticket"),
        token_id: id(1),
        token_digest: TokenDigest::of("token"),
        owner: None,
        rights: RightsDigest::from_bytes([7; 32]),
        expires_at: at(60_000),
    };
    tickets.insert(&ticket, at(1)).await.unwrap();
    assert!(tickets.take(&ticket.digest).await.unwrap().is_some());
    store.close().await.unwrap();
    drop_role(&database, &role).await;
}
