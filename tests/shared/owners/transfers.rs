//! Transfers of a token to another owner.

use std::time::Duration;

use tower_service_token::clock::Clock;
use tower_service_token::lifecycle::{IssuedToken, NewToken, TokenUpdate};
use tower_service_token::store::{Credential, verdict};
use tower_service_token::token::PresentedToken;

use super::{DAY, clock, manage, of};
use crate::operations::Store;

/// Returns the owner of the caller that presents this secret, if it is accepted.
async fn accepted(store: &Store, secret: &IssuedToken) -> Option<Option<String>> {
    let credential = Credential::new(PresentedToken::new(secret.expose_secret()).unwrap());
    let found = store.find_uncached(&credential).await.unwrap();
    let principal = verdict(found, &credential, &clock()).ok()?;
    Some(principal.owner().map(str::to_owned))
}

pub async fn a_transfer_ends_the_grace_period_and_removes_the_creator(store: Store) {
    let operator = manage(&store);
    let bob = of(&operator, "user:2");
    for (before, after) in [
        (Some("user:1"), Some("user:2")),
        (None, Some("user:2")),
        (Some("user:1"), None),
    ] {
        let creator = before.map_or(operator.clone(), |owner| of(&operator, owner));
        let first = creator.create(NewToken::new("ci")).await.unwrap();
        let id = first.record().id();
        let second = creator.rotate(id, DAY).await.unwrap();
        for secret in [&first, &second] {
            let owner = before.map(str::to_owned);
            assert_eq!(accepted(&store, secret).await, Some(owner));
        }
        assert!(second.record().created_by().is_some());

        let transfer = TokenUpdate::new();
        let transfer = match after {
            Some(owner) => transfer.with_owner(owner),
            None => transfer.without_owner(),
        };
        let returned = operator.update(id, transfer).await.unwrap().record;
        let stored = operator.get(id).await.unwrap();
        for record in [returned, stored] {
            assert_eq!(record.owner(), after);
            assert_eq!((record.created_by(), record.grace_ends_at()), (None, None));
            assert_eq!(record.previous_digest(), None);
        }
        assert_eq!(accepted(&store, &first).await, None);
        let owner = after.map(str::to_owned);
        assert_eq!(accepted(&store, &second).await, Some(owner));

        if after == Some("user:2") {
            assert_eq!(bob.get(id).await.unwrap().created_by(), None);
            let _ = bob.rotate(id, Duration::ZERO).await.unwrap();
            assert_eq!(accepted(&store, &second).await, None);
        }
    }
}

pub async fn updates_without_a_transfer_keep_the_grace_period_and_the_creator(store: Store) {
    let operator = manage(&store);
    let alice = of(&operator, "user:1");
    let first = alice.create(NewToken::new("ci")).await.unwrap();
    let id = first.record().id();
    let _ = alice.rotate(id, DAY).await.unwrap();
    for update in [
        TokenUpdate::new().with_name("renamed"),
        TokenUpdate::new()
            .with_owner("user:1")
            .with_description("x"),
    ] {
        let record = operator.update(id, update).await.unwrap().record;
        assert_eq!(record.created_by(), Some("owner:user:1"));
        assert_eq!(record.grace_ends_at(), Some(clock().now() + DAY));
    }
    let owner = Some("user:1".to_owned());
    assert_eq!(accepted(&store, &first).await, Some(owner));
}
