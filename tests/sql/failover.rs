//! Failover between a primary and a hot standby behind a proxy. Changes succeed within 5 s after a primary
//! is available, and lookups while any server is available.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use test_support::postgres::{Postgres, Stop, SuspendedServer, on_blocking_thread};
use test_support::stall::Stopwatch;
use tests::log::Log;
use tower_service_token::store::sql::PostgresStore;
use tower_service_token::store::{FeedStatus, StoreErrorKind};

use crate::database::{Changes, Store, TestDatabase, minted, write};
use crate::failover_proxy::FailoverProxy;
#[cfg(feature = "tracing")]
use crate::failover_proxy::PASSWORD;
use crate::replicas::{MAX_RECOVERY, Replicas, cause, server_of};
#[cfg(feature = "tracing")]
use crate::replicas::{TIMEOUT, pause};

/// Moves the proxy to the standby for two seconds. Connections to the standby stay open when it moves back.
async fn move_to_standby_and_back(replicas: &Replicas) -> Duration {
    replicas.find().await;
    replicas.proxy.move_to(replicas.standby.address());
    replicas.proxy.cut();
    let moved = Stopwatch::start();
    while moved.elapsed_without_stalls() < Duration::from_secs(2) {
        replicas.find().await;
        let cause = cause(&replicas.change().await.unwrap_err());
        let expected = "cannot set transaction read-write mode during recovery (SQLSTATE 0A000)";
        assert_eq!(cause, expected);
        replicas.store.check_writable().await.unwrap_err();
    }
    replicas.proxy.move_to(replicas.primary.address());
    let elapsed = replicas.wait_for_recovery().await;
    replicas.assert_recovered().await;
    replicas.store.check_writable().await.unwrap();
    replicas.find().await;
    elapsed
}

pub(crate) async fn recovers_after_the_proxy_moves_to_a_standby_and_back(_: TestDatabase) {
    let replicas = Replicas::new().await;
    let elapsed = move_to_standby_and_back(&replicas).await;
    eprintln!("  proxy moved back: changes succeed after {elapsed:.1?}");
}

pub(crate) async fn application_pools_follow_the_proxy(_: TestDatabase) {
    let replicas = Replicas::with(async |url| {
        let pool = PgPoolOptions::new().max_connections(8);
        let pool = pool.idle_timeout(None).max_lifetime(None);
        let pool = pool.connect(&url).await.unwrap();
        PostgresStore::with_pool(pool).await.unwrap()
    });
    let elapsed = move_to_standby_and_back(&replicas.await).await;
    eprintln!("  proxy moved back, pool of the application: changes succeed after {elapsed:.1?}");
}

/// Stops the primary, moves the proxy to the standby and promotes the standby.
async fn fail_over(replicas: &mut Replicas) -> Duration {
    replicas.find().await;
    on_blocking_thread(&replicas.primary, |primary| primary.stop(Stop::Immediate)).await;
    cause(&replicas.change().await.unwrap_err());
    replicas.proxy.move_to(replicas.standby.address());
    replicas.find().await;
    cause(&replicas.change().await.unwrap_err());
    on_blocking_thread(&replicas.standby, Postgres::promote).await;
    let elapsed = replicas.wait_for_recovery().await;
    replicas.assert_recovered().await;
    replicas.find().await;
    replicas.primary = Arc::clone(&replicas.standby);
    elapsed
}

pub(crate) async fn recovers_after_a_promotion(_: TestDatabase) {
    let elapsed = fail_over(&mut Replicas::new().await).await;
    eprintln!("  promoted: changes succeed after {elapsed:.1?}");
}

async fn crash_and_restart(replicas: &Replicas) -> Duration {
    replicas.find().await;
    on_blocking_thread(&replicas.primary, |primary| {
        primary.crash();
        primary.start();
    })
    .await;
    let elapsed = replicas.wait_for_recovery().await;
    replicas.assert_recovered().await;
    replicas.find().await;
    elapsed
}

pub(crate) async fn recovers_after_the_primary_restarts(_: TestDatabase) {
    let elapsed = crash_and_restart(&Replicas::new().await).await;
    eprintln!("  killed and restarted: changes succeed after {elapsed:.1?}");
}

