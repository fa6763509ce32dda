//! The audit trail of a store.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use tower_service_token::audit::{AuditAction, AuditEvent, FieldChange};
use tower_service_token::registry::Write;
use tower_service_token::store::TokenRecord;

use crate::database::{Store, TestDatabase, at, minted, write};

fn change(before: Option<&str>, after: Option<&str>) -> FieldChange {
    FieldChange {
        field: Cow::Borrowed("name"),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
    }
}

fn event(millis: u64, action: AuditAction, record: &TokenRecord) -> AuditEvent {
    AuditEvent::new(at(millis), "operator \"a\"", action, record.id())
}

pub(crate) async fn stores_events_with_their_changes(database: TestDatabase) {
    let store = database.open().await.keep_audit_trail();
    let (first, second) = (minted(), minted());
    let created = event(1000, AuditAction::Created, &first);
    store
        .insert(&Write::new(first.clone(), created.clone()))
        .await
        .unwrap();
    let imported = event(1001, AuditAction::Imported, &second);
    store
        .insert(&Write::new(second.clone(), imported.clone()))
        .await
        .unwrap();
    let updated = event(1001, AuditAction::Updated, &first)
        .with_change(change(Some("a \"name\""), None))
        .with_change(change(None, Some("ночь")));
    let record = store
        .update(&Write::new(first.clone(), updated.clone()))
        .await
        .unwrap();
    let purged = event(1002, AuditAction::Purged, &first);
    store
        .delete(&Write::new(record, purged.clone()))
        .await
        .unwrap();
    store.touch(&[(second.id(), at(2000))]).await.unwrap();

    let all = store.audit_trail(None, 10).await.unwrap();
    assert_eq!(
        all,
        [
            purged.clone(),
            updated.clone(),
            imported.clone(),
            created.clone()
        ]
    );
    let of_first = store.audit_trail(Some(first.id()), 10).await.unwrap();
    assert_eq!(of_first, [purged.clone(), updated, created]);
    let last = store.audit_trail(Some(first.id()), 1).await.unwrap();
    assert_eq!(last, [purged]);
    // The audit trail remains after the token is deleted and the store is reopened.
    let reopened = database.open().await;
    assert_eq!(reopened.audit_trail(None, 10).await.unwrap(), all);
}

pub(crate) async fn rejected_changes_leave_no_event(database: TestDatabase) {
    let store = database.open().await.keep_audit_trail();
    let record = minted().with_name("name");
    let unique = |record: &TokenRecord| write(record).reserve_name(true);
    store.insert(&unique(&record)).await.unwrap();
    store
        .insert(&unique(&minted().with_name("name")))
        .await
        .unwrap_err();
    store.insert(&write(&record)).await.unwrap_err();
    let stale = record.clone().with_revision(9);
    store.update(&write(&stale)).await.unwrap_err();
    store.delete(&write(&stale)).await.unwrap_err();
    assert_eq!(store.audit_trail(None, 10).await.unwrap().len(), 1);
    // A change fails if its event cannot be stored.
    database
        .run("ALTER TABLE service_token_events RENAME TO renamed")
        .await;
    store
        .update(&write(&record.clone().with_name("renamed")))
        .await
        .unwrap_err();
    store.insert(&write(&minted())).await.unwrap_err();
    store.delete(&write(&record)).await.unwrap_err();
    let stored = store.get(record.id()).await.unwrap().unwrap();
    assert_eq!((stored.name(), stored.revision()), ("name", 0));
    let pool = database.pool(1).await;
    assert_eq!(pool.number("SELECT COUNT(*) FROM service_tokens").await, 1);
}

pub(crate) async fn stores_no_events_without_an_audit_trail(database: TestDatabase) {
    let store = database.open().await;
    store.insert(&write(&minted())).await.unwrap();
    assert!(store.audit_trail(None, 10).await.unwrap().is_empty());
}

pub(crate) async fn stores_client_addresses(database: TestDatabase) {
    let store = database.open().await.keep_audit_trail();
    let addresses = ["192.0.2.7", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap());
    let records = [minted(), minted()];
    for (record, address) in records.iter().zip(addresses) {
        let event = event(1, AuditAction::Created, record).with_client_address(address);
        store
            .insert(&Write::new(record.clone(), event))
            .await
            .unwrap();
    }
    // A bulk update stores the address of each event.
    let writes = records.iter().zip([Some(addresses[0]), None]);
    let writes: Vec<_> = writes
        .map(|(record, address)| {
            let event = event(2, AuditAction::Updated, record).with_client_address(address);
            Write::new(record.clone(), event)
        })
        .collect();
    for outcome in store.update_many(&writes).await {
        outcome.unwrap();
    }
    let events = store.audit_trail(None, 10).await.unwrap();
    let stored: Vec<_> = events.iter().map(AuditEvent::client_address).collect();
    assert_eq!(
        stored,
        [
            None,
            Some(addresses[0]),
            Some(addresses[1]),
            Some(addresses[0])
        ]
    );
}

/// Stores an event for each time.
async fn store_events(store: &Store, times: impl IntoIterator<Item = SystemTime>) {
    for time in times {
        let record = minted();
        let event = AuditEvent::new(time, "a test", AuditAction::Created, record.id());
        store.insert(&Write::new(record, event)).await.unwrap();
    }
}

async fn times(store: &Store) -> Vec<SystemTime> {
    let events = store.audit_trail(None, 1000).await.unwrap();
    events.iter().map(AuditEvent::at).collect()
}

pub(crate) async fn deletes_only_events_before_a_time(database: TestDatabase) {
    let store = database.open().await.keep_audit_trail();
    // The times are not in the order of storage.
    store_events(&store, [3000, 1000, 2000, 4000].map(at)).await;
    assert_eq!(store.prune_audit_trail(at(1000)).await, 0);
    assert_eq!(store.prune_audit_trail(at(3000)).await, 2);
    assert_eq!(times(&store).await, [4000, 3000].map(at));
    // The order of the events is unchanged.
    assert_eq!(store.audit_trail(None, 1).await.unwrap()[0].at(), at(4000));
}

pub(crate) async fn deletes_events_beyond_the_retention(database: TestDatabase) {
    let store = database.open().await.keep_audit_trail();
    let recent = SystemTime::now() - Duration::from_secs(3600);
    store_events(&store, [at(1000), recent, at(2000)]).await;
    let store = store.with_audit_retention(Duration::from_secs(24 * 3600));
    let started = Instant::now();
    while times(&store).await.len() > 1 {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "no event is deleted"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let remaining = times(&store).await[0];
    let millis = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_millis()
    };
    assert_eq!(millis(remaining), millis(recent));
}

pub(crate) async fn pruning_does_not_block_changes(database: TestDatabase) {
    let store = database.open().await.keep_audit_trail();
    let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5500) \
         INSERT INTO service_token_events (at, actor, action, token_id, changes) \
         SELECT i, 'a test', 'created', i, '[]' FROM n";
    database.run(rows).await;
    let pruned = store.prune_audit_trail(at(5001));
    let mut pruned = Box::pin(pruned);
    let mut changes = 0;
    let deleted = loop {
        tokio::select! {
            deleted = &mut pruned => break deleted,
            () = store_events(&store, [at(6000)]) => changes += 1,
        }
    };
    assert_eq!(deleted, 5000);
    // Pruning deletes in at least five batches, with a pause after each.
    assert!(changes >= 2, "{changes} changes");
    let pool = database.pool(1).await;
    let remaining = "SELECT COUNT(*) FROM service_token_events WHERE at <= 5500";
    assert_eq!(pool.number(remaining).await, 500);
}
