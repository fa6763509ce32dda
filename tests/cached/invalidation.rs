use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tests::pause_point::PausePoint;
use tower_service_token::MemoryStore;
use tower_service_token::audit::{AuditAction, AuditEvent};
use tower_service_token::registry::{TokenRegistry, Write};
use tower_service_token::reject::RejectionReason;
use tower_service_token::store::{
    Cached, CachedStore, ChangeFeed, ChangeListener, Credential, StoreError, TokenChange,
    TokenRecord, TokenState, TokenStore,
};
use tower_service_token::token::{MintedToken, PresentedToken};

use crate::node::{
    MILLISECOND, Node, OK, SECOND, UNAUTHORIZED, UNAVAILABLE, clock, digest, just_before, mint,
    start, stored,
};
use crate::remote_store::RemoteStore;

const ROUNDS: usize = 1000;

/// Where a lookup is when its token is revoked.
type Checkpoint = fn(&RemoteStore) -> &PausePoint;

async fn a_revoke_at(checkpoint: Checkpoint) {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let node = Node::new(&remote, &clock());
    for round in 0..ROUNDS {
        let token = stored(&tokens);
        let before = remote.lookups();
        checkpoint(&remote).close();
        let request = node.spawn(&token);
        checkpoint(&remote).wait_until_reached().await;
        tokens.revoke(token.id()).unwrap();
        checkpoint(&remote).reopen();
        checkpoint(&remote).resume_one();
        assert_eq!(request.await.unwrap(), UNAUTHORIZED, "round {round}");
        assert_eq!(remote.lookups() - before, 2, "round {round}");
        let reason = node.reason(&token).await;
        assert_eq!(reason, Some(RejectionReason::RevokedToken));
        assert_eq!(remote.lookups() - before, 2, "the second result was cached");
    }
    assert_eq!(node.cached.occupancy().in_flight, 0);
}

#[tokio::test]
async fn revocation_before_lookup_reads_rejects_waiting_request() {
    a_revoke_at(RemoteStore::before_reading).await;
}

#[tokio::test]
async fn revocation_after_lookup_read_rejects_waiting_request() {
    a_revoke_at(RemoteStore::after_reading).await;
}

/// In each round the order may differ.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rejects_every_request_started_after_revocation() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let node = Node::new(&remote, &clock());
    let (mut passed, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let token = Arc::new(stored(&tokens));
        let racing: Vec<_> = (0..3).map(|_| node.spawn(&token)).collect();
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        let revoke = tokio::task::spawn_blocking({
            let (tokens, id) = (tokens.clone(), token.id());
            move || tokens.revoke(id).unwrap()
        });
        revoke.await.unwrap();
        assert_eq!(node.status(&token).await, UNAUTHORIZED, "round {round}");
        for request in racing {
            match request.await.unwrap() {
                OK => passed += 1,
                UNAUTHORIZED => refused += 1,
                status => panic!("{status} in round {round}"),
            }
        }
        assert_eq!(node.status(&token).await, UNAUTHORIZED, "round {round}");
    }
    println!("{passed} passed before the revoke, {refused} were refused");
}

#[tokio::test]
async fn change_of_everything_clears_cache_and_restarts_running_lookups() {
    let tokens = MemoryStore::new();
    let feed = ChangeFeed::default();
    let remote = RemoteStore::without_feed(&tokens);
    let cached = CachedStore::new(WithFeed(remote.clone(), feed.clone()));
    let known: Vec<_> = (0..100).map(|_| stored(&tokens)).collect();
    let unknown = mint();
    for token in known.iter().chain([&unknown]) {
        find(&cached, token).await.unwrap();
    }
    let occupancy = cached.occupancy();
    assert_eq!((occupancy.positive, occupancy.negative), (100, 1));

    let running = stored(&tokens);
    remote.after_reading().close();
    let lookup = tokio::spawn({
        let (cached, token) = (cached.clone(), running.expose_secret().to_owned());
        async move { find_text(&cached, &token).await }
    });
    remote.after_reading().wait_until_reached().await;
    for token in known.iter().chain([&running]) {
        tokens.revoke(token.id()).unwrap();
    }
    feed.publish(&TokenChange::Everything);
    let occupancy = cached.occupancy();
    assert_eq!((occupancy.positive, occupancy.negative), (0, 0));
    remote.after_reading().reopen();
    remote.after_reading().resume_one();

    let found = lookup.await.unwrap().unwrap().unwrap();
    assert_eq!(found.state(), TokenState::Revoked);
    for token in &known {
        let found = find(&cached, token).await.unwrap().unwrap();
        assert_eq!(found.state(), TokenState::Revoked);
    }
}

/// A store whose test determines each result and notification.
struct WithFeed(RemoteStore, ChangeFeed);

#[async_trait]
impl TokenStore for WithFeed {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.0.find(credential).await
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.1.subscribe(listener);
    }
}

