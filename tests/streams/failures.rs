//! Stores that fail while streams are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{NewToken, TokenUpdate};
use tower_service_token::store::{ChangeListener, Credential, FeedStatus, StoreError, TokenRecord};
use tower_service_token::streams::{PrincipalEnd, PrincipalWatcher};
use tower_service_token::token::TokenId;
use tower_service_token::{MemoryStore, TokenStore};

use super::fixture::{Fixture, principal_of};

const SECOND: Duration = Duration::from_secs(1);

const WORKS: u8 = 0;
const FAILS: u8 = 1;
const HANGS: u8 = 2;
const PANICS: u8 = 3;
/// Reads the record, then waits for [`Faulty::release`] to return it.
const LATE: u8 = 4;

/// Reports changes while its feed is connected.
#[derive(Clone)]
struct Faulty {
    store: MemoryStore,
    mode: Arc<AtomicU8>,
    release: Arc<Notify>,
    is_lost: Arc<AtomicU8>,
    /// The token whose lookups neither hang nor panic.
    prompt: Arc<AtomicI64>,
}

impl Faulty {
    fn new(fixture: &Fixture) -> Self {
        Self {
            store: fixture.store.clone(),
            mode: Arc::default(),
            release: Arc::default(),
            is_lost: Arc::default(),
            prompt: Arc::default(),
        }
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }
}

#[async_trait]
impl TokenStore for Faulty {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.store.find(credential).await
    }

    async fn find_again(
        &self,
        id: TokenId,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        let found = self.store.find_again(id, digest).await;
        let is_prompt = id.as_i64() == self.prompt.load(Ordering::SeqCst);
        match self.mode.load(Ordering::SeqCst) {
            FAILS => return Err(StoreError::unavailable("down")),
            HANGS if !is_prompt => std::future::pending::<()>().await,
            PANICS if !is_prompt => panic!("the store panics"),
            LATE => self.release.notified().await,
            _ => {}
        }
        found
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.store.subscribe(listener);
    }

    fn feed_status(&self) -> FeedStatus {
        match self.is_lost.load(Ordering::SeqCst) {
            0 => FeedStatus::Connected,
            _ => FeedStatus::Lost,
        }
    }
}

