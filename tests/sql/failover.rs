//! A primary and a hot standby behind a name that moves: changes work within 5 s of the primary's
//! return, and lookups wherever a server answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use tower_service_token::store::{FeedState, PostgresStore, StoreErrorKind};

#[cfg(feature = "tracing")]
use crate::log::Log;
use crate::moving_name::MovingName;
#[cfg(feature = "tracing")]
use crate::moving_name::PASSWORD;
use crate::place::{Place, Store, Told, minted, write};
use crate::postgres::{Postgres, Stop};
use crate::site::{BOUND, Frozen, Site, cause, on_a_thread, server_of};
#[cfg(feature = "tracing")]
use crate::site::{PATIENCE, pause};
use crate::stall::Stopwatch;

/// The name leads to the standby for two seconds. Connections to it stay open when it moves back.
async fn lead_to_the_standby_and_back(site: &Site) -> Duration {
    site.find().await;
    site.name.move_to(site.standby.address());
    site.name.cut();
    let moved = Stopwatch::start();
    while moved.unstalled() < Duration::from_secs(2) {
        site.find().await;
        let cause = cause(&site.change().await.unwrap_err());
        let expected = "cannot set transaction read-write mode during recovery (SQLSTATE 0A000)";
        assert_eq!(cause, expected);
        site.store.check_writable().await.unwrap_err();
    }
    site.name.move_to(site.primary.address());
    let took = site.recovers().await;
    site.assert_recovered().await;
    site.store.check_writable().await.unwrap();
    site.find().await;
    took
}

pub(crate) async fn changes_work_again_after_the_name_led_to_a_standby(_: Place) {
    let site = Site::new().await;
    let took = lead_to_the_standby_and_back(&site).await;
    eprintln!("  name moved back: changes work after {took:.1?}");
}

pub(crate) async fn your_own_pool_follows_the_name_too(_: Place) {
    let site = Site::with(async |url| {
        let pool = PgPoolOptions::new().max_connections(8);
        let pool = pool.idle_timeout(None).max_lifetime(None);
        let pool = pool.connect(&url).await.unwrap();
        PostgresStore::with_pool(pool).await.unwrap()
    });
    let took = lead_to_the_standby_and_back(&site.await).await;
    eprintln!("  name moved back, your own pool: changes work after {took:.1?}");
}

/// The primary is stopped, the name moves to the standby, and the standby is promoted.
async fn fail_over(site: &mut Site) -> Duration {
    site.find().await;
    on_a_thread(&site.primary, |primary| primary.stop(Stop::Immediate)).await;
    cause(&site.change().await.unwrap_err());
    site.name.move_to(site.standby.address());
    site.find().await;
    cause(&site.change().await.unwrap_err());
    on_a_thread(&site.standby, Postgres::promote).await;
    let took = site.recovers().await;
    site.assert_recovered().await;
    site.find().await;
    site.primary = Arc::clone(&site.standby);
    took
}

pub(crate) async fn changes_work_after_a_standby_is_promoted(_: Place) {
    let took = fail_over(&mut Site::new().await).await;
    eprintln!("  promoted: changes work after {took:.1?}");
}

async fn crash_and_restart(site: &Site) -> Duration {
    site.find().await;
    on_a_thread(&site.primary, |primary| {
        primary.crash();
        primary.start();
    })
    .await;
    let took = site.recovers().await;
    site.assert_recovered().await;
    site.find().await;
    took
}

pub(crate) async fn changes_work_after_the_primary_is_killed_and_restarted(_: Place) {
    let took = crash_and_restart(&Site::new().await).await;
    eprintln!("  killed and restarted: changes work after {took:.1?}");
}

