//! The effects of a bulk revocation on the tables, the audit trail and the feed.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tower_service_token::ServiceTokens;
use tower_service_token::audit::{AuditAction, AuditEvent, FieldChange};
use tower_service_token::lifecycle::{NewToken, TokenPolicy};
use tower_service_token::registry::{TokenFilter, Write};
use tower_service_token::store::{TokenChange, TokenRecord, TokenState};
use tower_service_token::token::TokenId;

use crate::authority::{find, store_with_long_lock_timeout, tokens};
use crate::database::{Changes, Server, Store, TestDatabase, at, digest, minted, write};
use crate::plans::rows;

/// Returns how many of these [rows] are not revoked. One in fifty is revoked.
fn unrevoked(rows: i64) -> usize {
    usize::try_from(rows - rows / 50).unwrap()
}

/// Opens a store with an audit trail and this many [rows].
async fn populated(database: &TestDatabase, count: i64) -> Store {
    let store = store_with_long_lock_timeout(database)
        .await
        .keep_audit_trail();
    database.run(&rows(count, database.is_postgres())).await;
    store
}

/// Revokes all tokens in as many calls as needed. Returns their IDs and the duration of the longest call.
pub(crate) async fn revoke_all(
    tokens: &ServiceTokens,
    mut remaining: usize,
) -> (Vec<TokenId>, Duration) {
    let (mut ids, mut longest) = (Vec::new(), Duration::ZERO);
    while remaining > 0 {
        let started = Instant::now();
        let done = tokens.revoke_where(TokenFilter::new(), remaining).await;
        let done = done.unwrap();
        longest = longest.max(started.elapsed());
        assert_eq!(done.ids.len() + done.remaining, remaining);
        remaining = done.remaining;
        ids.extend(done.ids);
    }
    (ids, longest)
}

pub(crate) async fn revokes_thousands_of_tokens_with_their_events(database: TestDatabase) {
    const ROWS: i64 = 5000;
    let store = populated(&database, ROWS).await;
    let (revoked, longest) = revoke_all(&tokens(&store), unrevoked(ROWS)).await;
    assert!(longest < Duration::from_secs(20), "{longest:?}");
    assert_eq!(revoked.len(), unrevoked(ROWS));
    let pool = database.pool(1).await;
    let count = async |condition: &str| {
        pool.number(&format!("SELECT COUNT(*) FROM {condition}"))
            .await
    };
    assert_eq!(count("service_tokens WHERE state <> 2").await, 0);
    let updated = "service_tokens WHERE revision = 1 AND updated_at IS NOT NULL";
    let expected = i64::try_from(revoked.len()).unwrap();
    assert_eq!(count(updated).await, expected);
    let distinct = "(SELECT DISTINCT token_id FROM service_token_events) AS ids";
    assert_eq!(count(distinct).await, expected);
    assert_eq!(count("service_token_events").await, expected);
    // The trail lists the newest event first, which is the reverse of the order of revocation.
    let events = store.audit_trail(None, 1000).await.unwrap();
    let newest: Vec<_> = events.iter().map(AuditEvent::token_id).collect();
    let last: Vec<_> = revoked.iter().rev().take(1000).copied().collect();
    assert_eq!(newest, last);
    for event in &events {
        assert_eq!(event.action(), AuditAction::Revoked);
        assert_eq!(event.actor(), "operator:operator");
        let changes = event.changes();
        assert!(
            matches!(changes, [change] if change.field == "state"
                && change.after.as_deref() == Some("revoked")),
            "{changes:?}"
        );
    }
}

/// Takes a minute, so only `.ci/long` runs it. Prints its figures.
pub(crate) async fn revokes_two_hundred_thousand_tokens_in_a_minute(database: TestDatabase) {
    const ROWS: i64 = 200_000;
    let store = populated(&database, ROWS).await;
    if database.is_postgres() {
        database.run("VACUUM ANALYZE service_tokens").await;
    }
    // Reset the peak, so that it is the peak of the revocation.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let resident = memory("VmRSS:");
    let (started, tokens) = (Instant::now(), tokens(&store));
    let (revoked, longest) = revoke_all(&tokens, unrevoked(ROWS)).await;
    let elapsed = started.elapsed();
    let peak = memory("VmHWM:");
    let name = if database.is_postgres() {
        "PostgreSQL"
    } else {
        "SQLite"
    };
    println!(
        "{name}: {} tokens in {elapsed:.1?}, longest call {longest:.1?}, memory {resident} MiB, \
         peak {peak} MiB",
        revoked.len()
    );
    assert_eq!(revoked.len(), unrevoked(ROWS));
    let pool = database.pool(1).await;
    let events = "SELECT COUNT(*) FROM service_token_events";
    let expected = i64::try_from(revoked.len()).unwrap();
    assert_eq!(pool.number(events).await, expected);
    assert!(elapsed < Duration::from_secs(60), "{elapsed:?}");
    assert!(longest < Duration::from_secs(20), "{longest:?}");
}

