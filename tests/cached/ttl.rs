//! The time to live of an entry, with a manual clock.

use std::time::Duration;

use tests::time_steps::just_before;
use tower_service_token::MemoryStore;
use tower_service_token::reject::RejectionReason;
use tower_service_token::store::{
    Cached, CachedStore, Credential, TokenRecord, TokenState, TokenStore,
};
use tower_service_token::token::PresentedToken;

use crate::node::{
    MILLISECOND, Node, OK, SECOND, UNAUTHORIZED, UNAVAILABLE, clock, insert_token, mint, start,
};
use crate::remote_store::{Fault, RemoteStore};

#[tokio::test]
async fn serves_hits_without_lookup_until_ttl() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let clock = clock();
    let node = Node::with_cache(
        CachedStore::new(remote.clone()).with_ttl(3 * SECOND),
        &clock,
    );
    let token = insert_token(&tokens);
    for _ in 0..3 {
        assert_eq!(node.status(&token).await, OK);
    }
    clock.advance(just_before(3 * SECOND));
    assert_eq!(node.status(&token).await, OK);
    assert_eq!(remote.lookups(), 1);
    clock.advance(MILLISECOND);
    assert_eq!(node.status(&token).await, OK);
    assert_eq!(remote.lookups(), 2);
}

#[tokio::test]
async fn ttl_counts_from_lookup_start() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let clock = clock();
    let node = Node::new(&remote, &clock);
    let token = insert_token(&tokens);
    remote.after_read().close();
    let request = node.spawn(&token);
    remote.after_read().wait_until_reached().await;
    tokens.revoke(token.id()).unwrap();
    clock.advance(4 * SECOND);
    remote.after_read().reopen();
    remote.after_read().resume_one();
    assert_eq!(
        request.await.unwrap(),
        OK,
        "the lookup read the record before the revocation"
    );
    clock.advance(just_before(6 * SECOND));
    assert_eq!(node.status(&token).await, OK);
    clock.advance(MILLISECOND);
    assert_eq!(node.status(&token).await, UNAUTHORIZED);
}

#[tokio::test]
async fn lookup_older_than_ttl_is_not_joined_or_cached() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let clock = clock();
    let node = Node::new(&remote, &clock);
    let token = insert_token(&tokens);
    remote.after_read().close();
    let first = node.spawn(&token);
    remote.after_read().wait_until_reached().await;
    tokens.revoke(token.id()).unwrap();

    clock.advance(just_before(10 * SECOND));
    let joining = node.spawn(&token);
    tokio::task::yield_now().await;
    clock.advance(MILLISECOND);
    let second = node.spawn(&token);
    remote.after_read().wait_until_reached().await;
    assert_eq!(remote.lookups(), 2);
    assert_eq!(node.cached.occupancy().in_flight, 2);

    remote.after_read().reopen();
    remote.after_read().resume_one();
    remote.after_read().resume_one();
    assert_eq!(second.await.unwrap(), UNAUTHORIZED);
    assert_eq!((first.await.unwrap(), joining.await.unwrap()), (OK, OK));
    assert_eq!(node.status(&token).await, UNAUTHORIZED);
    assert_eq!(remote.lookups(), 2);
    assert_eq!(node.cached.occupancy().in_flight, 0);
}

/// A negative TTL may be longer than the TTL, which limits for how long a lookup is joined.
#[tokio::test]
async fn older_lookup_does_not_overwrite_newer_result() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let clock = clock();
    let cached = CachedStore::new(remote.clone())
        .with_ttl(SECOND)
        .with_negative_ttl(9 * SECOND);
    let node = Node::with_cache(cached, &clock);
    let token = mint();
    remote.after_read().close();
    let first = node.spawn(&token);
    remote.after_read().wait_until_reached().await;
    remote.after_read().reopen();

    tokens.insert(TokenRecord::from(&token)).unwrap();
    clock.advance(SECOND);
    assert_eq!(node.status(&token).await, OK);
    remote.after_read().resume_one();
    assert_eq!(
        first.await.unwrap(),
        UNAUTHORIZED,
        "the lookup read the store before the insert"
    );
    assert_eq!(node.status(&token).await, OK);
    assert_eq!(remote.lookups(), 2);
}