/// The primary hangs in the midst of lookups, and the standby is promoted in its place.
async fn hang_and_fail_over(site: &mut Site, told: &Told) -> Duration {
    told.take();
    let done = Arc::new(AtomicBool::new(false));
    let lookups = [(); 20].map(|()| {
        let (store, done) = (site.store.clone(), Arc::clone(&done));
        let digest = *site.record.digest();
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
    on_a_thread(&site.primary, Postgres::freeze).await;
    let frozen = Frozen(Arc::clone(&site.primary));
    site.name.move_to(site.standby.address());
    on_a_thread(&site.standby, Postgres::promote).await;
    let took = site.recovers().await;
    site.find().await;
    done.store(true, Ordering::SeqCst);
    for lookups in lookups {
        lookups.await.unwrap();
    }
    site.assert_recovered().await;
    told.until_everything().await;
    assert_eq!(site.store.feed_state(), FeedState::Connected);
    drop(frozen);
    site.primary = Arc::clone(&site.standby);
    took
}

pub(crate) async fn changes_work_after_a_primary_that_hangs_is_replaced(_: Place) {
    let mut site = Site::new().await;
    let told = Told::by(&site.store);
    told.until_everything().await;
    let took = hang_and_fail_over(&mut site, &told).await;
    eprintln!("  hung and replaced: changes work after {took:.1?}");
}

pub(crate) async fn a_server_that_hangs_as_a_connection_is_released_costs_no_place(place: Place) {
    let (_, url) = place.url();
    let name = MovingName::to(server_of(url)).await;
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.idle_timeout(None).max_lifetime(None);
    let pool = pool.connect_lazy(&name.url(url)).unwrap();
    let store = PostgresStore::with_pool(pool).await.unwrap();
    let store = Store::Postgres(store).with_deadline(BOUND);
    name.hold_syncs(true);
    store.insert(&write(&minted())).await.unwrap();
    let released = Stopwatch::start();
    store.insert(&write(&minted())).await.unwrap();
    let took = released.unstalled();
    assert!(took < BOUND, "{took:?}");
}

#[cfg(feature = "tracing")]
pub(crate) async fn a_feed_is_logged_once_when_it_is_lost_and_when_it_is_back(_: Place) {
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
    let site = Site::new().await;
    let state = || site.store.feed_state();
    assert_eq!(state(), FeedState::NotUsed);
    let told = Told::by(&site.store);
    assert_eq!(state(), FeedState::Lost);
    told.until_everything().await;
    assert_eq!(state(), FeedState::Connected);
    site.name.move_to(site.standby.address());
    site.name.cut();
    let moved = Stopwatch::start();
    while state() != FeedState::Lost {
        assert!(moved.unstalled() < PATIENCE, "the loss is not noticed");
        pause().await;
    }
    // Several attempts fail meanwhile: a standby does not let anybody listen.
    while moved.unstalled() < Duration::from_secs(2) {
        assert_eq!(state(), FeedState::Lost);
        site.find().await;
        pause().await;
    }
    site.name.move_to(site.primary.address());
    told.until_everything().await;
    assert_eq!(state(), FeedState::Connected);
    on_a_thread(&site.primary, |primary| primary.stop(Stop::Fast)).await;
    let stopped = Stopwatch::start();
    while state() != FeedState::Lost {
        assert!(stopped.unstalled() < PATIENCE, "the loss is not noticed");
        pause().await;
    }
}

pub(crate) async fn names_that_move_twenty_times(_: Place) {
    let site = Site::new().await;
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        longest = longest.max(lead_to_the_standby_and_back(&site).await);
    }
    eprintln!("  name moved back 20 times: changes work after {longest:.1?} at most");
}

pub(crate) async fn primaries_that_fail_twenty_times(_: Place) {
    let mut site = Site::new().await;
    let told = Told::by(&site.store);
    let mut longest = [Duration::ZERO; 3];
    for round in 0..20 {
        longest[0] = longest[0].max(crash_and_restart(&site).await);
        let which = 1 + round % 2;
        let took = if which == 1 {
            fail_over(&mut site).await
        } else {
            hang_and_fail_over(&mut site, &told).await
        };
        longest[which] = longest[which].max(took);
        let standby = on_a_thread(&site.primary, |primary| primary.standby().unwrap()).await;
        site.standby = Arc::new(standby);
        site.wait_for_standby().await;
    }
    let [killed, promoted, hung] = longest;
    eprintln!(
        "  changes work after {killed:.1?} at most (killed, 20 times), {promoted:.1?} (promoted, 10 \
         times), {hung:.1?} (hung and replaced, 10 times)"
    );
}