async fn watched() -> (Fixture, Faulty, PrincipalWatcher) {
    let fixture = Fixture::new().await;
    let store = Faulty::new(&fixture);
    let watcher = PrincipalWatcher::builder(store.clone())
        .with_clock(fixture.clock.clone())
        .build();
    (fixture, store, watcher)
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_bound_ends_streams() {
    for mode in [FAILS, HANGS] {
        let (fixture, store, watcher) = watched().await;
        store.set(mode);
        let started = Instant::now();
        let watch = watcher.watch(&fixture.principal().await).unwrap();
        assert_eq!(watch.ended().await, PrincipalEnd::Unavailable);
        let elapsed = started.elapsed();
        assert!(
            (10 * SECOND..=13 * SECOND).contains(&elapsed),
            "{elapsed:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_shorter_outage_ends_none_and_delays_revocations_only() {
    for mode in [FAILS, HANGS] {
        let (fixture, store, watcher) = watched().await;
        let watch = watcher.watch(&fixture.principal().await).unwrap();
        sleep(SECOND).await;
        store.set(mode);
        let update = TokenUpdate::new().with_name("renamed");
        let id = fixture.token.record().id();
        fixture.tokens().update(id, update).await.unwrap();
        sleep(6 * SECOND).await;
        store.set(WORKS);
        sleep(60 * SECOND).await;
        assert!(!watch.has_ended());
        store.set(mode);
        fixture.tokens().revoke(id).await.unwrap();
        sleep(6 * SECOND).await;
        assert!(!watch.has_ended());
        store.set(WORKS);
        let end = timeout(4 * SECOND, watch.ended()).await;
        assert_eq!(end, Ok(PrincipalEnd::Revoked));
    }
}

/// A store that reports changes is not asked, so its outage is not noticed until a change.
#[tokio::test(start_paused = true)]
async fn an_outage_without_a_change_ends_streams_only_if_the_feed_is_lost() {
    let (fixture, store, watcher) = watched().await;
    let watch = watcher.watch(&fixture.principal().await).unwrap();
    sleep(SECOND).await;
    store.set(FAILS);
    sleep(600 * SECOND).await;
    assert!(!watch.has_ended());
    store.is_lost.store(1, Ordering::SeqCst);
    let end = timeout(16 * SECOND, watch.ended()).await;
    assert_eq!(end, Ok(PrincipalEnd::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn while_the_feed_is_lost_tokens_are_looked_up() {
    let (fixture, store, watcher) = watched().await;
    let watch = watcher.watch(&fixture.principal().await).unwrap();
    sleep(SECOND).await;
    // The listener misses the change, as over a lost connection.
    let record = fixture.token.record().clone();
    let silent = MemoryStore::new();
    silent
        .insert(record.with_state(tower_service_token::store::TokenState::Revoked))
        .unwrap();
    let store_with_missed_change = Faulty {
        store: silent,
        ..store.clone()
    };
    let watcher = PrincipalWatcher::builder(store_with_missed_change)
        .with_clock(fixture.clock.clone())
        .build();
    store.is_lost.store(1, Ordering::SeqCst);
    let lost = watcher.watch(&fixture.principal().await).unwrap();
    assert_eq!(
        timeout(10 * SECOND, lost.ended()).await,
        Ok(PrincipalEnd::Revoked)
    );
    sleep(60 * SECOND).await;
    assert!(!watch.has_ended());
}

#[tokio::test(start_paused = true)]
async fn expiry_is_on_time_while_lookups_hang() {
    let (fixture, store, watcher) = watched().await;
    store.set(HANGS);
    let mut opened = Vec::new();
    for number in 0..100 {
        let new = NewToken::new(format!("token {number}"));
        let issued = fixture.tokens().create(new).await.unwrap();
        let caller = principal_of(&store, issued.expose_secret(), &fixture.clock).await;
        opened.push(watcher.watch(&caller).unwrap());
    }
    let new = NewToken::new("expires").with_expiry("2026-11-18T11:06:45Z".parse().unwrap());
    let issued = fixture.tokens().create(new).await.unwrap();
    let caller = principal_of(&store, issued.expose_secret(), &fixture.clock).await;
    let expires = watcher.watch(&caller).unwrap();
    sleep(SECOND).await;
    assert!(!expires.has_ended());
    fixture.clock.advance(5 * SECOND);
    let end = timeout(3 * SECOND, expires.ended()).await;
    assert_eq!(end, Ok(PrincipalEnd::Expired));
    assert!(opened.iter().all(|watch| !watch.has_ended()));
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_lookup_is_not_lost() {
    let (fixture, store, watcher) = watched().await;
    store.set(LATE);
    let watch = watcher.watch(&fixture.principal().await).unwrap();
    sleep(Duration::from_millis(100)).await;
    // The first lookup has read the active record and not returned it.
    fixture
        .tokens()
        .revoke(fixture.token.record().id())
        .await
        .unwrap();
    store.set(WORKS);
    store.release.notify_waiters();
    let end = timeout(2 * SECOND, watch.ended()).await;
    assert_eq!(end, Ok(PrincipalEnd::Revoked));
}

#[tokio::test(start_paused = true)]
async fn a_panic_at_the_record_of_one_token_does_not_end_streams_of_others() {
    let (fixture, store, watcher) = watched().await;
    let issued = fixture
        .tokens()
        .create(NewToken::new("other"))
        .await
        .unwrap();
    let other = principal_of(&store, issued.expose_secret(), &fixture.clock).await;
    let watch = watcher.watch(&fixture.principal().await).unwrap();
    let other = watcher.watch(&other).unwrap();
    sleep(SECOND).await;
    let id = fixture.token.record().id();
    store.prompt.store(id.as_i64(), Ordering::SeqCst);
    store.set(PANICS);
    let update = TokenUpdate::new().with_description("changed");
    let other_id = issued.record().id();
    fixture.tokens().update(other_id, update).await.unwrap();
    let end = timeout(SECOND, other.ended()).await;
    assert_eq!(end, Ok(PrincipalEnd::Unavailable));
    sleep(60 * SECOND).await;
    assert!(!watch.has_ended());
    fixture.tokens().revoke(id).await.unwrap();
    let end = timeout(SECOND, watch.ended()).await;
    assert_eq!(end, Ok(PrincipalEnd::Revoked));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_ends_streams_and_later_ones_are_watched() {
    let (fixture, store, watcher) = watched().await;
    let caller = fixture.principal().await;
    store.set(PANICS);
    let watch = watcher.watch(&caller).unwrap();
    let end = timeout(SECOND, watch.ended()).await;
    assert_eq!(end, Ok(PrincipalEnd::Unavailable));
    store.set(WORKS);
    let watch = watcher.watch(&caller).unwrap();
    sleep(60 * SECOND).await;
    assert!(!watch.has_ended());
    fixture
        .tokens()
        .revoke(fixture.token.record().id())
        .await
        .unwrap();
    assert_eq!(
        timeout(SECOND, watch.ended()).await,
        Ok(PrincipalEnd::Revoked)
    );
}

#[test]
fn streams_end_when_the_runtime_of_the_watcher_is_shut_down() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let first = runtime();
    let (fixture, _, watcher) = first.block_on(watched());
    let caller = first.block_on(fixture.principal());
    let watch = {
        let _entered = first.enter();
        watcher.watch(&caller).unwrap()
    };
    first.shutdown_timeout(5 * SECOND);
    let second = runtime();
    let end = second.block_on(async { timeout(SECOND, watch.ended()).await });
    assert_eq!(end, Ok(PrincipalEnd::Unavailable));
    // Another runtime starts the task again.
    second.block_on(async {
        let watch = watcher.watch(&caller).unwrap();
        fixture
            .tokens()
            .revoke(fixture.token.record().id())
            .await
            .unwrap();
        let end = timeout(5 * SECOND, watch.ended()).await;
        assert_eq!(end, Ok(PrincipalEnd::Revoked));
    });
}

#[test]
fn a_watch_outside_of_a_runtime_panics_and_does_not_stop_later_ones() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (fixture, _, watcher) = runtime.block_on(watched());
    let caller = runtime.block_on(fixture.principal());
    let outside = std::panic::AssertUnwindSafe(|| watcher.watch(&caller));
    std::panic::catch_unwind(outside).unwrap_err();
    runtime.block_on(async {
        let watch = watcher.watch(&caller).unwrap();
        fixture
            .tokens()
            .revoke(fixture.token.record().id())
            .await
            .unwrap();
        let end = timeout(5 * SECOND, watch.ended()).await;
        assert_eq!(end, Ok(PrincipalEnd::Revoked));
    });
}

/// Each lookup succeeds, so the principal is known to be accepted at most the bound ago.
#[tokio::test(start_paused = true)]
async fn continuous_changes_of_a_name_end_no_stream() {
    let (fixture, store, watcher) = watched().await;
    let watch = watcher.watch(&fixture.principal().await).unwrap();
    let id = fixture.token.record().id();
    for number in 0..300 {
        store.set(LATE);
        sleep(Duration::from_millis(50)).await;
        let name = format!("name {number}");
        let update = TokenUpdate::new().with_name(name);
        fixture.tokens().update(id, update).await.unwrap();
        store.release.notify_waiters();
        sleep(Duration::from_millis(50)).await;
        assert!(!watch.has_ended(), "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn lookups_that_hang_take_turns_with_others() {
    let (fixture, store, watcher) = watched().await;
    let mut hanging = Vec::new();
    for number in 0..8 {
        let new = NewToken::new(format!("token {number}"));
        let issued = fixture.tokens().create(new).await.unwrap();
        let caller = principal_of(&store, issued.expose_secret(), &fixture.clock).await;
        hanging.push((issued.record().id(), watcher.watch(&caller).unwrap()));
    }
    let watch = watcher.watch(&fixture.principal().await).unwrap();
    sleep(SECOND).await;
    let id = fixture.token.record().id();
    store.prompt.store(id.as_i64(), Ordering::SeqCst);
    store.set(HANGS);
    for (id, _) in &hanging {
        let update = TokenUpdate::new().with_description("changed");
        fixture.tokens().update(*id, update).await.unwrap();
    }
    sleep(3 * SECOND).await;
    fixture.tokens().revoke(id).await.unwrap();
    let end = timeout(6 * SECOND, watch.ended()).await;
    assert_eq!(end, Ok(PrincipalEnd::Revoked));
    assert!(hanging.iter().all(|(_, watch)| !watch.has_ended()));
}
