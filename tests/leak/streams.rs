//! The output of the types for streams.

use super::public_types::Formatted;

#[cfg(feature = "tokio")]
pub(super) fn formatted_types() -> Vec<Formatted> {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::time::SystemTime;

    use http::{Request, Response};
    use tower::{Layer, service_fn};
    use tower_service_token::digest::TokenDigest;
    use tower_service_token::store::StoreError;
    use tower_service_token::streams::{
        InsertTicketError, MemoryTicketStore, PrincipalEnd, PrincipalWatcher, RightsDigest,
        StoredTicket, StreamLimits, TicketLayer, TicketLimits, Tickets, TooManyStreams,
    };
    use tower_service_token::{MemoryStore, ServiceTokenLayer};

    use super::public_types::{debug_text, error_text, principal};
    use super::{SECRET, minted_record, token_id};

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let store = MemoryStore::new();
    store.insert(minted_record()).expect("an empty store");
    let unused = Arc::new(MemoryTicketStore::new());
    let tickets = Tickets::new(Arc::clone(&unused));
    let ticket = runtime.block_on(tickets.issue(&principal()));
    let layer = TicketLayer::new(ServiceTokenLayer::new(store.clone()), tickets.clone());
    let inner = service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(())));
    let builder = PrincipalWatcher::builder(store.clone());
    let watcher = PrincipalWatcher::new(store);
    let stored = StoredTicket {
        digest: TokenDigest::of(SECRET),
        token_id: token_id(),
        token_digest: TokenDigest::of(SECRET),
        owner: Some("tenant".to_owned()),
        rights: RightsDigest::of(&principal()),
        expires_at: SystemTime::now(),
    };
    let error = InsertTicketError::from(StoreError::unavailable("connection refused"));
    vec![
        debug_text("Ticket", &ticket.expect("a ticket")),
        debug_text("Tickets", &tickets),
        debug_text("TicketsBuilder", &Tickets::builder(unused.clone())),
        debug_text("MemoryTicketStore", &unused),
        debug_text("TicketLayer", &layer),
        debug_text("TicketService", &layer.layer(inner)),
        debug_text("StoredTicket", &stored),
        debug_text("RightsDigest", &stored.rights),
        debug_text("TicketLimits", &TicketLimits::default()),
        debug_text("StreamLimits", &StreamLimits::default()),
        error_text("InsertTicketError", &error),
        error_text("TooManyStreams", &TooManyStreams::PerToken),
        debug_text("PrincipalWatcher", &watcher),
        debug_text("PrincipalWatcherBuilder", &builder),
        debug_text("PrincipalWatch", &watcher.watch(&principal())),
        debug_text("PrincipalEnd", &PrincipalEnd::Revoked),
    ]
}

#[cfg(not(feature = "tokio"))]
pub(super) fn formatted_types() -> Vec<Formatted> {
    [
        "Ticket",
        "Tickets",
        "TicketsBuilder",
        "MemoryTicketStore",
        "TicketLayer",
        "TicketService",
        "StoredTicket",
        "RightsDigest",
        "TicketLimits",
        "StreamLimits",
        "InsertTicketError",
        "TooManyStreams",
        "PrincipalWatcher",
        "PrincipalWatcherBuilder",
        "PrincipalWatch",
        "PrincipalEnd",
    ]
    .map(|name| (name, Vec::new()))
    .to_vec()
}
