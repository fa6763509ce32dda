//! Tickets for streams in a database.

use tower_service_token::digest::TokenDigest;
use tower_service_token::store::StoreErrorKind;
use tower_service_token::streams::{
    InsertTicketError, RightsDigest, StoredTicket, TicketLimits, TicketStore,
};

use crate::database::{TestDatabase, at, id};

fn ticket(number: u32, token: i64, expires_at: u64) -> StoredTicket {
    StoredTicket {
        digest: TokenDigest::of(&format!("ticket {number}")),
        token_id: id(token),
        token_digest: TokenDigest::of("token"),
        owner: None,
        rights: RightsDigest::from_bytes([7; 32]),
        expires_at: at(expires_at),
    }
}

pub(crate) async fn a_ticket_of_another_node_is_taken_once(database: TestDatabase) {
    let one = database.open().await.ticket_store().await;
    let other = database.open().await.ticket_store().await;
    for number in 0..20 {
        let ticket = ticket(number, 1, 60_000);
        one.insert(&ticket, at(1)).await.unwrap();
        let calls = (0..8).map(|place| {
            let (store, digest) = ([&one, &other][place % 2].clone(), ticket.digest);
            tokio::spawn(async move { store.take(&digest).await })
        });
        let mut taken = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            taken.extend(call.await.unwrap().unwrap());
        }
        assert_eq!(taken.len(), 1);
        let taken = &taken[0];
        assert_eq!(taken.digest, ticket.digest);
        assert_eq!(taken.token_id, ticket.token_id);
        assert_eq!(taken.token_digest, ticket.token_digest);
        assert_eq!(taken.owner, ticket.owner);
        assert_eq!(taken.rights, ticket.rights);
        assert_eq!(taken.expires_at, ticket.expires_at);
        assert!(one.take(&ticket.digest).await.unwrap().is_none());
    }
    let unknown = TokenDigest::of("another");
    assert!(other.take(&unknown).await.unwrap().is_none());
}

pub(crate) async fn unused_tickets_are_limited_over_all_nodes(database: TestDatabase) {
    let limits = TicketLimits::new().with_per_token(2).with_total(3);
    let one = database.open().await.ticket_store_with(limits).await;
    let other = database.open().await.ticket_store_with(limits).await;
    one.insert(&ticket(1, 1, 60_000), at(1)).await.unwrap();
    other.insert(&ticket(2, 1, 60_000), at(1)).await.unwrap();
    for store in [&one, &other] {
        let error = store
            .insert(&ticket(3, 1, 60_000), at(1))
            .await
            .unwrap_err();
        assert!(
            matches!(error, InsertTicketError::TooManyPerToken),
            "{error}"
        );
    }
    other.insert(&ticket(4, 2, 60_000), at(1)).await.unwrap();
    let error = one.insert(&ticket(5, 3, 60_000), at(1)).await.unwrap_err();
    assert!(
        matches!(error, InsertTicketError::TooManyInTotal),
        "{error}"
    );
    one.take(&ticket(2, 1, 60_000).digest)
        .await
        .unwrap()
        .unwrap();
    other.insert(&ticket(6, 1, 60_000), at(1)).await.unwrap();
    // Expired tickets do not count.
    one.insert(&ticket(7, 3, 120_000), at(59_999))
        .await
        .unwrap_err();
    one.insert(&ticket(8, 3, 120_000), at(60_000))
        .await
        .unwrap();
}

pub(crate) async fn unused_tickets_of_an_owner_are_limited_over_all_nodes(database: TestDatabase) {
    let limits = TicketLimits::new().with_per_owner(3).with_total(100);
    let one = database.open().await.ticket_store_with(limits).await;
    let other = database.open().await.ticket_store_with(limits).await;
    let owned = |number: u32, owner: &str| StoredTicket {
        owner: Some(owner.to_owned()),
        ..ticket(number, number.into(), 60_000)
    };
    for number in 1..=3 {
        one.insert(&owned(number, "many"), at(1)).await.unwrap();
    }
    for store in [&one, &other] {
        let error = store.insert(&owned(4, "many"), at(1)).await.unwrap_err();
        assert!(
            matches!(error, InsertTicketError::TooManyPerOwner),
            "{error}"
        );
    }
    // Other tenants are not affected.
    for number in 5..=7 {
        other.insert(&owned(number, "few"), at(1)).await.unwrap();
    }
    for number in 8..=20 {
        let without_owner = ticket(number, number.into(), 60_000);
        other.insert(&without_owner, at(1)).await.unwrap();
    }
    // Used and expired tickets make room.
    let taken = other.take(&owned(2, "many").digest).await.unwrap();
    assert_eq!(taken.unwrap().owner.as_deref(), Some("many"));
    one.insert(&owned(4, "many"), at(1)).await.unwrap();
    one.insert(&owned(21, "many"), at(1)).await.unwrap_err();
    one.insert(&owned(21, "many"), at(60_000)).await.unwrap();
}

