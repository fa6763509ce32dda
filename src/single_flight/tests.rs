use std::time::SystemTime;

use futures_util::FutureExt;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::digest::TokenDigest;

const TTL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(1);

/// A value that has expired by the wall clock.
const EXPIRED: u32 = 0;

type Lookups = Arc<SingleFlight<u32, &'static str>>;

fn lookups(clock: &ManualClock, on_invalidation: OnInvalidation) -> Lookups {
    SingleFlight::new(Policy {
        clock: Arc::new(clock.clone()),
        is_current: |value, _| *value != EXPIRED,
        max_in_flight: 2,
        on_invalidation,
        ..Policy::default()
    })
}

fn clock() -> ManualClock {
    ManualClock::new(SystemTime::UNIX_EPOCH)
}

fn key(text: &str) -> CacheKey {
    CacheKey::from(&TokenDigest::of(text))
}

fn entry(value: u32, clock: &ManualClock) -> Entry<u32> {
    Entry {
        kind: EntryKind::Positive,
        value,
        expires_at: clock.monotonic() + TTL,
    }
}

async fn start(lookups: &Lookups, key: CacheKey) -> Lookup<u32, &'static str> {
    match lookups.join_or_start(key).await {
        Admission::Started(lookup, _) => lookup,
        _ => panic!("no lookup was started"),
    }
}

async fn join(lookups: &Lookups, key: CacheKey) -> SharedResult<&'static str> {
    match lookups.join_or_start(key).await {
        Admission::Joined(result) => result,
        _ => panic!("no lookup was joined"),
    }
}

fn cached(lookups: &Lookups, key: &CacheKey) -> Option<u32> {
    lookups.get(key).map(|entry| entry.value)
}

#[tokio::test]
async fn concurrent_misses_join_one_lookup_and_later_ones_hit() {
    let clock = clock();
    let lookups = lookups(&clock, OnInvalidation::Restart);
    let mut lookup = start(&lookups, key("a")).await;
    let waiting = [
        join(&lookups, key("a")).await,
        join(&lookups, key("a")).await,
    ];
    assert_eq!(lookups.in_flight(), 1);
    let other = start(&lookups, key("b")).await;
    assert!(lookup.complete(|entries, key| entries.insert(key, entry(1, &clock))));
    lookup.finish("found");
    for result in waiting {
        assert_eq!(result.await, Ok("found"));
    }
    let admission = lookups.join_or_start(key("a")).await;
    assert!(matches!(admission, Admission::Cached(entry) if entry.value == 1));
    assert_eq!(cached(&lookups, &key("b")), None);
    drop(other);
    assert_eq!(lookups.in_flight(), 0);
}

#[tokio::test]
async fn dropped_lookup_fails_its_callers_and_the_next_caller_starts_another() {
    let lookups = lookups(&clock(), OnInvalidation::Restart);
    let lookup = start(&lookups, key("a")).await;
    let waiting = join(&lookups, key("a")).await;
    drop(lookup);
    assert!(waiting.await.is_err());
    start(&lookups, key("a")).await.finish("failed");
    start(&lookups, key("a")).await;
}

#[tokio::test]
async fn dropped_caller_cancels_nothing() {
    let lookups = lookups(&clock(), OnInvalidation::Restart);
    let Admission::Started(lookup, result) = lookups.join_or_start(key("a")).await else {
        panic!("no lookup was started");
    };
    drop(result);
    let waiting = join(&lookups, key("a")).await;
    lookup.finish("found");
    assert_eq!(waiting.await, Ok("found"));
}

