//! What the endpoints show of a token whose store displays an id of its own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use tower_service_token::audit::AuditAction;
use tower_service_token::store::TokenRecord;
use tower_service_token::token::DisplayId;
use tower_service_token::{MemoryStore, ServiceTokens};

use crate::endpoints::server::{FORM, Server, form, insert};

const UUID: &str = "0193b3a4-9c1e-7b52-8f0d-2f8f6a1c9e77";

fn displayed(record: TokenRecord, id: &str) -> TokenRecord {
    record.with_display_id(DisplayId::new(id).unwrap())
}

#[tokio::test]
async fn verify_sends_the_displayed_id() {
    for (id, header) in [(UUID, UUID), ("tenant,7:100%", "tenant%2C7:100%25")] {
        let store = MemoryStore::new();
        let token = insert(&store, |record| displayed(record, id));
        let server = Server::with_store(store).await;
        let answer = server.verify("", &token).await;
        assert_eq!(answer.header("x-service-token-id"), header);
        let answer = server.verify("?role=admin", &token).await;
        answer.assert_problem(403, "insufficient_scope");
        assert_eq!(answer.json()["token_id"], id);
    }
}

#[tokio::test]
async fn introspection_shows_the_displayed_id() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| displayed(record, UUID));
    let server = Server::with_store(store).await;
    let answer = server.introspect(&token).await.json();
    assert_eq!(
        (&answer["jti"], &answer["client_id"]),
        (&UUID.into(), &UUID.into())
    );
}

#[tokio::test]
async fn basic_accepts_the_displayed_id_and_the_token_id() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| {
        displayed(record, UUID).with_scopes(["introspect"])
    });
    let other = insert(&store, |record| displayed(record, "another"));
    let server = Server::with_store(store).await;
    let id = &token["svctok-".len()..][..10];
    for (user, password, status) in [
        (UUID, &token, 200),
        (id, &token, 200),
        ("another", &token, 401),
        (&UUID[1..], &token, 401),
        ("", &token, 401),
        (UUID, &other, 401),
    ] {
        let basic = STANDARD.encode(format!("{user}:{password}"));
        let request = Request::post("/introspect")
            .header("authorization", format!("Basic {basic}"))
            .header("content-type", FORM);
        let request = request.body(form(&[("token", &token)])).unwrap();
        assert_eq!(server.send(request).await.status, status, "{user}");
    }
}

/// Whoever reads it in a response or a log would revoke the other token.
#[tokio::test]
async fn the_id_of_another_token_is_not_displayed() {
    let store = MemoryStore::new();
    let id_of = |token: &str| token["svctok-".len()..][..10].to_owned();
    let other = id_of(&insert(&store, |record| record));
    let token = insert(&store, |record| {
        displayed(record, &other).with_scopes(["introspect"])
    });
    let own = id_of(&token);
    let server = Server::with_store(store).await;
    let answer = server.verify("", &token).await;
    assert_eq!(answer.header("x-service-token-id"), own);
    let answer = server.verify("?role=admin", &token).await;
    assert_eq!(answer.json()["token_id"], own);
    let answer = server.introspect(&token).await.json();
    assert_eq!(answer["jti"], own);
    for (user, status) in [(&own, 200), (&other, 401)] {
        let basic = STANDARD.encode(format!("{user}:{token}"));
        let request = Request::post("/introspect")
            .header("authorization", format!("Basic {basic}"))
            .header("content-type", FORM);
        let request = request.body(form(&[("token", &token)])).unwrap();
        assert_eq!(server.send(request).await.status, status, "{user}");
    }
    assert_eq!(server.revoke(&token).await.status, 200);
    let [event] = &server.events.of(AuditAction::Revoked)[..] else {
        panic!("one event");
    };
    assert_eq!(event.actor(), format!("token:{own}"));
    assert_eq!(event.display_id().to_string(), own);
}

#[test]
fn an_audit_event_does_not_display_the_id_of_another_token() {
    use std::time::SystemTime;
    use tower_service_token::audit::AuditEvent;
    use tower_service_token::token::TokenId;

    let id = TokenId::derive("key-1");
    let event = AuditEvent::new(SystemTime::now(), "operator:ci", AuditAction::Revoked, id);
    let key = DisplayId::new("key-1").unwrap();
    for (displayed, expected) in [
        (DisplayId::from(TokenId::derive("key-2")), id.into()),
        (DisplayId::from(id), id.into()),
        (key.clone(), key),
    ] {
        let event = event.clone().with_display_id(displayed);
        assert_eq!(*event.display_id(), expected);
    }
}

#[tokio::test]
async fn revocation_by_the_holder_is_audited_with_the_displayed_id() {
    let store = MemoryStore::new();
    let token = insert(&store, |record| displayed(record, UUID));
    let server = Server::with_store(store).await;
    assert_eq!(server.revoke(&token).await.status, 200);
    let [event] = &server.events.of(AuditAction::Revoked)[..] else {
        panic!("one event");
    };
    assert_eq!(event.actor(), format!("token:{UUID}"));
    assert_eq!(event.display_id().to_string(), UUID);
    assert_eq!(event.token_id().to_string(), token["svctok-".len()..][..10]);
}

/// A displayed id need not be unique, so it must not decide whose idempotency key it is.
#[tokio::test]
async fn holders_with_one_displayed_id_do_not_share_idempotency_keys() {
    use tower_service_token::clock::SystemClock;
    use tower_service_token::lifecycle::NewToken;
    use tower_service_token::store::{Cached, Credential, verdict};
    use tower_service_token::token::PresentedToken;
    use tower_service_token::{Principal, TokenStore};

    let store = MemoryStore::new();
    let holder = |store: &MemoryStore| -> Principal {
        let token = insert(store, |record| {
            displayed(record, UUID).with_scopes(["service-tokens:admin"])
        });
        let credential = Credential::new(PresentedToken::new(&token).unwrap());
        let Cached::Found(record) = store.find_cached(&credential) else {
            panic!("a store in memory");
        };
        verdict(Some(record), &credential, &SystemClock).unwrap()
    };
    let (one, other) = (holder(&store), holder(&store));
    let tokens = ServiceTokens::new(store);
    let new = || NewToken::new("ci").with_idempotency_key("a-key");
    let first = tokens.clone().acting_for(one).create(new()).await.unwrap();
    let second = tokens.acting_for(other).create(new()).await.unwrap();
    assert_ne!(first.record().id(), second.record().id());
    for issued in [first, second] {
        let by = issued.record().created_by().map(str::to_owned);
        assert_eq!(by, Some(format!("token:{UUID}")));
    }
}
