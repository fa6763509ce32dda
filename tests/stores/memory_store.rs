//! `MemoryStore`: what readers see while it changes.

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

fn stored(store: &MemoryStore) -> MintedToken {
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
        Cached::Miss => panic!("memory is never asked"),
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
    let (known, unknown) = (stored(&store), mint());
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
    let token = stored(&store);
    clone.revoke(token.id()).unwrap();
    assert_eq!(verdict_for(&store, &token), Err(DenialKind::Revoked));
    assert_eq!(store.get(token.id()).unwrap().state(), TokenState::Revoked);
    clone.revoke(token.id()).unwrap();
}

#[test]
fn rejects_duplicate_id_or_digest_without_changes() {
    let store = MemoryStore::new();
    let (first, second) = (stored(&store), stored(&store));
    let digest = TokenDigest::of(first.expose_secret());

    let same_id = TokenRecord::new(first.id(), TokenDigest::of("other"));
    assert_eq!(store.insert(same_id), Err(MemoryStoreError::DuplicateId));
    let same_digest = TokenRecord::new(mint().id(), digest);
    assert_eq!(
        store.insert(same_digest),
        Err(MemoryStoreError::DuplicateDigest)
    );
    let taking_over = TokenRecord::new(second.id(), digest);
    assert_eq!(
        store.replace(taking_over),
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
    let token = stored(&store);
    let before = store.get(token.id()).unwrap();
    store.replace(before.clone().with_name("renamed")).unwrap();
    assert_eq!(verdict_for(&store, &token), Ok(()));
    assert_eq!(store.get(token.id()).unwrap().name(), "renamed");
    assert_eq!(before.name(), "", "a returned record does not change");
}

/// Waits until `is_so`. The limit only bounds the time of a failing test.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "timed out: {what}"
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

/// The old or the new secret is accepted at any time, and the old one is rejected afterwards.
#[test]
fn concurrent_readers_see_no_gap_during_rotation() {
    let store = MemoryStore::new();
    let old = stored(&store);
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
                        let retired = verdict_for(store, &secrets[before - 1]);
                        assert_eq!(retired, Err(DenialKind::Unknown));
                    }
                    // The writer may rotate at any time, and publishes the number before the next
                    // rotation.
                    let gapless = verdict_for(store, &secrets[before]).is_ok()
                        || verdict_for(store, &secrets[before + 1]).is_ok()
                        || current.load(Ordering::SeqCst) != before;
                    assert!(gapless, "neither secret {before} nor the next one works");
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
            // Readers check between rotations, not only after the last one.
            if next % 50 == 0 {
                for checks in &checks {
                    let before = checks.load(Ordering::SeqCst);
                    until("a reader checks", || checks.load(Ordering::SeqCst) > before);
                }
            }
        }
    });
    assert_eq!(store.len(), 1);
}

#[test]
fn concurrent_writes_are_not_lost_under_concurrent_reads() {
    const WRITERS: usize = 4;
    const EACH: usize = 250;
    let store = MemoryStore::new();
    let steady = stored(&store);
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
                    let mut mine = Vec::new();
                    for number in 0..EACH {
                        // The reader reads between the changes of each writer.
                        if number % 50 == 0 {
                            let before = reads.load(Ordering::SeqCst);
                            until("it is read", || reads.load(Ordering::SeqCst) > before);
                        }
                        let token = stored(&store);
                        assert_eq!(verdict_for(&store, &token), Ok(()));
                        store.revoke(token.id()).unwrap();
                        assert_eq!(verdict_for(&store, &token), Err(DenialKind::Revoked));
                        mine.push(token);
                    }
                    mine
                })
            })
            .collect();
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });
    assert_eq!(store.len(), WRITERS * EACH + 1);
    for token in &tokens {
        assert_eq!(verdict_for(&store, token), Err(DenialKind::Revoked));
    }
}
