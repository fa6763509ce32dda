//! Times of last use, which are buffered in memory and written in batches.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::async_trait;
use tower_service_token::clock::{Clock, ManualClock};
use tower_service_token::lifecycle::NewToken;
use tower_service_token::registry::{LastUsed, LastUsedStore};
use tower_service_token::store::{StoreError, TokenRecord};
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

fn last_used_of(store: &MemoryStore, number: i64) -> Option<SystemTime> {
    store.get(id(number)).unwrap().last_used_at()
}

/// A table without any other method of a registry. Its first write fails.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<Vec<Batch>>>);

type Batch = Vec<(TokenId, SystemTime)>;

#[async_trait]
impl LastUsedStore for Table {
    async fn write_last_used(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        let mut batches = self.0.lock().unwrap();
        batches.push(uses.to_vec());
        match batches.len() {
            1 => Err(StoreError::unavailable("down")),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn writes_to_a_store_that_is_no_registry() {
    let table = Table::default();
    let last_used = LastUsed::new(table.clone());
    last_used.record(id(7), start());
    assert!(last_used.flush().await.is_err());
    assert_eq!(last_used.flush().await.unwrap(), 1);
    assert_eq!(last_used.flush().await.unwrap(), 0);
    let batches = table.0.lock().unwrap();
    assert_eq!(*batches, [[(id(7), start())], [(id(7), start())]]);
}

#[tokio::test(start_paused = true)]
async fn writes_each_token_once_per_flush_interval() {
    let clock = ManualClock::new(start());
    let memory = MemoryStore::new();
    let store = FaultyStore::new(memory.clone());
    let tokens = ServiceTokens::new(memory.clone());
    let issued = tokens.create(NewToken::new("ci")).await.unwrap();
    let token = issued.expose_secret();
    let last_used = LastUsed::new(store.clone());
    let flush_task = last_used.flush_every(MINUTE);
    let layer = ServiceTokenLayer::new(memory)
        .with_clock(clock.clone())
        .with_last_used(last_used);
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
        let record = tokens.get(issued.record().id()).await.unwrap();
        let age = clock.now().duration_since(record.last_used_at().unwrap());
        assert!(age.unwrap() <= Duration::from_secs(1));
        assert_eq!(record.revision(), 1, "a use does not change the revision");
    }
    // Without uses nothing is written.
    tokio::time::sleep(JUST_OVER_A_MINUTE).await;
    assert_eq!(store.calls(), 3);
    flush_task.stop().await.unwrap();
    assert_eq!(store.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn stop_flushes_pending_uses() {
    let store = store_with(3);
    let last_used = LastUsed::new(store.clone());
    let flush_task = last_used.flush_every(MINUTE);
    last_used.record(id(1), start());
    assert_eq!(last_used_of(&store, 1), None);
    flush_task.stop().await.unwrap();
    assert_eq!(last_used_of(&store, 1), Some(start()));
}

#[tokio::test]
async fn counts_uses_dropped_beyond_capacity() {
    let store = store_with(10);
    let last_used = LastUsed::with_capacity(store.clone(), 4);
    for number in 0..10 {
        last_used.record(id(number), start());
        last_used.record(id(number), start() + MINUTE);
    }
    assert_eq!(last_used.dropped(), 12);
    assert_eq!(last_used.flush().await.unwrap(), 4);
    let written = (0..10).filter_map(|number| last_used_of(&store, number));
    assert_eq!(written.collect::<Vec<_>>(), vec![start() + MINUTE; 4]);
    last_used.record(id(9), start());
    assert_eq!(last_used.flush().await.unwrap(), 1);
}

#[tokio::test]
async fn retries_uses_after_failed_flush() {
    let memory = store_with(1200);
    let store = FaultyStore::new(memory.clone());
    let last_used = LastUsed::new(store.clone());
    for number in 0..1200 {
        last_used.record(id(number), start());
    }
    store.inject(Fault::Error);
    last_used.flush().await.unwrap_err();
    // A newer use of a token whose earlier use was not written.
    last_used.record(id(7), start() + MINUTE);
    store.clear_fault();
    assert_eq!(last_used.flush().await.unwrap(), 1200);
    assert_eq!(store.calls(), 1 + 3, "1,200 uses in batches of 500");
    assert_eq!(last_used_of(&memory, 7), Some(start() + MINUTE));
    assert_eq!(last_used_of(&memory, 1199), Some(start()));
    assert_eq!(last_used.flush().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropped_flush_loses_no_uses() {
    let memory = store_with(2);
    let store = FaultyStore::new(memory.clone());
    let last_used = LastUsed::new(store.clone());
    last_used.record(id(1), start());
    store.inject(Fault::Hang);
    let flush = tokio::time::timeout(MINUTE, last_used.flush()).await;
    assert!(flush.is_err());
    store.clear_fault();
    assert_eq!(last_used.flush().await.unwrap(), 1);
    assert_eq!(last_used_of(&memory, 1), Some(start()));
}

#[tokio::test]
async fn concurrent_records_and_flushes_lose_no_uses() {
    let store = store_with(64);
    let last_used = LastUsed::new(store.clone());
    let end = start() + 1000 * MINUTE;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let last_used = &last_used;
            scope.spawn(move || {
                for minute in 0..=1000 {
                    last_used.record(
                        id((thread * 16) + i64::from(minute % 16)),
                        start() + minute * MINUTE,
                    );
                }
            });
        }
        for _ in 0..50 {
            futures::executor::block_on(last_used.flush()).unwrap();
        }
    });
    last_used.flush().await.unwrap();
    for number in 0..64 {
        let last_used_at = last_used_of(&store, number).unwrap();
        assert!(
            end.duration_since(last_used_at).unwrap() <= 32 * MINUTE,
            "{number}: {last_used_at:?}"
        );
    }
}
