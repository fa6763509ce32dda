//! Changes that race lookups, on one node and between nodes.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tests::pause_point::PausePoint;
use tests::time_steps::just_before;
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
    MILLISECOND, Node, OK, SECOND, UNAUTHORIZED, UNAVAILABLE, clock, digest, insert_token, mint,
    start,
};
use crate::remote_store::RemoteStore;

const ROUNDS: usize = 1000;

/// The point at which a lookup pauses while its token is revoked.
type Checkpoint = fn(&RemoteStore) -> &PausePoint;

async fn assert_revocation_applies_at(checkpoint: Checkpoint) {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let node = Node::new(&remote, &clock());
    for round in 0..ROUNDS {
        let token = insert_token(&tokens);
        let before = remote.lookups();
        checkpoint(&remote).close();
        let request = node.spawn(&token);
        checkpoint(&remote).wait_until_reached().await;
        tokens.revoke(token.id()).unwrap();
        checkpoint(&remote).reopen();
        checkpoint(&remote).resume_one();
        assert_eq!(request.await.unwrap(), UNAUTHORIZED, "round {round}");
        assert_eq!(remote.lookups() - before, 2, "round {round}");
        let reason = node.rejection_reason(&token).await;
        assert_eq!(reason, Some(RejectionReason::RevokedToken));
        assert_eq!(remote.lookups() - before, 2, "the second result was cached");
    }
    assert_eq!(node.cached.occupancy().in_flight, 0);
}

#[tokio::test]
async fn revocation_before_lookup_reads_rejects_waiting_request() {
    assert_revocation_applies_at(RemoteStore::before_read).await;
}

#[tokio::test]
async fn revocation_after_lookup_read_rejects_waiting_request() {
    assert_revocation_applies_at(RemoteStore::after_read).await;
}

/// The order of the requests and the revocation differs between rounds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rejects_every_request_started_after_revocation() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let node = Node::new(&remote, &clock());
    let (mut accepted, mut rejected) = (0, 0);
    for round in 0..ROUNDS {
        let token = Arc::new(insert_token(&tokens));
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
                OK => accepted += 1,
                UNAUTHORIZED => rejected += 1,
                status => panic!("{status} in round {round}"),
            }
        }
        assert_eq!(node.status(&token).await, UNAUTHORIZED, "round {round}");
    }
    println!("{accepted} requests were accepted before the revocation, {rejected} were rejected");
}

#[tokio::test]
async fn change_of_everything_clears_cache_and_restarts_running_lookups() {
    let tokens = MemoryStore::new();
    let feed = ChangeFeed::default();
    let remote = RemoteStore::without_feed(&tokens);
    let cached = CachedStore::new(StoreWithFeed(remote.clone(), feed.clone()));
    let known: Vec<_> = (0..100).map(|_| insert_token(&tokens)).collect();
    let unknown = mint();
    for token in known.iter().chain([&unknown]) {
        find(&cached, token).await.unwrap();
    }
    let occupancy = cached.occupancy();
    assert_eq!((occupancy.positive, occupancy.negative), (100, 1));

    let running = insert_token(&tokens);
    remote.after_read().close();
    let lookup = tokio::spawn({
        let (cached, token) = (cached.clone(), running.expose_secret().to_owned());
        async move { find_text(&cached, &token).await }
    });
    remote.after_read().wait_until_reached().await;
    for token in known.iter().chain([&running]) {
        tokens.revoke(token.id()).unwrap();
    }
    feed.publish(&TokenChange::Everything);
    let occupancy = cached.occupancy();
    assert_eq!((occupancy.positive, occupancy.negative), (0, 0));
    remote.after_read().reopen();
    remote.after_read().resume_one();

    let found = lookup.await.unwrap().unwrap().unwrap();
    assert_eq!(found.state(), TokenState::Revoked);
    for token in &known {
        let found = find(&cached, token).await.unwrap().unwrap();
        assert_eq!(found.state(), TokenState::Revoked);
    }
}

/// A store whose notifications the test publishes.
struct StoreWithFeed(RemoteStore, ChangeFeed);

#[async_trait]
impl TokenStore for StoreWithFeed {
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
    let token = insert_token(&tokens);
    remote.after_read().close();
    let request = node.spawn(&token);
    for _ in 0..8 {
        remote.after_read().wait_until_reached().await;
        let record = tokens.get(token.id()).unwrap();
        tokens.replace(record).unwrap();
        remote.after_read().resume_one();
    }
    assert_eq!(request.await.unwrap(), UNAVAILABLE);
    assert_eq!(remote.lookups(), 8);
    remote.after_read().reopen();
    assert_eq!(node.status(&token).await, OK);
}

