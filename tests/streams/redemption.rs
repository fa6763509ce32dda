//! The token behind a ticket is looked up again when the ticket is used.

use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use tokio::time::timeout;
use tower_service_token::lifecycle::{NewToken, TokenUpdate};
use tower_service_token::reject::Rejection;
use tower_service_token::store::{CachedStore, ChainStore, Credential, StoreError, TokenRecord};
use tower_service_token::streams::{PrincipalEnd, PrincipalWatcher, TicketLayer};
use tower_service_token::{MemoryStore, ServiceTokenLayer, TokenStore};

use super::fixture::{Fixture, WithoutFeed, code, get, open, principal_of};

/// Returns the code of the response to a ticket whose token changed after the ticket was issued.
async fn code_after(change: impl AsyncFnOnce(&Fixture)) -> String {
    let new = NewToken::new("dashboard").with_scopes(["jobs:read", "jobs:write"]);
    let expiry = "2026-11-18T11:07:00Z".parse().unwrap();
    let fixture = Fixture::with(new.with_expiry(expiry)).await;
    let ticket = fixture.ticket().await;
    change(&fixture).await;
    let response = fixture.open_with(&ticket).await;
    if response.status() == StatusCode::OK {
        return "accepted".to_owned();
    }
    code(&response)
}

fn update(update: TokenUpdate) -> impl AsyncFnOnce(&Fixture) {
    async move |fixture: &Fixture| {
        let id = fixture.token.record().id();
        fixture.tokens().update(id, update).await.unwrap();
    }
}

#[tokio::test]
async fn tickets_of_unchanged_and_renamed_tokens_are_accepted() {
    assert_eq!(code_after(async |_| ()).await, "accepted");
    let renamed = update(TokenUpdate::new().with_name("renamed"));
    assert_eq!(code_after(renamed).await, "accepted");
}

#[tokio::test]
async fn tickets_of_tokens_that_are_no_longer_accepted_are_rejected() {
    let id = |fixture: &Fixture| fixture.token.record().id();
    let revoked = code_after(async |fixture| {
        fixture.tokens().revoke(id(fixture)).await.unwrap();
    });
    assert_eq!(revoked.await, "token_revoked");
    let disabled = code_after(async |fixture| {
        fixture.tokens().disable(id(fixture)).await.unwrap();
    });
    assert_eq!(disabled.await, "token_disabled");
    let expired = code_after(async |fixture| fixture.clock.advance(Duration::from_secs(20)));
    assert_eq!(expired.await, "token_expired");
    let deleted = code_after(async |fixture| {
        fixture.tokens().revoke(id(fixture)).await.unwrap();
        let deleted = fixture.tokens().purge(Duration::ZERO).await.unwrap();
        assert_eq!(deleted, [id(fixture)]);
    });
    assert_eq!(deleted.await, "invalid_token");
}

#[tokio::test]
async fn tickets_of_tokens_with_other_rights_are_rejected() {
    for update_to in [
        TokenUpdate::new().with_scopes(["jobs:read"]),
        TokenUpdate::new().with_scopes(["jobs:read", "jobs:write", "jobs:delete"]),
        TokenUpdate::new().with_roles(["admin"]),
        TokenUpdate::new().with_subject("someone"),
        TokenUpdate::new().with_label("tenant", "other"),
    ] {
        assert_eq!(code_after(update(update_to)).await, "invalid_ticket");
    }
}