/// The table of an earlier version has no owner, and stays as it is.
pub(crate) async fn ignores_the_ticket_table_of_earlier_versions(database: TestDatabase) {
    let store = database.open().await;
    let bytes = if database.is_postgres() {
        "BYTEA"
    } else {
        "BLOB"
    };
    let former = format!(
        "CREATE TABLE service_token_tickets (digest {bytes} NOT NULL PRIMARY KEY, \
         token_id BIGINT NOT NULL, token_digest {bytes} NOT NULL, rights {bytes} NOT NULL, \
         expires_at BIGINT NOT NULL)"
    );
    database.pool(1).await.run(&former).await;
    let tickets = store.ticket_store().await;
    let ticket = ticket(1, 1, 60_000);
    tickets.insert(&ticket, at(1)).await.unwrap();
    assert!(tickets.take(&ticket.digest).await.unwrap().is_some());
}

pub(crate) async fn expired_tickets_are_deleted(database: TestDatabase) {
    let store = database.open().await.ticket_store().await;
    for number in 0..10 {
        store
            .insert(&ticket(number, 1, 30_000), at(1))
            .await
            .unwrap();
    }
    store
        .insert(&ticket(10, 1, 60_000), at(30_000))
        .await
        .unwrap();
    let pool = database.pool(1).await;
    let rows = "SELECT COUNT(*) FROM service_token_stream_tickets";
    assert_eq!(pool.number(rows).await, 1);
}

/// More often than the interval of the deletions, and more than one deletion takes.
pub(crate) async fn expired_tickets_are_deleted_while_others_are_issued(database: TestDatabase) {
    let limits = TicketLimits::new().with_per_token(5_000);
    let store = database.open().await.ticket_store_with(limits).await;
    for number in 0..1_500 {
        store
            .insert(&ticket(number, 1, 30_000), at(1))
            .await
            .unwrap();
    }
    for step in 1..10 {
        let now = u64::from(step) * 5_000;
        store
            .insert(&ticket(1_500 + step, 1, now + 5_000), at(now))
            .await
            .unwrap();
    }
    let pool = database.pool(1).await;
    let rows = "SELECT COUNT(*) FROM service_token_stream_tickets";
    assert!(pool.number(rows).await <= 3);
}

pub(crate) async fn stores_the_digest_and_not_the_ticket(database: TestDatabase) {
    let store = database.open().await.ticket_store().await;
    let ticket = ticket(1, 1, 60_000);
    store.insert(&ticket, at(1)).await.unwrap();
    let pool = database.pool(1).await;
    let matches = if database.is_postgres() {
        "SELECT COUNT(*) FROM service_token_stream_tickets WHERE digest = sha256('ticket 1') \
         AND service_token_stream_tickets::TEXT NOT LIKE '%' || encode('ticket 1', 'hex') || '%'"
    } else {
        "SELECT COUNT(*) FROM service_token_stream_tickets \
         WHERE length(digest) = 32 AND length(token_digest) = 32 AND length(rights) = 32"
    };
    assert_eq!(pool.number(matches).await, 1);
}

pub(crate) async fn concurrent_nodes_create_the_table_once(database: TestDatabase) {
    let mut opened = Vec::new();
    for _ in 0..4 {
        opened.push(database.open().await);
    }
    let opened = opened.into_iter().map(|store| {
        tokio::spawn(async move {
            let tickets = store.ticket_store().await;
            (store, tickets)
        })
    });
    for (number, opened) in (0..).zip(opened.collect::<Vec<_>>()) {
        let (_store, tickets) = opened.await.unwrap();
        tickets
            .insert(&ticket(number, 1, 60_000), at(1))
            .await
            .unwrap();
    }
}

pub(crate) async fn closed_and_damaged_stores_return_errors(database: TestDatabase) {
    let store = database.open().await;
    let tickets = store.ticket_store().await;
    tickets.insert(&ticket(1, 1, 60_000), at(1)).await.unwrap();
    let damage = "UPDATE service_token_stream_tickets SET token_id = -1";
    database.pool(1).await.run(damage).await;
    let error = tickets.take(&ticket(1, 1, 0).digest).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    store.close().await;
    let inserted = tickets.insert(&ticket(2, 1, 60_000), at(1)).await;
    assert!(
        matches!(inserted, Err(InsertTicketError::Store(_))),
        "{inserted:?}"
    );
    tickets.take(&ticket(2, 1, 0).digest).await.unwrap_err();
}
