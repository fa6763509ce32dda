//! When tokens were last used: gathered beside the requests, written in batches.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::clock::{Clock, ManualClock};
use tower_service_token::lifecycle::NewToken;
use tower_service_token::store::{LastUsed, TokenRecord};
use tower_service_token::testing::{Fault, FaultyStore};
use tower_service_token::token::TokenId;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

const MINUTE: Duration = Duration::from_secs(60);
const JUST_OVER_A_MINUTE: Duration = Duration::from_millis(60_100);

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_343_400)
}

fn id(number: i64) -> TokenId {
    TokenId::from_i64(number).unwrap()
}

fn store_with(tokens: i64) -> MemoryStore {
    let store = MemoryStore::new();
    for number in 0..tokens {
        let digest = tower_service_token::digest::TokenDigest::of(&format!("token-{number}"));
        store.insert(TokenRecord::new(id(number), digest)).unwrap();
    }
    store
}

fn last_used(store: &MemoryStore, number: i64) -> Option<SystemTime> {
    store.get(id(number)).unwrap().last_used_at()
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_requests_on_one_token_make_one_write_per_interval() {
    let clock = ManualClock::new(start());
    let memory = MemoryStore::new();
    let store = FaultyStore::new(memory.clone());
    let tokens = ServiceTokens::new(memory.clone());
    let issued = tokens.create(NewToken::new("ci")).await.unwrap();
    let token = issued.expose_secret();
    let gathered = LastUsed::new(store.clone());
    let flushing = gathered.flush_every(MINUTE);
    let layer = ServiceTokenLayer::new(memory)
        .with_clock(clock.clone())
        .with_last_used(gathered);
    let service = layer.layer(service_fn(async |_: Request<String>| {
        Ok::<_, Infallible>(Response::new(String::new()))
    }));
    for interval in 1..=3 {
        for _ in 0..10_000 {
            let request = Request::builder().header("x-api-key", token);
            let request = request.body(String::new()).unwrap();
            assert!(
                service
                    .clone()
                    .oneshot(request)
                    .await
                    .unwrap()
                    .status()
                    .is_success()
            );
            clock.advance(Duration::from_millis(5));
        }
        assert_eq!(store.calls(), interval - 1);
        tokio::time::sleep(JUST_OVER_A_MINUTE).await;
        assert_eq!(store.calls(), interval);
        let known = tokens.get(issued.record().id()).await.unwrap();
        let behind = clock.now().duration_since(known.last_used_at().unwrap());
        assert!(behind.unwrap() <= Duration::from_secs(1));
        assert_eq!(known.revision(), 1, "a use is no change");
    }
    // Nobody used it: nothing to write.
    tokio::time::sleep(JUST_OVER_A_MINUTE).await;
    assert_eq!(store.calls(), 3);
    flushing.stop().await.unwrap();
    assert_eq!(store.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_written_on_shutdown() {
    let store = store_with(3);
    let gathered = LastUsed::new(store.clone());
    let flushing = gathered.flush_every(MINUTE);
    gathered.record(id(1), start());
    assert_eq!(last_used(&store, 1), None);
    flushing.stop().await.unwrap();
    assert_eq!(last_used(&store, 1), Some(start()));
}

#[tokio::test]
async fn uses_beyond_the_capacity_are_dropped_and_counted() {
    let store = store_with(10);
    let gathered = LastUsed::with_capacity(store.clone(), 4);
    for number in 0..10 {
        gathered.record(id(number), start());
        gathered.record(id(number), start() + MINUTE);
    }
    assert_eq!(gathered.dropped(), 12);
    assert_eq!(gathered.flush().await.unwrap(), 4);
    let written = (0..10).filter_map(|number| last_used(&store, number));
    assert_eq!(written.collect::<Vec<_>>(), vec![start() + MINUTE; 4]);
    gathered.record(id(9), start());
    assert_eq!(gathered.flush().await.unwrap(), 1);
}

#[tokio::test]
async fn what_a_failing_store_did_not_take_is_written_later() {
    let memory = store_with(1200);
    let store = FaultyStore::new(memory.clone());
    let gathered = LastUsed::new(store.clone());
    for number in 0..1200 {
        gathered.record(id(number), start());
    }
    store.inject(Fault::Error);
    gathered.flush().await.unwrap_err();
    // Newer than what failed to be written, and so kept.
    gathered.record(id(7), start() + MINUTE);
    store.heal();
    assert_eq!(gathered.flush().await.unwrap(), 1200);
    assert_eq!(store.calls(), 1 + 3, "1,200 uses in batches of 500");
    assert_eq!(last_used(&memory, 7), Some(start() + MINUTE));
    assert_eq!(last_used(&memory, 1199), Some(start()));
    assert_eq!(gathered.flush().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_is_given_up_loses_nothing() {
    let memory = store_with(2);
    let store = FaultyStore::new(memory.clone());
    let gathered = LastUsed::new(store.clone());
    gathered.record(id(1), start());
    store.inject(Fault::Hang);
    let given_up = tokio::time::timeout(MINUTE, gathered.flush()).await;
    assert!(given_up.is_err());
    store.heal();
    assert_eq!(gathered.flush().await.unwrap(), 1);
    assert_eq!(last_used(&memory, 1), Some(start()));
}

#[tokio::test]
async fn uses_beside_flushes_from_many_threads_are_written() {
    let store = store_with(64);
    let gathered = LastUsed::new(store.clone());
    let end = start() + 1000 * MINUTE;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let gathered = &gathered;
            scope.spawn(move || {
                for minute in 0..=1000 {
                    gathered.record(
                        id((thread * 16) + i64::from(minute % 16)),
                        start() + minute * MINUTE,
                    );
                }
            });
        }
        for _ in 0..50 {
            futures::executor::block_on(gathered.flush()).unwrap();
        }
    });
    gathered.flush().await.unwrap();
    for number in 0..64 {
        let at = last_used(&store, number).unwrap();
        assert!(
            end.duration_since(at).unwrap() <= 32 * MINUTE,
            "{number}: {at:?}"
        );
    }
}