async fn find<S: TokenStore>(
    cached: &CachedStore<S>,
    token: &MintedToken,
) -> Result<Option<TokenRecord>, StoreError> {
    find_text(cached, token.expose_secret()).await
}

async fn find_text<S: TokenStore>(
    cached: &CachedStore<S>,
    token: &str,
) -> Result<Option<TokenRecord>, StoreError> {
    let token = PresentedToken::new(token).unwrap();
    cached.find(&Credential::new(token)).await
}

#[tokio::test]
async fn returns_unavailable_if_token_changes_during_every_attempt() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let node = Node::new(&remote, &clock());
    let token = stored(&tokens);
    remote.after_reading().close();
    let request = node.spawn(&token);
    for _ in 0..8 {
        remote.after_reading().wait_until_reached().await;
        let record = tokens.get(token.id()).unwrap();
        tokens.replace(record).unwrap();
        remote.after_reading().resume_one();
    }
    assert_eq!(request.await.unwrap(), UNAVAILABLE);
    assert_eq!(remote.lookups(), 8);
    remote.after_reading().reopen();
    assert_eq!(node.status(&token).await, OK);
}

#[tokio::test]
async fn without_feed_remote_revocation_applies_after_ttl() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let clock = clock();
    let (a, b) = (Node::new(&remote, &clock), Node::new(&remote, &clock));
    let token = stored(&tokens);
    assert_eq!((a.status(&token).await, b.status(&token).await), (OK, OK));

    // Node A makes the change through its own cache and sees it at once.
    revoke(&a.cached, &token).await;
    assert_eq!(a.status(&token).await, UNAUTHORIZED);
    clock.advance(just_before(10 * SECOND));
    assert_eq!(b.status(&token).await, OK);
    clock.advance(MILLISECOND);
    assert_eq!(b.status(&token).await, UNAUTHORIZED);
    assert_eq!(remote.lookups(), 4);
}

#[tokio::test]
async fn with_feed_remote_revocation_applies_at_once() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let clock = clock();
    let (a, b) = (Node::new(&remote, &clock), Node::new(&remote, &clock));
    let token = stored(&tokens);
    assert_eq!((a.status(&token).await, b.status(&token).await), (OK, OK));
    revoke(&a.cached, &token).await;
    assert_eq!(a.status(&token).await, UNAUTHORIZED);
    assert_eq!(b.status(&token).await, UNAUTHORIZED);
}

async fn revoke(registry: &impl TokenRegistry, token: &MintedToken) {
    let record = registry.get(token.id()).await.unwrap().unwrap();
    let event = AuditEvent::new(start(), "operator", AuditAction::Revoked, token.id());
    let write = Write::new(record.with_state(TokenState::Revoked), event);
    registry.update(&write).await.unwrap();
}

#[tokio::test]
async fn role_change_applies_within_ttl_and_at_once_with_feed() {
    for has_feed in [false, true] {
        let tokens = MemoryStore::new();
        let remote = if has_feed {
            RemoteStore::new(&tokens)
        } else {
            RemoteStore::without_feed(&tokens)
        };
        let clock = clock();
        let node = Node::new(&remote, &clock);
        let token = mint();
        let record = TokenRecord::from(&token).with_roles(["admin"]);
        tokens.insert(record.clone()).unwrap();
        assert!(has_role(&node, &token, "admin").await);
        tokens.replace(record.with_roles(["reader"])).unwrap();
        if !has_feed {
            assert!(has_role(&node, &token, "admin").await);
            clock.advance(just_before(10 * SECOND));
            assert!(has_role(&node, &token, "admin").await);
            clock.advance(MILLISECOND);
        }
        assert!(has_role(&node, &token, "reader").await);
        assert!(!has_role(&node, &token, "admin").await);
    }
}

async fn has_role(node: &Node, token: &MintedToken, role: &str) -> bool {
    let response = node.send(token.expose_secret()).await;
    let principal: &tower_service_token::Principal = response.extensions().get().unwrap();
    principal.roles().iter().any(|known| known == role)
}

#[tokio::test]
async fn local_import_replaces_negative_entry_at_once() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let node = Node::new(&remote, &clock());
    let token = mint();
    assert_eq!(node.status(&token).await, UNAUTHORIZED);
    assert!(matches!(node.find_cached(&token), Cached::NotFound));
    tokens.insert(TokenRecord::from(&token)).unwrap();
    assert_eq!(node.status(&token).await, OK);
}

#[tokio::test]
async fn import_through_cache_applies_at_once_without_feed() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let clock = clock();
    let (a, b) = (Node::new(&remote, &clock), Node::new(&remote, &clock));
    let token = mint();
    for node in [&a, &b] {
        assert_eq!(node.status(&token).await, UNAUTHORIZED);
    }
    let event = AuditEvent::new(start(), "operator", AuditAction::Imported, token.id());
    let write = Write::new(TokenRecord::from(&token), event);
    TokenRegistry::insert(&a.cached, &write).await.unwrap();
    assert_eq!(a.status(&token).await, OK);

    clock.advance(just_before(2 * SECOND));
    assert_eq!(b.status(&token).await, UNAUTHORIZED);
    clock.advance(MILLISECOND);
    assert_eq!(b.status(&token).await, OK);
}

