use futures_util::future::join_all;

use super::records::{at, id};
use crate::digest::TokenDigest;
use crate::principal::RightsDigest;
use crate::ticket_store::{StoredTicket, TicketStore};

const CONCURRENT_CALLS: usize = 16;

fn ticket(number: i64) -> StoredTicket {
    let mut rights = [0xff; 32];
    rights[..8].copy_from_slice(&number.to_be_bytes());
    StoredTicket {
        digest: TokenDigest::of(&format!("ticket {number}")),
        token_id: id(number),
        token_digest: TokenDigest::of(&format!("token {number}")),
        // A ticket of a token without an owner, too.
        owner: (number % 2 == 0).then(|| format!("owner {number}")),
        rights: RightsDigest::from_bytes(rights),
        expires_at: at(number),
    }
}

async fn insert(store: &impl TicketStore, ticket: &StoredTicket) {
    let inserted = store.insert(ticket, at(0)).await;
    inserted.unwrap_or_else(|error| panic!("an insertion: {error}"));
}

async fn take(store: &impl TicketStore, digest: &TokenDigest) -> Option<StoredTicket> {
    let taken = store.take(digest).await;
    taken.unwrap_or_else(|error| panic!("a removal: {error}"))
}

pub(super) async fn a_ticket_is_taken_once(store: &impl TicketStore) {
    let ticket = ticket(30);
    let unknown = take(store, &ticket.digest).await;
    assert!(unknown.is_none(), "an unknown ticket is found");
    insert(store, &ticket).await;
    let taken = take(store, &ticket.digest).await;
    assert_same(&taken.expect("the ticket is not found"), &ticket);
    let again = take(store, &ticket.digest).await;
    assert!(again.is_none(), "a ticket is taken twice");
}

pub(super) async fn one_of_concurrent_calls_takes_a_ticket(store: &impl TicketStore) {
    let ticket = ticket(30);
    insert(store, &ticket).await;
    let calls = (0..CONCURRENT_CALLS).map(|_| take(store, &ticket.digest));
    let taken = join_all(calls).await.into_iter().flatten().count();
    assert_eq!(
        taken, 1,
        "concurrent calls take the same ticket, or none does"
    );
}

pub(super) async fn other_tickets_stay(store: &impl TicketStore) {
    let tickets: Vec<_> = (30..30 + 16).map(ticket).collect();
    for ticket in &tickets {
        insert(store, ticket).await;
    }
    for ticket in tickets.iter().rev() {
        let taken = take(store, &ticket.digest).await;
        assert_same(&taken.expect("a ticket is lost"), ticket);
    }
}

fn assert_same(taken: &StoredTicket, inserted: &StoredTicket) {
    assert!(
        taken.digest == inserted.digest
            && taken.token_id == inserted.token_id
            && taken.token_digest == inserted.token_digest
            && taken.owner == inserted.owner
            && taken.rights == inserted.rights
            && taken.expires_at == inserted.expires_at,
        "a field of a ticket is lost or changed"
    );
}