#[tokio::test]
async fn find_returns_cached_entry() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let cached = CachedStore::new(remote.clone()).with_clock(clock());
    for (token, is_known) in [(insert_token(&tokens), true), (mint(), false)] {
        let before = remote.lookups();
        let presented = PresentedToken::new(token.expose_secret()).unwrap();
        let credential = Credential::new(presented);
        for _ in 0..3 {
            let found = cached.find(&credential).await.unwrap();
            assert_eq!(found.is_some(), is_known);
        }
        assert_eq!(remote.lookups() - before, 1);
    }
}

#[tokio::test]
async fn token_expiry_ends_entry_before_ttl() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let clock = clock();
    let node = Node::new(&remote, &clock);
    let token = mint();
    let expiry = start() + 3 * SECOND;
    let record = TokenRecord::from(&token).with_expires_at(expiry);
    tokens.insert(record.clone()).unwrap();
    assert_eq!(node.status(&token).await, OK);
    clock.advance(just_before(3 * SECOND));
    assert_eq!(node.status(&token).await, OK);
    assert_eq!(remote.lookups(), 1);

    // Another node extends the token. At the old expiry, before the TTL ends, the store is called.
    let extended = record.with_expires_at(expiry + 60 * SECOND);
    tokens.replace(extended).unwrap();
    clock.advance(MILLISECOND);
    assert!(matches!(node.find_cached(&token), Cached::Miss));
    assert_eq!(node.status(&token).await, OK);
    assert_eq!(remote.lookups(), 2);
}

#[tokio::test]
async fn expired_token_is_rejected_from_cache() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let clock = clock();
    let node = Node::new(&remote, &clock);
    let token = mint();
    let record = TokenRecord::from(&token).with_expires_at(start());
    tokens.insert(record).unwrap();
    for _ in 0..3 {
        let reason = node.rejection_reason(&token).await;
        assert_eq!(reason, Some(RejectionReason::ExpiredToken));
    }
    assert_eq!(remote.lookups(), 1);
    assert_eq!(node.cached.occupancy().positive, 0);
    clock.advance(2 * SECOND);
    assert!(matches!(node.find_cached(&token), Cached::Miss));
}

#[tokio::test]
async fn wall_clock_set_back_does_not_extend_entries() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let clock = clock();
    let node = Node::new(&remote, &clock);
    let (expiring, lasting) = (mint(), insert_token(&tokens));
    let record = TokenRecord::from(&expiring).with_expires_at(start() + 3 * SECOND);
    tokens.insert(record).unwrap();
    for token in [&expiring, &lasting] {
        assert_eq!(node.status(token).await, OK);
        tokens.revoke(token.id()).unwrap();
    }
    clock.advance(3 * SECOND);
    clock.set(start() - 3600 * SECOND);
    assert!(matches!(node.find_cached(&expiring), Cached::Miss));
    assert_eq!(node.status(&expiring).await, UNAUTHORIZED);

    clock.advance(7 * SECOND);
    clock.set(start() - 7200 * SECOND);
    assert!(matches!(node.find_cached(&lasting), Cached::Miss));
    assert_eq!(node.status(&lasting).await, UNAUTHORIZED);
}

#[tokio::test]
async fn wall_clock_set_forward_expires_token_on_hit() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let clock = clock();
    let node = Node::new(&remote, &clock);
    let token = mint();
    let expiry = start() + 3600 * SECOND;
    let record = TokenRecord::from(&token).with_expires_at(expiry);
    tokens.insert(record).unwrap();
    assert_eq!(node.status(&token).await, OK);
    clock.set(expiry);
    let reason = node.rejection_reason(&token).await;
    assert_eq!(reason, Some(RejectionReason::ExpiredToken));
    assert_eq!(remote.lookups(), 1);
}