#[tokio::test]
async fn rotation_invalidates_both_digests() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let clock = clock();
    let node = Node::new(&remote, &clock);
    let (old, new) = (stored(&tokens), mint());
    assert_eq!(node.status(&old).await, OK);
    assert_eq!(node.status(&new).await, UNAUTHORIZED);
    let record = tokens.get(old.id()).unwrap();
    let grace_end = start() + 5 * SECOND;
    let rotated = record
        .with_digest(digest(&new))
        .with_previous_digest((digest(&old), grace_end));
    tokens.replace(rotated.clone()).unwrap();
    assert_eq!((node.status(&old).await, node.status(&new).await), (OK, OK));

    // The grace ends on the hit, and the entry with it.
    clock.advance(5 * SECOND);
    assert!(matches!(node.find_cached(&old), Cached::Miss));
    assert!(matches!(node.find_cached(&new), Cached::Found(_)));
    let reason = node.reason(&old).await;
    assert_eq!(reason, Some(RejectionReason::SupersededToken));
    assert_eq!(node.status(&new).await, OK);

    tokens.replace(rotated.with_previous_digest(None)).unwrap();
    let reason = node.reason(&old).await;
    assert_eq!(reason, Some(RejectionReason::UnknownToken));
}

#[tokio::test]
async fn invalidate_and_clear_restart_running_lookups() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let node = Node::new(&remote, &clock());
    let (one, other) = (stored(&tokens), stored(&tokens));
    for token in [&one, &other] {
        assert_eq!(node.status(token).await, OK);
        tokens.revoke(token.id()).unwrap();
        assert_eq!(node.status(token).await, OK);
    }
    node.cached.invalidate(&digest(&one));
    assert_eq!(node.status(&one).await, UNAUTHORIZED);
    assert_eq!(node.status(&other).await, OK);
    node.cached.clear();
    assert_eq!(node.status(&other).await, UNAUTHORIZED);

    for forget in [
        |node: &Node, token: &MintedToken| node.cached.invalidate(&digest(token)),
        |node: &Node, _: &MintedToken| node.cached.clear(),
    ] {
        let token = stored(&tokens);
        remote.after_reading().close();
        let request = node.spawn(&token);
        remote.after_reading().wait_until_reached().await;
        tokens.revoke(token.id()).unwrap();
        forget(&node, &token);
        remote.after_reading().reopen();
        remote.after_reading().resume_one();
        assert_eq!(request.await.unwrap(), UNAUTHORIZED);
    }
}

#[test]
fn effective_within_follows_feed_delay() {
    let tokens = MemoryStore::new();
    let promised = |cached: &dyn TokenRegistry| cached.effective_within();
    let told = CachedStore::new(RemoteStore::new(&tokens));
    assert_eq!(promised(&told), Duration::ZERO);
    assert_eq!(promised(&CachedStore::new(tokens.clone())), Duration::ZERO);

    let untold = || CachedStore::new(RemoteStore::without_feed(&tokens));
    assert_eq!(promised(&untold()), 10 * SECOND);
    assert_eq!(promised(&untold().with_ttl(SECOND)), 2 * SECOND);
    let brief = untold().with_ttl(SECOND).with_negative_ttl(MILLISECOND);
    assert_eq!(promised(&brief), SECOND);
    assert_eq!(promised(&untold().with_ttl(Duration::ZERO)), Duration::ZERO);
    // The inner store reports a cache with a longer TTL.
    let behind = untold().with_ttl(30 * SECOND);
    assert_eq!(promised(&CachedStore::new(behind)), 30 * SECOND);
}

/// A store that lists its listeners without keeping them alive.
#[derive(Default)]
struct ListenerList(Mutex<Vec<Weak<dyn ChangeListener>>>);

#[async_trait]
impl TokenStore for ListenerList {
    async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        Ok(None)
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.0.lock().unwrap().push(Arc::downgrade(listener));
    }
}

#[test]
fn only_live_caches_stay_subscribed() {
    let roll = Arc::new(ListenerList::default());
    let listening = || {
        let roll = roll.0.lock().unwrap();
        roll.iter().filter(|one| one.strong_count() > 0).count()
    };
    let cached = CachedStore::new(Arc::clone(&roll));
    assert_eq!(listening(), 1);
    let cached = cached.with_ttl(SECOND).with_capacity(7);
    assert_eq!(listening(), 1);
    let clone = cached.clone();
    drop(cached);
    assert_eq!(listening(), 1);
    let apart = clone.clone().with_ttl(2 * SECOND);
    assert_eq!(listening(), 2);
    drop((clone, apart));
    assert_eq!(listening(), 0);
}