/// Freezes the primary during lookups and promotes the standby.
async fn hang_and_fail_over(replicas: &mut Replicas, changes: &Changes) -> Duration {
    changes.take();
    let done = Arc::new(AtomicBool::new(false));
    let lookups = [(); 20].map(|()| {
        let (store, done) = (replicas.store.clone(), Arc::clone(&done));
        let digest = *replicas.record.digest();
        tokio::spawn(async move {
            while !done.load(Ordering::SeqCst) {
                match store.find_by_digest(&digest).await {
                    Ok(found) => assert!(found.is_some(), "a valid token was not found"),
                    Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable),
                }
            }
        })
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let suspended = SuspendedServer::suspend(&replicas.primary).await;
    replicas.proxy.move_to(replicas.standby.address());
    on_blocking_thread(&replicas.standby, Postgres::promote).await;
    let elapsed = replicas.wait_for_recovery().await;
    replicas.find().await;
    done.store(true, Ordering::SeqCst);
    for lookups in lookups {
        lookups.await.unwrap();
    }
    replicas.assert_recovered().await;
    changes.wait_for_everything().await;
    assert_eq!(replicas.store.feed_status(), FeedStatus::Connected);
    drop(suspended);
    replicas.primary = Arc::clone(&replicas.standby);
    elapsed
}

pub(crate) async fn recovers_after_a_hanging_primary_is_replaced(_: TestDatabase) {
    let mut replicas = Replicas::new().await;
    let changes = Changes::of(&replicas.store);
    changes.wait_for_everything().await;
    let elapsed = hang_and_fail_over(&mut replicas, &changes).await;
    eprintln!("  hung and replaced: changes succeed after {elapsed:.1?}");
}

pub(crate) async fn hanging_release_does_not_occupy_the_pool(database: TestDatabase) {
    let (_, url) = database.url();
    let proxy = FailoverProxy::start(server_of(url)).await;
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.idle_timeout(None).max_lifetime(None);
    let pool = pool.connect_lazy(&proxy.url(url)).unwrap();
    let store = PostgresStore::with_pool(pool).await.unwrap();
    let store = Store::Postgres(store).with_deadline(MAX_RECOVERY);
    proxy.hold_syncs(true);
    store.insert(&write(&minted())).await.unwrap();
    let released = Stopwatch::start();
    store.insert(&write(&minted())).await.unwrap();
    let elapsed = released.elapsed_without_stalls();
    assert!(elapsed < MAX_RECOVERY, "{elapsed:?}");
}

#[cfg(feature = "tracing")]
pub(crate) async fn logs_feed_loss_and_recovery_once(_: TestDatabase) {
    // The log subscriber is per thread, so all tasks run on one thread.
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
    let [lost, restored, lost_again] = lines[..] else {
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
        restored.trim_start(),
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
    let replicas = Replicas::new().await;
    let state = || replicas.store.feed_status();
    assert_eq!(state(), FeedStatus::NotUsed);
    let changes = Changes::of(&replicas.store);
    assert_eq!(state(), FeedStatus::Lost);
    changes.wait_for_everything().await;
    assert_eq!(state(), FeedStatus::Connected);
    replicas.proxy.move_to(replicas.standby.address());
    replicas.proxy.cut();
    let moved = Stopwatch::start();
    while state() != FeedStatus::Lost {
        assert!(
            moved.elapsed_without_stalls() < TIMEOUT,
            "the feed loss is not detected"
        );
        pause().await;
    }
    // Several attempts to reconnect fail in this time, because a standby rejects `LISTEN`.
    while moved.elapsed_without_stalls() < Duration::from_secs(2) {
        assert_eq!(state(), FeedStatus::Lost);
        replicas.find().await;
        pause().await;
    }
    replicas.proxy.move_to(replicas.primary.address());
    changes.wait_for_everything().await;
    assert_eq!(state(), FeedStatus::Connected);
    on_blocking_thread(&replicas.primary, |primary| primary.stop(Stop::Fast)).await;
    let stopped = Stopwatch::start();
    while state() != FeedStatus::Lost {
        assert!(
            stopped.elapsed_without_stalls() < TIMEOUT,
            "the feed loss is not detected"
        );
        pause().await;
    }
}

pub(crate) async fn recovers_when_the_proxy_moves_twenty_times(_: TestDatabase) {
    let replicas = Replicas::new().await;
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        longest = longest.max(move_to_standby_and_back(&replicas).await);
    }
    eprintln!("  proxy moved back 20 times: changes succeed after {longest:.1?} at most");
}

pub(crate) async fn recovers_when_primaries_fail_twenty_times(_: TestDatabase) {
    let mut replicas = Replicas::new().await;
    let changes = Changes::of(&replicas.store);
    let mut longest = [Duration::ZERO; 3];
    for round in 0..20 {
        longest[0] = longest[0].max(crash_and_restart(&replicas).await);
        let index = 1 + round % 2;
        let elapsed = if index == 1 {
            fail_over(&mut replicas).await
        } else {
            hang_and_fail_over(&mut replicas, &changes).await
        };
        longest[index] = longest[index].max(elapsed);
        let standby =
            on_blocking_thread(&replicas.primary, |primary| primary.standby().unwrap()).await;
        replicas.standby = Arc::new(standby);
        replicas.wait_for_standby().await;
    }
    let [killed, promoted, hung] = longest;
    eprintln!(
        "  changes succeed after {killed:.1?} at most (killed, 20 times), {promoted:.1?} (promoted, 10 \
         times), {hung:.1?} (hung and replaced, 10 times)"
    );
}