#[tokio::test]
async fn without_feed_remote_revocation_applies_after_ttl() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let clock = clock();
    let (a, b) = (Node::new(&remote, &clock), Node::new(&remote, &clock));
    let token = insert_token(&tokens);
    assert_eq!((a.status(&token).await, b.status(&token).await), (OK, OK));

    // Node A changes the token through its own cache, so the change applies there at once.
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
    let token = insert_token(&tokens);
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
    let (old, new) = (insert_token(&tokens), mint());
    assert_eq!(node.status(&old).await, OK);
    assert_eq!(node.status(&new).await, UNAUTHORIZED);
    let record = tokens.get(old.id()).unwrap();
    let grace_end = start() + 5 * SECOND;
    let rotated = record
        .with_digest(digest(&new))
        .with_previous_digest((digest(&old), grace_end));
    tokens.replace(rotated.clone()).unwrap();
    assert_eq!((node.status(&old).await, node.status(&new).await), (OK, OK));

    // The grace period ends, so the entry of the previous secret is not served any more.
    clock.advance(5 * SECOND);
    assert!(matches!(node.find_cached(&old), Cached::Miss));
    assert!(matches!(node.find_cached(&new), Cached::Found(_)));
    let reason = node.rejection_reason(&old).await;
    assert_eq!(reason, Some(RejectionReason::SupersededToken));
    assert_eq!(node.status(&new).await, OK);

    tokens.replace(rotated.with_previous_digest(None)).unwrap();
    let reason = node.rejection_reason(&old).await;
    assert_eq!(reason, Some(RejectionReason::UnknownToken));
}

#[tokio::test]
async fn invalidate_and_clear_evict_entries_and_restart_running_lookups() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let node = Node::new(&remote, &clock());
    let (one, other) = (insert_token(&tokens), insert_token(&tokens));
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

    for invalidate_entry in [
        |node: &Node, token: &MintedToken| node.cached.invalidate(&digest(token)),
        |node: &Node, _: &MintedToken| node.cached.clear(),
    ] {
        let token = insert_token(&tokens);
        remote.after_read().close();
        let request = node.spawn(&token);
        remote.after_read().wait_until_reached().await;
        tokens.revoke(token.id()).unwrap();
        invalidate_entry(&node, &token);
        remote.after_read().reopen();
        remote.after_read().resume_one();
        assert_eq!(request.await.unwrap(), UNAUTHORIZED);
    }
}

#[test]
fn effective_within_follows_feed_delay() {
    let tokens = MemoryStore::new();
    let bound = |cached: &dyn TokenRegistry| cached.effective_within();
    let with_feed = CachedStore::new(RemoteStore::new(&tokens));
    assert_eq!(bound(&with_feed), Duration::ZERO);
    assert_eq!(bound(&CachedStore::new(tokens.clone())), Duration::ZERO);

    let without_feed = || CachedStore::new(RemoteStore::without_feed(&tokens));
    assert_eq!(bound(&without_feed()), 10 * SECOND);
    assert_eq!(bound(&without_feed().with_ttl(SECOND)), 2 * SECOND);
    let short_ttls = without_feed()
        .with_ttl(SECOND)
        .with_negative_ttl(MILLISECOND);
    assert_eq!(bound(&short_ttls), SECOND);
    assert_eq!(
        bound(&without_feed().with_ttl(Duration::ZERO)),
        Duration::ZERO
    );
    // The inner store is itself a cache with a longer TTL.
    let inner = without_feed().with_ttl(30 * SECOND);
    assert_eq!(bound(&CachedStore::new(inner)), 30 * SECOND);
}

/// A store that keeps weak references to its listeners.
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
fn dropped_caches_are_unsubscribed() {
    let store = Arc::new(ListenerList::default());
    let live_listeners = || {
        let listeners = store.0.lock().unwrap();
        listeners.iter().filter(|it| it.strong_count() > 0).count()
    };
    let cached = CachedStore::new(Arc::clone(&store));
    assert_eq!(live_listeners(), 1);
    let cached = cached.with_ttl(SECOND).with_capacity(7);
    assert_eq!(live_listeners(), 1);
    let clone = cached.clone();
    drop(cached);
    assert_eq!(live_listeners(), 1);
    let reconfigured = clone.clone().with_ttl(2 * SECOND);
    assert_eq!(live_listeners(), 2);
    drop((clone, reconfigured));
    assert_eq!(live_listeners(), 0);
}