#[tokio::test]
async fn unknown_token_is_cached_for_negative_ttl() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let clock = clock();
    for (setting, ttl) in [(2, 2), (3, 3), (3600, 10), (0, 0)] {
        let cached = CachedStore::new(remote.clone());
        let cached = cached.with_negative_ttl(Duration::from_secs(setting));
        let node = Node::with_cache(cached, &clock);
        let (token, before) = (mint(), remote.lookups());
        assert_eq!(node.status(&token).await, UNAUTHORIZED);
        let ttl = Duration::from_secs(ttl);
        if !ttl.is_zero() {
            clock.advance(just_before(ttl));
            assert_eq!(node.status(&token).await, UNAUTHORIZED);
            assert_eq!(remote.lookups() - before, 1);
            clock.advance(MILLISECOND);
        }
        assert_eq!(node.status(&token).await, UNAUTHORIZED);
        assert_eq!(remote.lookups() - before, 2);
    }
}

/// A record becomes valid at its start time without a change notification.
#[tokio::test]
async fn not_yet_valid_token_is_cached_for_at_most_ttl() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let clock = clock();
    let cached = CachedStore::new(remote.clone()).with_ttl(SECOND);
    let node = Node::with_cache(cached, &clock);
    let token = mint();
    let record = TokenRecord::from(&token).with_not_before(start() + SECOND / 2);
    tokens.insert(record).unwrap();
    let reason = node.rejection_reason(&token).await;
    assert_eq!(reason, Some(RejectionReason::TokenNotYetValid));
    tokens.revoke(token.id()).unwrap();
    clock.advance(just_before(SECOND));
    assert_eq!(node.status(&token).await, OK);
    clock.advance(MILLISECOND);
    assert_eq!(node.status(&token).await, UNAUTHORIZED);
}

#[tokio::test]
async fn remotely_enabled_token_is_accepted_after_negative_ttl() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let clock = clock();
    let node = Node::new(&remote, &clock);
    let token = mint();
    let record = TokenRecord::from(&token);
    let disabled = record.clone().with_state(TokenState::Disabled);
    tokens.insert(disabled).unwrap();
    let reason = node.rejection_reason(&token).await;
    assert_eq!(reason, Some(RejectionReason::DisabledToken));
    tokens.replace(record).unwrap();
    clock.advance(just_before(2 * SECOND));
    assert_eq!(node.status(&token).await, UNAUTHORIZED);
    clock.advance(MILLISECOND);
    assert_eq!(node.status(&token).await, OK);
}

#[tokio::test]
async fn zero_ttl_disables_cache() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::without_feed(&tokens);
    let cached = CachedStore::new(remote.clone()).with_ttl(Duration::ZERO);
    let node = Node::with_cache(cached, &clock());
    let (token, unknown) = (insert_token(&tokens), mint());
    for _ in 0..3 {
        assert_eq!(node.status(&token).await, OK);
        assert_eq!(node.status(&unknown).await, UNAUTHORIZED);
    }
    assert_eq!(remote.lookups(), 6);

    // A request does not join a lookup that started before a revocation either.
    remote.after_read().close();
    let first = node.spawn(&token);
    remote.after_read().wait_until_reached().await;
    tokens.revoke(token.id()).unwrap();
    remote.after_read().reopen();
    assert_eq!(node.status(&token).await, UNAUTHORIZED);
    remote.after_read().resume_one();
    assert_eq!(first.await.unwrap(), OK);
    let occupancy = node.cached.occupancy();
    assert_eq!((occupancy.positive, occupancy.negative), (0, 0));
}

#[tokio::test]
async fn stale_entry_is_not_served_when_store_is_down() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let clock = clock();
    let node = Node::new(&remote, &clock);
    let token = insert_token(&tokens);
    assert_eq!(node.status(&token).await, OK);
    remote.set_fault(Fault::Down);
    clock.advance(just_before(10 * SECOND));
    assert_eq!(node.status(&token).await, OK);
    clock.advance(MILLISECOND);
    assert_eq!(node.status(&token).await, UNAVAILABLE);
    remote.set_fault(Fault::None);
    assert_eq!(node.status(&token).await, OK);
}