/// Returns a memory figure of this process in MiB, or 0 if the system has no `/proc`.
fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() / 1024
}

pub(crate) async fn notifies_other_nodes_of_each_revocation(database: TestDatabase) {
    const ROWS: i64 = 2000;
    let local = store_with_long_lock_timeout(&database).await.watching();
    let remote = populated(&database, ROWS).await;
    let changes = Changes::of(&local);
    changes.wait_for_everything().await;
    let (revoked, _) = revoke_all(&tokens(&remote), unrevoked(ROWS)).await;
    let last = minted();
    remote.insert(&write(&last)).await.unwrap();
    // Notifications arrive in the order of the changes, so all earlier ones precede the last.
    let is_last = |change: &TokenChange| is_of(change, last.id());
    let all = changes.until(is_last).await;
    let changes: BTreeSet<TokenId> = all.iter().filter_map(id_of).collect();
    for id in revoked {
        assert!(changes.contains(&id), "{id}");
    }
}

fn is_of(change: &TokenChange, id: TokenId) -> bool {
    id_of(change) == Some(id)
}

/// SQLite keeps the last 10,000 changes for other nodes.
pub(crate) async fn nodes_miss_no_pruned_revocations(database: TestDatabase) {
    const ROWS: i64 = 12_000;
    let local = store_with_long_lock_timeout(&database).await;
    let remote = populated(&database, ROWS).await;
    let changes = Changes::of(&local);
    changes.wait_for_everything().await;
    let (revoked, _) = revoke_all(&tokens(&remote), unrevoked(ROWS)).await;
    let pool = database.pool(1).await;
    let logged = "SELECT COUNT(*) FROM service_token_changes";
    assert_eq!(pool.number(logged).await, 10_000);
    let last = minted();
    remote.insert(&write(&last)).await.unwrap();
    // The node receives either every change or the notification that anything may have changed.
    let is_everything = |change: &TokenChange| matches!(change, TokenChange::Everything);
    let is_last_expected = |change: &TokenChange| is_everything(change) || is_of(change, last.id());
    let all = changes.until(is_last_expected).await;
    let changes: BTreeSet<TokenId> = all.iter().filter_map(id_of).collect();
    let is_notified = |id: &TokenId| changes.contains(id);
    assert!(all.iter().any(is_everything) || revoked.iter().all(is_notified));
}

fn id_of(change: &TokenChange) -> Option<TokenId> {
    match change {
        TokenChange::Token { id, .. } => Some(*id),
        _ => None,
    }
}

pub(crate) async fn bulk_revocation_releases_reserved_names(database: TestDatabase) {
    let store = store_with_long_lock_timeout(&database).await;
    let unique = tokens(&store).with_policy(TokenPolicy::new().require_unique_names());
    let new = |number: i32| NewToken::new(format!("name {number}")).with_subject("bulk");
    for number in 0..20 {
        let _ = unique.create(new(number)).await.unwrap();
    }
    assert!(unique.create(new(7)).await.is_err());
    let filter = TokenFilter::new().with_subject("bulk");
    let revoked = unique.revoke_where(filter, 20).await.unwrap();
    assert_eq!(revoked.ids.len(), 20);
    for number in 0..20 {
        let created = unique.create(new(number)).await.unwrap();
        assert!(find(&store, created.expose_secret()).await.is_ok());
    }
}