/// The owner is among the rights. Data is not, so a tenant has to be the owner, too.
#[tokio::test]
async fn tickets_of_tokens_with_another_owner_are_rejected_and_with_other_data_accepted() {
    let fixture = Fixture::new().await;
    let record = || fixture.token.record().clone();
    for (changed, expected) in [
        (record().with_data(7_u8), None),
        (record().with_owner("tenant"), Some("invalid_ticket")),
    ] {
        let ticket = fixture.ticket().await;
        let store = MemoryStore::new();
        store.insert(changed).unwrap();
        let layer = ServiceTokenLayer::new(store.clone()).with_clock(fixture.clock.clone());
        let layer = TicketLayer::new(layer, fixture.tickets.clone());
        let response = open(layer, get(&format!("/?ticket={ticket}"))).await;
        let is_accepted = response.status() == StatusCode::OK;
        let rejected = (!is_accepted).then(|| code(&response));
        assert_eq!(rejected.as_deref(), expected);
        let watcher = PrincipalWatcher::builder(store)
            .with_clock(fixture.clock.clone())
            .build();
        let watch = watcher.watch(&fixture.principal().await).unwrap();
        let end = timeout(Duration::from_millis(200), watch.ended()).await;
        let ended = expected.map(|_| PrincipalEnd::RightsChanged);
        assert_eq!(end.ok(), ended);
    }
}

#[tokio::test]
async fn tickets_of_a_replaced_secret_are_accepted_until_the_grace_period_ends() {
    let rotated = |grace, wait| {
        async move |fixture: &Fixture| {
            let id = fixture.token.record().id();
            let grace = Duration::from_secs(grace);
            let _ = fixture.tokens().rotate(id, grace).await.unwrap();
            fixture.clock.advance(Duration::from_secs(wait));
        }
    };
    assert_eq!(code_after(rotated(10, 9)).await, "accepted");
    assert_eq!(code_after(rotated(10, 10)).await, "token_expired");
    // As for the token itself: the store no longer has its digest.
    assert_eq!(code_after(rotated(0, 0)).await, "invalid_token");
}

#[tokio::test]
async fn rejections_of_a_known_token_name_its_id() {
    let fixture = Fixture::new().await;
    let ticket = fixture.ticket().await;
    let id = fixture.token.record().id();
    fixture.tokens().revoke(id).await.unwrap();
    let response = fixture.open_with(&ticket).await;
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.token_id(), Some(id));
    // The ticket is used all the same.
    assert_eq!(code(&fixture.open_with(&ticket).await), "invalid_ticket");
}

#[tokio::test]
async fn a_cache_without_change_feed_does_not_keep_a_ticket_valid() {
    let fixture = Fixture::new().await;
    let cached = CachedStore::new(WithoutFeed::new(&fixture.store));
    let layer = ServiceTokenLayer::new(cached.clone()).with_clock(fixture.clock.clone());
    let token = fixture.token.expose_secret();
    principal_of(&cached, token, &fixture.clock).await;
    let ticket = fixture.ticket().await;
    let id = fixture.token.record().id();
    fixture.tokens().revoke(id).await.unwrap();
    // The cache still accepts the token.
    principal_of(&cached, token, &fixture.clock).await;
    let layer = TicketLayer::new(layer, fixture.tickets.clone());
    let response = open(layer, get(&format!("/?ticket={ticket}"))).await;
    assert_eq!(code(&response), "token_revoked");
}

/// Needs the token for a lookup, as a store that calls an authorization server does.
struct NeedsToken(MemoryStore);

#[async_trait]
impl TokenStore for NeedsToken {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.0.find(credential).await
    }
}

#[tokio::test]
async fn stores_that_need_the_token_reject_tickets_with_503() {
    let fixture = Fixture::new().await;
    for accepted in [false, true] {
        let first = NeedsToken(MemoryStore::new());
        let chain = if accepted {
            ChainStore::new(first).then(fixture.store.clone())
        } else {
            ChainStore::new(first)
        };
        let layer = ServiceTokenLayer::new(chain).with_clock(fixture.clock.clone());
        let layer = TicketLayer::new(layer, fixture.tickets.clone());
        let ticket = fixture.ticket().await;
        let response = open(layer, get(&format!("/?ticket={ticket}"))).await;
        if accepted {
            assert_eq!(response.status(), StatusCode::OK);
            continue;
        }
        assert_eq!(code(&response), "auth_unavailable");
        let rejection = response.extensions().get::<Rejection>().unwrap();
        let error = std::error::Error::source(rejection).unwrap();
        let cause = error
            .source()
            .map_or(error.to_string(), ToString::to_string);
        assert!(cause.contains("TokenStore::find_again"), "{cause}");
    }
}