#[tokio::test]
async fn lookup_older_than_the_ttl_is_not_joined_and_does_not_replace_newer_results() {
    let clock = clock();
    let lookups = lookups(&clock, OnInvalidation::Restart);
    let mut older = start(&lookups, key("a")).await;
    clock.advance(TTL);
    let mut newer = start(&lookups, key("a")).await;
    assert_eq!(lookups.in_flight(), 2);
    assert!(newer.complete(|entries, key| entries.insert(key, entry(2, &clock))));
    newer.finish("newer");
    assert!(older.complete(|_, _| panic!("the older result was cached")));
    older.finish("older");
    assert_eq!(cached(&lookups, &key("a")), Some(2));
}

#[tokio::test]
async fn finished_lookup_is_not_joined_while_an_older_one_runs() {
    let clock = clock();
    let lookups = lookups(&clock, OnInvalidation::Restart);
    let _older = start(&lookups, key("a")).await;
    clock.advance(TTL);
    start(&lookups, key("a")).await.finish("failed");
    start(&lookups, key("a")).await;
}

#[tokio::test]
async fn invalidated_lookup_caches_nothing_until_it_restarts() {
    for clears in [false, true] {
        let clock = clock();
        let lookups = lookups(&clock, OnInvalidation::Restart);
        let mut lookup = start(&lookups, key("a")).await;
        if clears {
            lookups.clear();
        } else {
            lookups.invalidate([key("b"), key("a")]);
        }
        let waiting = join(&lookups, key("a")).await;
        clock.advance(TIMEOUT);
        assert!(!lookup.complete(|_, _| panic!("a result from before the change was cached")));
        lookup.restart();
        assert_eq!(lookup.started, TIMEOUT);
        assert!(waiting.clone().now_or_never().is_none());
        assert!(lookup.complete(|entries, key| entries.insert(key, entry(3, &clock))));
        lookup.finish("after");
        assert_eq!(waiting.await, Ok("after"));
        assert_eq!(cached(&lookups, &key("a")), Some(3));
        lookups.invalidate([key("a")]);
        assert_eq!(cached(&lookups, &key("a")), None);
    }
}

#[tokio::test]
async fn detached_lookup_is_neither_joined_nor_cached() {
    let clock = clock();
    let lookups = lookups(&clock, OnInvalidation::Detach);
    let mut detached = start(&lookups, key("a")).await;
    let waiting = join(&lookups, key("a")).await;
    lookups.clear();
    let mut lookup = start(&lookups, key("a")).await;
    assert!(!detached.complete(|_, _| panic!("a result from before the change was cached")));
    detached.finish("invalidated");
    assert_eq!(waiting.await, Ok("invalidated"));
    assert!(lookup.complete(|entries, key| entries.insert(key, entry(4, &clock))));
    assert_eq!(cached(&lookups, &key("a")), Some(4));
}

#[tokio::test(start_paused = true)]
async fn callers_above_the_limit_wait_for_a_permit() {
    let lookups = lookups(&clock(), OnInvalidation::Restart);
    let first = start(&lookups, key("a")).await;
    let _second = start(&lookups, key("b")).await;
    let started = tokio::time::Instant::now();
    let third = lookups.join_or_start(key("c")).await;
    assert!(matches!(third, Admission::AtCapacity));
    assert_eq!(started.elapsed(), TIMEOUT);
    // A lookup in progress is joined at any time.
    drop(join(&lookups, key("a")).await);
    let waiting = start(&lookups, key("c"));
    let release = async { first.finish("done") };
    let (third, ()) = tokio::join!(waiting, release);
    third.finish("done");
}

#[tokio::test]
async fn expired_entries_are_misses() {
    let clock = clock();
    let lookups = lookups(&clock, OnInvalidation::Restart);
    lookups.entries.insert(key("a"), entry(1, &clock));
    lookups.entries.insert(key("b"), entry(EXPIRED, &clock));
    assert_eq!(cached(&lookups, &key("a")), Some(1));
    assert_eq!(cached(&lookups, &key("b")), None);
    clock.advance(TTL);
    assert_eq!(cached(&lookups, &key("a")), None);
    start(&lookups, key("a")).await;
    start(&lookups, key("b")).await;
}
