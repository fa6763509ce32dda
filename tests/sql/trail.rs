//! The audit trail that is kept beside the tokens.

use std::borrow::Cow;

use tower_service_token::store::{AuditAction, AuditEvent, FieldChange, TokenRecord, Write};

use crate::place::{Place, at, minted, write};

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

pub(crate) async fn events_are_kept_with_their_changes(place: Place) {
    let store = place.open().await.with_audit_trail();
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
    let of_one = store.audit_trail(Some(first.id()), 10).await.unwrap();
    assert_eq!(of_one, [purged.clone(), updated, created]);
    let last = store.audit_trail(Some(first.id()), 1).await.unwrap();
    assert_eq!(last, [purged]);
    // The trail outlives the token, and the store.
    let again = place.open().await;
    assert_eq!(again.audit_trail(None, 10).await.unwrap(), all);
}

pub(crate) async fn a_refused_change_leaves_no_event(place: Place) {
    let store = place.open().await.with_audit_trail();
    let record = minted().with_name("name");
    let unique = |record: &TokenRecord| write(record).with_unique_name(true);
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
    // And where the event cannot be kept, the change is not made.
    place
        .run("ALTER TABLE service_token_events RENAME TO gone")
        .await;
    store
        .update(&write(&record.clone().with_name("renamed")))
        .await
        .unwrap_err();
    store.insert(&write(&minted())).await.unwrap_err();
    store.delete(&write(&record)).await.unwrap_err();
    let stored = store.get(record.id()).await.unwrap().unwrap();
    assert_eq!((stored.name(), stored.revision()), ("name", 0));
    let pool = place.pool(1).await;
    assert_eq!(pool.number("SELECT COUNT(*) FROM service_tokens").await, 1);
}

pub(crate) async fn without_a_trail_nothing_is_kept(place: Place) {
    let store = place.open().await;
    store.insert(&write(&minted())).await.unwrap();
    assert!(store.audit_trail(None, 10).await.unwrap().is_empty());
}
