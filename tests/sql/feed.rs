//! Change notifications, in this process and in other processes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tower_service_token::digest::TokenDigest;
use tower_service_token::store::{TokenChange, TokenRecord, TokenState};

use crate::database::{Changes, TestDatabase, at, digest, minted, write};

fn is_of(record: &TokenRecord) -> impl Fn(&TokenChange) -> bool + use<> {
    let expected = record.id();
    move |change| matches!(change, TokenChange::Token { id, .. } if *id == expected)
}

/// Asserts that a change of this token was notified with these digests. A process may receive its own
/// changes twice.
#[track_caller]
fn assert_notified(changes: &[TokenChange], record: &TokenRecord, expected: &[TokenDigest]) {
    let is_notified = changes.iter().any(|change| {
        matches!(change, TokenChange::Token { id, digests }
            if *id == record.id() && sorted(digests) == sorted(expected))
    });
    assert!(is_notified, "{changes:?}");
}

fn sorted(digests: &[TokenDigest]) -> Vec<String> {
    let mut digests: Vec<_> = digests.iter().map(ToString::to_string).collect();
    digests.sort_unstable();
    digests
}

pub(crate) async fn notifies_this_process_before_the_change_returns(database: TestDatabase) {
    let store = database.open().await;
    let clone = store.clone();
    let changes = Changes::of(&clone);
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    assert_notified(&changes.take(), &record, &[*record.digest()]);

    let rotated = record.clone().with_digest(digest("new"));
    let rotated = rotated.with_previous_digest((*record.digest(), at(9)));
    let rotated = store.update(&write(&rotated)).await.unwrap();
    let both = [*record.digest(), digest("new")];
    assert_notified(&changes.take(), &record, &both);

    store.delete(&write(&rotated)).await.unwrap();
    assert_notified(&changes.take(), &record, &both);
}

pub(crate) async fn notifies_other_processes(database: TestDatabase) {
    let (local, remote) = (database.open().await.watching(), database.open().await);
    let changes = Changes::of(&local);
    changes.wait_for_everything().await;
    let record = minted();
    remote.insert(&write(&record)).await.unwrap();
    let all = changes.until(is_of(&record)).await;
    assert_notified(&all, &record, &[*record.digest()]);

    let revoked = record
        .clone()
        .with_digest(digest("new"))
        .with_state(TokenState::Revoked);
    let revoked = remote.update(&write(&revoked)).await.unwrap();
    let all = changes.until(is_of(&record)).await;
    assert_notified(&all, &record, &[*record.digest(), digest("new")]);

    // A use sends no notification, so the next one is that of the deletion.
    remote.touch(&[(record.id(), at(5))]).await.unwrap();
    remote.delete(&write(&revoked)).await.unwrap();
    let all = changes.until(is_of(&record)).await;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_notified(&all, &record, &[digest("new")]);
}

pub(crate) async fn dropped_stores_stop_listening(database: TestDatabase) {
    let (local, remote) = (database.open().await.watching(), database.open().await);
    let changes = Changes::of(&local);
    changes.wait_for_everything().await;
    let (weak, clone) = (Arc::downgrade(&changes), local.clone());
    drop(local);
    // The feed runs as long as a clone exists.
    let record = minted();
    remote.insert(&write(&record)).await.unwrap();
    changes.until(is_of(&record)).await;
    drop((clone, remote));
    if database.is_postgres() {
        let pool = database.pool(1).await;
        let other_sessions = "SELECT COUNT(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let started = Instant::now();
        while pool.number(other_sessions).await != 0 {
            let elapsed = started.elapsed();
            assert!(elapsed < Duration::from_secs(60), "a session still listens");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    drop(changes);
    assert!(
        weak.upgrade().is_none(),
        "the store still holds its listener"
    );
}

pub(crate) async fn pruned_changes_notify_everything(database: TestDatabase) {
    let (local, remote) = (database.open().await.watching(), database.open().await);
    let changes = Changes::of(&local);
    changes.wait_for_everything().await;
    let record = minted();
    remote.insert(&write(&record)).await.unwrap();
    changes.until(is_of(&record)).await;
    // This is the state after more changes than the log holds.
    database
        .run(
            "BEGIN IMMEDIATE; DELETE FROM service_token_changes; \
             UPDATE sqlite_sequence SET seq = 20000 WHERE name = 'service_token_changes'; \
             INSERT INTO service_token_changes (change) VALUES ('5'); COMMIT;",
        )
        .await;
    changes.wait_for_everything().await;
    remote.insert(&write(&minted())).await.unwrap();
    // The log holds the last 10,000 changes.
    database
        .run(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000) \
             INSERT INTO service_token_changes (change) SELECT '5' FROM n;",
        )
        .await;
    let record = minted();
    remote.insert(&write(&record)).await.unwrap();
    let pool = database.pool(1).await;
    let logged = "SELECT COUNT(*) FROM service_token_changes";
    assert_eq!(pool.number(logged).await, 10_000);
    changes.wait_for_everything().await;
    // The feed continues with later changes.
    let record = minted();
    remote.insert(&write(&record)).await.unwrap();
    changes.until(is_of(&record)).await;
}

pub(crate) async fn reconnected_feed_notifies_everything(database: TestDatabase) {
    let (local, remote) = (database.open().await, database.open().await);
    let changes = Changes::of(&local);
    changes.wait_for_everything().await;
    for _ in 0..3 {
        let (server, url) = database.url();
        server.kill_connections(url).await;
        changes.wait_for_everything().await;
        let record = minted();
        remote.insert(&write(&record)).await.unwrap();
        changes.until(is_of(&record)).await;
    }
}
