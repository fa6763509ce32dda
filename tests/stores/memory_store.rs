//! `MemoryStore`: lookups, changes, and concurrent readers and writers.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use tower_service_token::clock::SystemClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::store::{
    Cached, Credential, DenialKind, MemoryStoreError, TokenRecord, TokenState, verdict,
};
use tower_service_token::token::{MintedToken, PresentedToken, TokenFormat, TokenId};
use tower_service_token::{MemoryStore, TokenStore};

fn mint() -> MintedToken {
    TokenFormat::default().mint().unwrap()
}

fn insert_token(store: &MemoryStore) -> MintedToken {
    let token = mint();
    store.insert(TokenRecord::from(&token)).unwrap();
    token
}

fn verdict_for(store: &MemoryStore, token: &MintedToken) -> Result<(), DenialKind> {
    let token = PresentedToken::new(token.expose_secret()).unwrap();
    let credential = Credential::new(token);
    let found = match store.find_cached(&credential) {
        Cached::Found(record) => Some(record),
        Cached::NotFound => None,
        Cached::Miss => panic!("a memory store never misses"),
    };
    let outcome = verdict(found, &credential, &SystemClock);
    outcome.map(|_| ()).map_err(|denial| denial.kind())
}

#[test]
fn finds_token_between_insert_and_remove() {
    let store = MemoryStore::new();
    let token = mint();
    assert_eq!(verdict_for(&store, &token), Err(DenialKind::Unknown));
    store
        .insert(TokenRecord::from(&token).with_name("ci"))
        .unwrap();
    assert_eq!(verdict_for(&store, &token), Ok(()));
    assert_eq!((store.len(), store.is_empty()), (1, false));
    assert_eq!(store.get(token.id()).unwrap().name(), "ci");

    assert_eq!(store.remove(token.id()).unwrap().id(), token.id());
    assert_eq!(verdict_for(&store, &token), Err(DenialKind::Unknown));
    assert!(store.remove(token.id()).is_none());
    assert!(store.is_empty());
}

#[test]
fn find_returns_the_same_as_find_cached() {
    let store = MemoryStore::new();
    let (known, unknown) = (insert_token(&store), mint());
    for (token, expected) in [(&known, Some(known.id())), (&unknown, None)] {
        let token = PresentedToken::new(token.expose_secret()).unwrap();
        let found = block_on(store.find(&Credential::new(token))).unwrap();
        assert_eq!(found.map(|record| record.id()), expected);
    }
}

#[test]
fn revocation_applies_at_once_to_every_clone() {
    let store = MemoryStore::new();
    let clone = store.clone();
    let token = insert_token(&store);
    clone.revoke(token.id()).unwrap();
    assert_eq!(verdict_for(&store, &token), Err(DenialKind::Revoked));
    assert_eq!(store.get(token.id()).unwrap().state(), TokenState::Revoked);
    clone.revoke(token.id()).unwrap();
}

#[test]
fn rejects_duplicate_id_or_digest_without_changes() {
    let store = MemoryStore::new();
    let (first, second) = (insert_token(&store), insert_token(&store));
    let digest = TokenDigest::of(first.expose_secret());

    let same_id = TokenRecord::new(first.id(), TokenDigest::of("other"));
    assert_eq!(store.insert(same_id), Err(MemoryStoreError::DuplicateId));
    let same_digest = TokenRecord::new(mint().id(), digest);
    assert_eq!(
        store.insert(same_digest),
        Err(MemoryStoreError::DuplicateDigest)
    );
    let duplicate = TokenRecord::new(second.id(), digest);
    assert_eq!(
        store.replace(duplicate),
        Err(MemoryStoreError::DuplicateDigest)
    );
    let unknown = TokenId::from_i64(1).unwrap();
    let unknown_record = TokenRecord::new(unknown, TokenDigest::of("x"));
    assert_eq!(
        store.replace(unknown_record),
        Err(MemoryStoreError::UnknownId)
    );
    assert_eq!(store.revoke(unknown), Err(MemoryStoreError::UnknownId));

    assert_eq!(store.len(), 2);
    assert_eq!(verdict_for(&store, &first), Ok(()));
    assert_eq!(verdict_for(&store, &second), Ok(()));
}

