//! Holders whose token was transferred since the application read it.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tower_service_token::ServiceTokens;
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{LifecycleError, NewToken, TokenUpdate};
use tower_service_token::registry::{
    ListRequest, RegistryError, TokenFilter, TokenPage, TokenRegistry, Write,
};
use tower_service_token::store::{Credential, StoreError, TokenRecord, TokenStore};
use tower_service_token::token::TokenId;

use super::{DAY, assert_not_found, clock, create, manage, names, principal, problems};
use crate::operations::Store;

fn owned(name: &str, owner: Option<&str>) -> NewToken {
    let new = NewToken::new(name).with_scopes(["projects:read"]);
    owner.into_iter().fold(new, NewToken::with_owner)
}

/// Manages the tokens as an operator, beside an administrator that is not transferred.
async fn manage_with_admin(store: &Store) -> ServiceTokens {
    let operator = manage(store);
    let admin = NewToken::new("admin").with_scopes(["service-tokens:admin"]);
    create(&operator, admin).await;
    operator
}

async fn transfer(tokens: &ServiceTokens, id: TokenId, owner: &str) {
    let update = TokenUpdate::new().with_owner(owner);
    tokens.update(id, update).await.unwrap();
}

/// Returns the tokens for a holder that was transferred from `former` to `user:1`, with a repeatable
/// creation and rotation from before.
async fn stale_holder(
    store: &Store,
    operator: &ServiceTokens,
    former: Option<&str>,
) -> (ServiceTokens, TokenId) {
    let new = owned("holder", former).with_scopes(["**"]);
    let issued = operator.create(new).await.unwrap();
    let holder = principal(store, &issued).await;
    assert_eq!(holder.owner(), former);
    let holder = operator.clone().acting_for(holder);
    let made = create(&holder, NewToken::new("made").with_idempotency_key("key")).await;
    let _ = holder.rotate_once(made, DAY, "rotation").await.unwrap();
    transfer(operator, issued.record().id(), "user:1").await;
    (holder, made)
}

pub async fn holders_read_and_change_only_tokens_of_their_stored_owner(store: Store) {
    let operator = manage_with_admin(&store).await;
    let own = create(&operator, owned("own", Some("user:1"))).await;
    let foreign = create(&operator, owned("foreign", Some("user:2"))).await;
    let unowned = create(&operator, owned("unowned", None)).await;
    let mut number_of_own = 1;
    for former in [None, Some("user:2"), Some("user:3")] {
        let (holder, made) = stale_holder(&store, &operator, former).await;
        number_of_own += 1;
        let others = [foreign, unowned, made];
        for id in others {
            assert_not_found(&holder, id).await;
        }
        let all = TokenFilter::new;
        let listed = names(&holder, all()).await;
        assert_eq!(listed.len(), number_of_own, "{former:?}: {listed:?}");
        assert!(listed.iter().all(|it| it == "own" || it == "holder"));
        let count = holder.count(all()).await.unwrap();
        assert_eq!(count, number_of_own as u64, "{former:?}");
        for owner in ["user:2", "user:3"] {
            let filter = all().with_owner(owner);
            assert_eq!(holder.count(filter.clone()).await.unwrap(), 0);
            assert!(names(&holder, filter.clone()).await.is_empty());
            assert_eq!(holder.preview_revocation(filter).await.unwrap().count, 0);
        }
        let preview = holder.preview_revocation(all()).await.unwrap();
        assert_eq!(preview.count, number_of_own, "{former:?}");

        // The records of the former owner are not repeated.
        let again = NewToken::new("made").with_idempotency_key("key");
        let again = holder.create(again).await;
        let is_unknown = matches!(again, Err(LifecycleError::IdempotencyKeyReused));
        assert!(is_unknown, "{former:?}: {again:?}");
        let again = holder.rotate_once(made, DAY, "rotation").await;
        let is_unknown = matches!(again, Err(LifecycleError::NotFound));
        assert!(is_unknown, "{former:?}: {again:?}");
        let back = holder.create(owned("x", Some("user:2"))).await;
        assert_eq!(problems(back)[0].pointer, "/owner");
        let back = TokenUpdate::new().with_owner("user:2");
        assert_eq!(
            problems(holder.update(own, back).await)[0].pointer,
            "/owner"
        );

        assert_eq!(holder.get(own).await.unwrap().id(), own);
        let update = TokenUpdate::new().with_description(format!("{former:?}"));
        holder.update(own, update).await.unwrap();
        let changed = [foreign, unowned];
        for id in changed {
            assert_eq!(operator.get(id).await.unwrap().revision(), 1);
        }
    }
}

