//! A primary and a hot standby behind a name that moves: changes work within 5 s of the primary's
//! return, and lookups wherever a server answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use test_support::postgres::{Postgres, Stop};
use test_support::stall::Stopwatch;
use tests::log::Log;
use tower_service_token::store::sql::PostgresStore;
use tower_service_token::store::{FeedStatus, StoreErrorKind};

use crate::failover_pair::{BOUND, FailoverPair, Frozen, cause, on_a_thread, server_of};
#[cfg(feature = "tracing")]
use crate::failover_pair::{WAIT_TIMEOUT, pause};
#[cfg(feature = "tracing")]
use crate::failover_proxy::FailoverProxy;
#[cfg(feature = "tracing")]
use crate::failover_proxy::PASSWORD;
use crate::test_database::{RecordingListener, Store, TestDatabase, minted, write};

/// The name leads to the standby for two seconds. Connections to it stay open when it moves back.
async fn move_name_to_standby_and_back(pair: &FailoverPair) -> Duration {
    pair.find().await;
    pair.name.move_to(pair.standby.address());
    pair.name.cut();
    let moved = Stopwatch::start();
    while moved.elapsed_without_stalls() < Duration::from_secs(2) {
        pair.find().await;
        let cause = cause(&pair.change().await.unwrap_err());
        let expected = "cannot set transaction read-write mode during recovery (SQLSTATE 0A000)";
        assert_eq!(cause, expected);
        pair.store.check_writable().await.unwrap_err();
    }
    pair.name.move_to(pair.primary.address());
    let took = pair.recovers().await;
    pair.assert_recovered().await;
    pair.store.check_writable().await.unwrap();
    pair.find().await;
    took
}

pub(crate) async fn writes_recover_after_the_name_pointed_to_a_standby(_: TestDatabase) {
    let pair = FailoverPair::new().await;
    let took = move_name_to_standby_and_back(&pair).await;
    eprintln!("  name moved back: changes work after {took:.1?}");
}

pub(crate) async fn user_supplied_pool_follows_the_name(_: TestDatabase) {
    let pair = FailoverPair::with(async |url| {
        let pool = PgPoolOptions::new().max_connections(8);
        let pool = pool.idle_timeout(None).max_lifetime(None);
        let pool = pool.connect(&url).await.unwrap();
        PostgresStore::with_pool(pool).await.unwrap()
    });
    let took = move_name_to_standby_and_back(&pair.await).await;
    eprintln!("  name moved back, your own pool: changes work after {took:.1?}");
}

/// The primary is stopped, the name moves to the standby, and the standby is promoted.
async fn fail_over(pair: &mut FailoverPair) -> Duration {
    pair.find().await;
    on_a_thread(&pair.primary, |primary| primary.stop(Stop::Immediate)).await;
    cause(&pair.change().await.unwrap_err());
    pair.name.move_to(pair.standby.address());
    pair.find().await;
    cause(&pair.change().await.unwrap_err());
    on_a_thread(&pair.standby, Postgres::promote).await;
    let took = pair.recovers().await;
    pair.assert_recovered().await;
    pair.find().await;
    pair.primary = Arc::clone(&pair.standby);
    took
}

pub(crate) async fn writes_recover_after_a_standby_is_promoted(_: TestDatabase) {
    let took = fail_over(&mut FailoverPair::new().await).await;
    eprintln!("  promoted: changes work after {took:.1?}");
}

async fn crash_and_restart(pair: &FailoverPair) -> Duration {
    pair.find().await;
    on_a_thread(&pair.primary, |primary| {
        primary.crash();
        primary.start();
    })
    .await;
    let took = pair.recovers().await;
    pair.assert_recovered().await;
    pair.find().await;
    took
}

pub(crate) async fn writes_recover_after_the_primary_is_killed_and_restarted(_: TestDatabase) {
    let took = crash_and_restart(&FailoverPair::new().await).await;
    eprintln!("  killed and restarted: changes work after {took:.1?}");
}