#[test]
fn replace_with_same_digest_updates_record_and_keeps_secret() {
    let store = MemoryStore::new();
    let token = insert_token(&store);
    let before = store.get(token.id()).unwrap();
    store.replace(before.clone().with_name("renamed")).unwrap();
    assert_eq!(verdict_for(&store, &token), Ok(()));
    assert_eq!(store.get(token.id()).unwrap().name(), "renamed");
    assert_eq!(before.name(), "", "a returned record does not change");
}

/// Waits until `condition` holds. The limit only bounds the time of a failing test.
fn wait_until(description: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "timed out: {description}"
        );
        thread::yield_now();
    }
}

/// Sets its flag when dropped, so that a failing test ends its threads too.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// At any time the current or the next secret is accepted, and earlier secrets are rejected.
#[test]
fn rotation_is_atomic_for_concurrent_readers() {
    let store = MemoryStore::new();
    let old = insert_token(&store);
    let secrets: Vec<MintedToken> = std::iter::once(old)
        .chain((0..500).map(|_| mint()))
        .collect();
    let id = secrets[0].id();
    let current = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    let checks = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let start = Barrier::new(3);
    thread::scope(|scope| {
        for checks in &checks {
            let (store, secrets) = (&store, &secrets);
            let (current, done, start) = (&current, &done, &start);
            scope.spawn(move || {
                start.wait();
                while !done.load(Ordering::SeqCst) {
                    let before = current.load(Ordering::SeqCst);
                    if before > 0 {
                        let previous = verdict_for(store, &secrets[before - 1]);
                        assert_eq!(previous, Err(DenialKind::Unknown));
                    }
                    // The writer may rotate between these lookups. It publishes the number of each
                    // secret before the next rotation.
                    let is_accepted = verdict_for(store, &secrets[before]).is_ok()
                        || verdict_for(store, &secrets[before + 1]).is_ok()
                        || current.load(Ordering::SeqCst) != before;
                    assert!(
                        is_accepted,
                        "neither secret {before} nor the next one is accepted"
                    );
                    checks.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let _end = SetOnDrop(&done);
        start.wait();
        for (next, secret) in secrets.iter().enumerate().skip(1) {
            let digest = TokenDigest::of(secret.expose_secret());
            let record = store.get(id).unwrap().with_digest(digest);
            store.replace(record).unwrap();
            current.store(next, Ordering::SeqCst);
            // Waits for the readers, so that they check between rotations too.
            if next % 50 == 0 {
                for checks in &checks {
                    let before = checks.load(Ordering::SeqCst);
                    wait_until("a reader checks", || checks.load(Ordering::SeqCst) > before);
                }
            }
        }
    });
    assert_eq!(store.len(), 1);
}

#[test]
fn concurrent_writes_are_not_lost_under_concurrent_reads() {
    const WRITERS: usize = 4;
    const TOKENS_PER_WRITER: usize = 250;
    let store = MemoryStore::new();
    let steady = insert_token(&store);
    let done = AtomicBool::new(false);
    let reads = AtomicUsize::new(0);
    let tokens: Vec<MintedToken> = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                assert_eq!(verdict_for(&store, &steady), Ok(()));
                reads.fetch_add(1, Ordering::SeqCst);
            }
        });
        let _end = SetOnDrop(&done);
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut tokens = Vec::new();
                    for number in 0..TOKENS_PER_WRITER {
                        // Waits for the reader, so that it reads between writes too.
                        if number % 50 == 0 {
                            let before = reads.load(Ordering::SeqCst);
                            wait_until("the reader reads", || {
                                reads.load(Ordering::SeqCst) > before
                            });
                        }
                        let token = insert_token(&store);
                        assert_eq!(verdict_for(&store, &token), Ok(()));
                        store.revoke(token.id()).unwrap();
                        assert_eq!(verdict_for(&store, &token), Err(DenialKind::Revoked));
                        tokens.push(token);
                    }
                    tokens
                })
            })
            .collect();
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });
    assert_eq!(store.len(), WRITERS * TOKENS_PER_WRITER + 1);
    for token in &tokens {
        assert_eq!(verdict_for(&store, token), Err(DenialKind::Revoked));
    }
}
