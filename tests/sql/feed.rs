//! Who is told of a change: this process at once, others as soon as may be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tower_service_token::digest::TokenDigest;
use tower_service_token::store::{TokenChange, TokenRecord, TokenState};

use crate::test_database::{RecordingListener, TestDatabase, at, digest, minted, write};

fn is_of(record: &TokenRecord) -> impl Fn(&TokenChange) -> bool + use<> {
    let wanted = record.id();
    move |change| matches!(change, TokenChange::Token { id, .. } if *id == wanted)
}

/// Whether a change of this token was told, with these digests. What this process changed may be
/// told once more.
#[track_caller]
fn assert_published(changes: &[TokenChange], record: &TokenRecord, expected: &[TokenDigest]) {
    let is_published = changes.iter().any(|change| {
        matches!(change, TokenChange::Token { id, digests }
            if *id == record.id() && sorted(digests) == sorted(expected))
    });
    assert!(is_published, "{changes:?}");
}

fn sorted(digests: &[TokenDigest]) -> Vec<String> {
    let mut digests: Vec<_> = digests.iter().map(ToString::to_string).collect();
    digests.sort_unstable();
    digests
}

pub(crate) async fn notifies_this_process_before_the_write_returns(database: TestDatabase) {
    let store = database.open().await;
    let clone = store.clone();
    let listener = RecordingListener::subscribed_to(&clone);
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    assert_published(&listener.take(), &record, &[*record.digest()]);

    let rotated = record.clone().with_digest(digest("new"));
    let rotated = rotated.with_previous_digest((*record.digest(), at(9)));
    let rotated = store.update(&write(&rotated)).await.unwrap();
    let both = [*record.digest(), digest("new")];
    assert_published(&listener.take(), &record, &both);

    store.delete(&write(&rotated)).await.unwrap();
    assert_published(&listener.take(), &record, &both);
}

pub(crate) async fn notifies_another_process(database: TestDatabase) {
    let (here, there) = (database.open().await.watching(), database.open().await);
    let listener = RecordingListener::subscribed_to(&here);
    listener.until_everything().await;
    let record = minted();
    there.insert(&write(&record)).await.unwrap();
    let all = listener.until(is_of(&record)).await;
    assert_published(&all, &record, &[*record.digest()]);

    let revoked = record
        .clone()
        .with_digest(digest("new"))
        .with_state(TokenState::Revoked);
    let revoked = there.update(&write(&revoked)).await.unwrap();
    let all = listener.until(is_of(&record)).await;
    assert_published(&all, &record, &[*record.digest(), digest("new")]);

    // A use is nobody's news: the next thing told is the deletion.
    there.touch(&[(record.id(), at(5))]).await.unwrap();
    there.delete(&write(&revoked)).await.unwrap();
    let all = listener.until(is_of(&record)).await;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_published(&all, &record, &[digest("new")]);
}

pub(crate) async fn a_dropped_store_stops_listening(database: TestDatabase) {
    let (here, there) = (database.open().await.watching(), database.open().await);
    let listener = RecordingListener::subscribed_to(&here);
    listener.until_everything().await;
    let (weak, clone) = (Arc::downgrade(&listener), here.clone());
    drop(here);
    // A clone keeps it going.
    let record = minted();
    there.insert(&write(&record)).await.unwrap();
    listener.until(is_of(&record)).await;
    drop((clone, there));
    if database.is_postgres() {
        let pool = database.pool(1).await;
        let others = "SELECT COUNT(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let begun = Instant::now();
        while pool.number(others).await != 0 {
            let elapsed = begun.elapsed();
            assert!(elapsed < Duration::from_secs(60), "something still listens");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    drop(listener);
    assert!(
        weak.upgrade().is_none(),
        "the store kept its listener alive"
    );
}

pub(crate) async fn pruned_changes_are_published_as_everything(database: TestDatabase) {
    let (here, there) = (database.open().await.watching(), database.open().await);
    let listener = RecordingListener::subscribed_to(&here);
    listener.until_everything().await;
    let record = minted();
    there.insert(&write(&record)).await.unwrap();
    listener.until(is_of(&record)).await;
    // As if more had been changed meanwhile than are kept.
    database
        .run(
            "BEGIN IMMEDIATE; DELETE FROM service_token_changes; \
             UPDATE sqlite_sequence SET seq = 20000 WHERE name = 'service_token_changes'; \
             INSERT INTO service_token_changes (change) VALUES ('5'); COMMIT;",
        )
        .await;
    listener.until_everything().await;
    there.insert(&write(&minted())).await.unwrap();
    // The log holds the last 10,000.
    database
        .run(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000) \
             INSERT INTO service_token_changes (change) SELECT '5' FROM n;",
        )
        .await;
    let record = minted();
    there.insert(&write(&record)).await.unwrap();
    let pool = database.pool(1).await;
    let kept = "SELECT COUNT(*) FROM service_token_changes";
    assert_eq!(pool.number(kept).await, 10_000);
    listener.until_everything().await;
    // And it goes on from there.
    let record = minted();
    there.insert(&write(&record)).await.unwrap();
    listener.until(is_of(&record)).await;
}

pub(crate) async fn reconnecting_publishes_everything(database: TestDatabase) {
    let (here, there) = (database.open().await, database.open().await);
    let listener = RecordingListener::subscribed_to(&here);
    listener.until_everything().await;
    for _ in 0..3 {
        let (server, url) = database.url();
        server.kill_connections(url).await;
        listener.until_everything().await;
        let record = minted();
        there.insert(&write(&record)).await.unwrap();
        listener.until(is_of(&record)).await;
    }
}