/// The primary hangs in the midst of lookups, and the standby is promoted instead.
async fn hang_and_fail_over(pair: &mut FailoverPair, listener: &RecordingListener) -> Duration {
    listener.take();
    let done = Arc::new(AtomicBool::new(false));
    let lookups = [(); 20].map(|()| {
        let (store, done) = (pair.store.clone(), Arc::clone(&done));
        let digest = *pair.record.digest();
        tokio::spawn(async move {
            while !done.load(Ordering::SeqCst) {
                match store.find_by_digest(&digest).await {
                    Ok(found) => assert!(found.is_some(), "a good token was not found"),
                    Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable),
                }
            }
        })
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    on_a_thread(&pair.primary, Postgres::freeze).await;
    let frozen = Frozen(Arc::clone(&pair.primary));
    pair.name.move_to(pair.standby.address());
    on_a_thread(&pair.standby, Postgres::promote).await;
    let took = pair.recovers().await;
    pair.find().await;
    done.store(true, Ordering::SeqCst);
    for lookups in lookups {
        lookups.await.unwrap();
    }
    pair.assert_recovered().await;
    listener.until_everything().await;
    assert_eq!(pair.store.feed_status(), FeedStatus::Connected);
    drop(frozen);
    pair.primary = Arc::clone(&pair.standby);
    took
}

pub(crate) async fn writes_recover_after_a_hanging_primary_is_replaced(_: TestDatabase) {
    let mut pair = FailoverPair::new().await;
    let listener = RecordingListener::subscribed_to(&pair.store);
    listener.until_everything().await;
    let took = hang_and_fail_over(&mut pair, &listener).await;
    eprintln!("  hung and replaced: changes work after {took:.1?}");
}

pub(crate) async fn hanging_release_does_not_exhaust_the_pool(database: TestDatabase) {
    let (_, url) = database.url();
    let name = FailoverProxy::start(server_of(url)).await;
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.idle_timeout(None).max_lifetime(None);
    let pool = pool.connect_lazy(&name.url(url)).unwrap();
    let store = PostgresStore::with_pool(pool).await.unwrap();
    let store = Store::Postgres(store).with_deadline(BOUND);
    name.hold_syncs(true);
    store.insert(&write(&minted())).await.unwrap();
    let released = Stopwatch::start();
    store.insert(&write(&minted())).await.unwrap();
    let took = released.elapsed_without_stalls();
    assert!(took < BOUND, "{took:?}");
}

#[cfg(feature = "tracing")]
pub(crate) async fn logs_feed_loss_and_recovery_once(_: TestDatabase) {
    // All tasks on one thread, whose log is read.
    let logging = tokio::task::spawn_blocking(|| {
        let log = Log::default();
        let guard = log.start();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(lose_the_feed());
        drop((runtime, guard));
        log.text()
    });
    let text = logging.await.unwrap();
    let lines = text.lines().filter(|line| line.contains("change feed "));
    let lines: Vec<_> = lines.collect();
    let [lost, back, lost_again] = lines[..] else {
        panic!("{lines:#?}");
    };
    for lost in [lost, lost_again] {
        assert!(
            lost.trim_start()
                .starts_with("WARN tower_service_token: change feed lost")
        );
        assert!(lost.contains("cause="), "{lost}");
    }
    assert_eq!(
        back.trim_start(),
        "INFO tower_service_token: change feed restored"
    );
    for line in lines {
        assert!(
            !line.contains(PASSWORD) && !line.contains("postgres://"),
            "{line}"
        );
    }
}

#[cfg(feature = "tracing")]
async fn lose_the_feed() {
    let pair = FailoverPair::new().await;
    let state = || pair.store.feed_status();
    assert_eq!(state(), FeedStatus::NotUsed);
    let listener = RecordingListener::subscribed_to(&pair.store);
    assert_eq!(state(), FeedStatus::Lost);
    listener.until_everything().await;
    assert_eq!(state(), FeedStatus::Connected);
    pair.name.move_to(pair.standby.address());
    pair.name.cut();
    let moved = Stopwatch::start();
    while state() != FeedStatus::Lost {
        assert!(
            moved.elapsed_without_stalls() < WAIT_TIMEOUT,
            "the loss is not noticed"
        );
        pause().await;
    }
    // Several attempts fail meanwhile: a standby does not let anybody listen.
    while moved.elapsed_without_stalls() < Duration::from_secs(2) {
        assert_eq!(state(), FeedStatus::Lost);
        pair.find().await;
        pause().await;
    }
    pair.name.move_to(pair.primary.address());
    listener.until_everything().await;
    assert_eq!(state(), FeedStatus::Connected);
    on_a_thread(&pair.primary, |primary| primary.stop(Stop::Fast)).await;
    let stopped = Stopwatch::start();
    while state() != FeedStatus::Lost {
        assert!(
            stopped.elapsed_without_stalls() < WAIT_TIMEOUT,
            "the loss is not noticed"
        );
        pause().await;
    }
}

pub(crate) async fn writes_recover_from_twenty_name_moves(_: TestDatabase) {
    let pair = FailoverPair::new().await;
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        longest = longest.max(move_name_to_standby_and_back(&pair).await);
    }
    eprintln!("  name moved back 20 times: changes work after {longest:.1?} at most");
}

pub(crate) async fn writes_recover_from_twenty_primary_failures(_: TestDatabase) {
    let mut pair = FailoverPair::new().await;
    let listener = RecordingListener::subscribed_to(&pair.store);
    let mut longest = [Duration::ZERO; 3];
    for round in 0..20 {
        longest[0] = longest[0].max(crash_and_restart(&pair).await);
        let which = 1 + round % 2;
        let took = if which == 1 {
            fail_over(&mut pair).await
        } else {
            hang_and_fail_over(&mut pair, &listener).await
        };
        longest[which] = longest[which].max(took);
        let standby = on_a_thread(&pair.primary, |primary| primary.standby().unwrap()).await;
        pair.standby = Arc::new(standby);
        pair.wait_for_standby().await;
    }
    let [killed, promoted, hung] = longest;
    eprintln!(
        "  changes work after {killed:.1?} at most (killed, 20 times), {promoted:.1?} (promoted, 10 \
         times), {hung:.1?} (hung and replaced, 10 times)"
    );
}