pub async fn holders_end_only_tokens_of_their_stored_owner(store: Store) {
    let operator = manage_with_admin(&store).await;
    for former in [None, Some("user:2")] {
        let (holder, made) = stale_holder(&store, &operator, former).await;
        let own = create(&operator, owned("own", Some("user:1"))).await;
        let foreign = create(&operator, owned("foreign", Some("user:2"))).await;
        let unowned = create(&operator, owned("unowned", None)).await;
        let others = [foreign, unowned, made];

        let everything = TokenFilter::new().with_scope("projects:read");
        let revoked = holder.revoke_where(everything, 1).await.unwrap();
        assert_eq!((revoked.ids, revoked.remaining), (vec![own], 0));
        for id in others {
            operator.revoke(id).await.unwrap();
            // Also once they are revoked.
            let again = holder.revoke(id).await;
            assert!(matches!(again, Err(LifecycleError::NotFound)), "{again:?}");
        }
        // They end neither the call nor the others' records.
        assert_eq!(holder.purge(Duration::ZERO).await.unwrap(), [own]);
        for id in others {
            operator.get(id).await.unwrap();
        }
        assert_eq!(operator.purge(Duration::ZERO).await.unwrap().len(), 3);
    }
}

/// A registry in which a token is transferred to `user:1` just after the next listing.
struct TransfersAfterListing {
    store: Store,
    transferred: Mutex<Option<TokenId>>,
}

#[async_trait]
impl TokenStore for TransfersAfterListing {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.store.find(credential).await
    }
}

#[async_trait]
impl TokenRegistry for TransfersAfterListing {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        self.store.insert(write).await
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        self.store.get(id).await
    }

    async fn find_by_digest(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.store.find_by_digest(digest).await
    }

    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        let page = self.store.list(request).await;
        let transferred = self.transferred.lock().unwrap().take();
        if let Some(id) = transferred {
            transfer(&manage(&self.store), id, "user:1").await;
        }
        page
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        self.store.update(write).await
    }

    async fn count(&self, filter: &TokenFilter, now: SystemTime) -> Result<u64, StoreError> {
        self.store.count(filter, now).await
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        self.store.delete(write).await
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        self.store.touch(uses).await
    }
}

pub async fn a_transfer_during_a_bulk_call_leaves_the_tokens_of_the_former_owner(store: Store) {
    let operator = manage_with_admin(&store).await;
    let revoked = create(&operator, owned("revoked", Some("user:2"))).await;
    operator.revoke(revoked).await.unwrap();
    let active = create(&operator, owned("active", Some("user:2"))).await;
    for is_purge in [true, false] {
        let new = owned("holder", Some("user:2")).with_scopes(["**"]);
        let issued = operator.create(new).await.unwrap();
        let registry = TransfersAfterListing {
            store: store.clone(),
            transferred: Mutex::new(Some(issued.record().id())),
        };
        let tokens = ServiceTokens::new(registry).with_clock(clock());
        let holder = tokens.acting_for(principal(&store, &issued).await);
        let ended = if is_purge {
            holder.purge(Duration::ZERO).await.unwrap()
        } else {
            let active = TokenFilter::new().with_name("active");
            holder.revoke_where(active, 1).await.unwrap().ids
        };
        assert_eq!(ended, []);
        let moved = operator.get(issued.record().id()).await.unwrap();
        assert_eq!(moved.owner(), Some("user:1"));
    }
    operator.get(revoked).await.unwrap();
    assert_eq!(operator.get(active).await.unwrap().revision(), 1);
}