/// Revokes the same tokens in one call in one database, and one by one in another. Each column and each
/// event must be the same.
pub(crate) async fn bulk_update_stores_the_same_rows_as_single_updates(database: TestDatabase) {
    let other = match &database {
        TestDatabase::Sqlite(_) => TestDatabase::sqlite(),
        TestDatabase::Postgres { server, .. } => {
            TestDatabase::postgres(Server(Arc::clone(&server.0)))
                .create()
                .await
        }
    };
    let records: Vec<TokenRecord> = (0..60).map(varied).collect();
    let revocations: Vec<Write> = records.iter().map(revocation).collect();
    let mut dumps = Vec::new();
    for (database, in_bulk) in [(&database, true), (&other, false)] {
        let store = database.open().await.keep_audit_trail();
        let store = store.with_deadline(Duration::from_secs(60));
        for (number, record) in records.iter().enumerate() {
            let insertion = write(record).reserve_name(number % 2 == 0);
            store.insert(&insertion).await.unwrap();
        }
        store.touch(&[(records[3].id(), at(77))]).await.unwrap();
        if in_bulk {
            for outcome in store.update_many(&revocations).await {
                outcome.unwrap();
            }
        } else {
            for revocation in &revocations {
                store.update(revocation).await.unwrap();
            }
        }
        dumps.push(dump(database).await);
    }
    other.remove().await;
    let [in_bulk, one_by_one] = &dumps[..] else {
        unreachable!("two databases")
    };
    for (in_bulk, one_by_one) in in_bulk.iter().zip(one_by_one) {
        assert_eq!(in_bulk, one_by_one);
        assert!(in_bulk.lines().count() >= records.len());
    }
}

fn varied(number: u64) -> TokenRecord {
    let record = minted()
        .with_name(format!("token {number}"))
        .with_created_at(at(number))
        .with_revision(number);
    let record = match number % 3 {
        0 => record
            .with_roles(["a", "b,c"])
            .with_scopes(["projects:*"])
            .with_label("key", "value \"quoted\""),
        1 => record.with_roles(["ä"]).with_description("line\nline"),
        _ => record.with_label("only", "a label").with_subject("someone"),
    };
    match number % 4 {
        0 => record
            .with_previous_digest((digest(&format!("previous {number}")), at(9000 + number)))
            .with_rotated_at(at(5)),
        1 => record.with_expires_at(at(99_999)).with_not_before(at(3)),
        2 => record
            .with_state(TokenState::Disabled)
            .with_last_used_at(at(44)),
        _ => record.with_created_by("operator").with_hint("svctok-***"),
    }
}

/// Returns a write that revokes the token. Some also change other fields.
fn revocation(record: &TokenRecord) -> Write {
    let number = record.revision();
    let mut after = record
        .clone()
        .with_state(TokenState::Revoked)
        .with_updated_at(at(123_456));
    if number % 10 == 9 {
        after = after.with_name("renamed").with_roles(["c"]);
    }
    let action = AuditAction::Revoked;
    let event = AuditEvent::new(at(123_456), "operator:\"a\"\n", action, record.id())
        .with_client_address(IpAddr::from([192, 0, 2, 1]));
    let change = FieldChange {
        field: "state".into(),
        before: Some(format!("ä\u{1}\"{number}")),
        after: None,
    };
    Write::new(after, event.with_change(change)).reserve_name(number.is_multiple_of(2))
}

/// Returns all columns of all rows, as one text for each table. Events are dumped without their number.
async fn dump(database: &TestDatabase) -> Vec<String> {
    let pool = database.pool(1).await;
    let events = "SELECT at, actor, action, token_id, changes, client_address \
         FROM service_token_events ORDER BY seq";
    let tables = [
        ("SELECT * FROM service_tokens ORDER BY id", "service_tokens"),
        (
            "SELECT * FROM service_token_attributes ORDER BY token_id, kind, value",
            "service_token_attributes",
        ),
        (events, "service_token_events"),
    ];
    let mut dumps = Vec::new();
    for (select, table) in tables {
        let statement = if database.is_postgres() {
            format!("SELECT string_agg(replace(t::TEXT, E'\\n', ' '), E'\\n') FROM ({select}) t")
        } else {
            let columns = pool
                .text(&format!(
                    "SELECT group_concat('quote(' || name || ')', '||'',''||') \
                     FROM pragma_table_xinfo('{table}') WHERE name <> 'seq'"
                ))
                .await;
            format!(
                "SELECT group_concat(replace({columns}, char(10), ' '), char(10)) FROM ({select})"
            )
        };
        dumps.push(pool.text(&statement).await);
    }
    dumps
}
