//! A principal ends with its token.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tower_service_token::Principal;
use tower_service_token::lifecycle::{NewToken, TokenUpdate};
use tower_service_token::streams::{PrincipalEnd, PrincipalWatch, PrincipalWatcher, StreamLimits};

use super::fixture::{Fixture, WithoutFeed, principal_of};

const SECOND: Duration = Duration::from_secs(1);

/// Far longer than a watcher takes if the store reports changes, and shorter than its bound.
const AT_ONCE: Duration = Duration::from_millis(100);

fn watcher(fixture: &Fixture) -> PrincipalWatcher {
    PrincipalWatcher::builder(fixture.store.clone())
        .with_clock(fixture.clock.clone())
        .build()
}

/// Waits for the end of the first lookup.
async fn settle(watch: &PrincipalWatch) {
    sleep(AT_ONCE).await;
    assert!(!watch.has_ended(), "{watch:?}");
}

/// Advances both clocks, step by step, and returns when and why the principal ended.
async fn ends_within(
    fixture: &Fixture,
    watch: &PrincipalWatch,
    limit: Duration,
) -> Option<(Duration, PrincipalEnd)> {
    let step = Duration::from_millis(250);
    let mut passed = Duration::ZERO;
    while passed < limit {
        if let Ok(end) = timeout(step, watch.ended()).await {
            return Some((passed, end));
        }
        fixture.clock.advance(step);
        passed += step;
    }
    timeout(AT_ONCE, watch.ended())
        .await
        .ok()
        .map(|end| (passed, end))
}

async fn end_after(change: impl AsyncFnOnce(&Fixture)) -> Option<PrincipalEnd> {
    let fixture = Fixture::new().await;
    let watch = watcher(&fixture).watch(&fixture.principal().await).unwrap();
    settle(&watch).await;
    change(&fixture).await;
    timeout(AT_ONCE, watch.ended()).await.ok()
}

#[tokio::test(start_paused = true)]
async fn a_principal_ends_at_once_with_its_token() {
    let id = |fixture: &Fixture| fixture.token.record().id();
    let revoked = end_after(async |fixture| {
        fixture.tokens().revoke(id(fixture)).await.unwrap();
    });
    assert_eq!(revoked.await, Some(PrincipalEnd::Revoked));
    let disabled = end_after(async |fixture| {
        fixture.tokens().disable(id(fixture)).await.unwrap();
    });
    assert_eq!(disabled.await, Some(PrincipalEnd::Disabled));
    let rotated = end_after(async |fixture| {
        let _ = fixture
            .tokens()
            .rotate(id(fixture), Duration::ZERO)
            .await
            .unwrap();
    });
    assert_eq!(rotated.await, Some(PrincipalEnd::Unknown));
    let later = end_after(async |fixture| {
        use tower_service_token::clock::Clock;
        let update = TokenUpdate::new().with_not_before(fixture.clock.now() + SECOND);
        fixture.tokens().update(id(fixture), update).await.unwrap();
    });
    assert_eq!(later.await, Some(PrincipalEnd::NotYetValid));
    for update in [
        TokenUpdate::new().with_scopes(["jobs:read"]),
        TokenUpdate::new().with_roles(["admin"]),
        TokenUpdate::new().with_subject("someone"),
        TokenUpdate::new().with_label("tenant", "other"),
    ] {
        let changed = end_after(async |fixture| {
            fixture.tokens().update(id(fixture), update).await.unwrap();
        });
        assert_eq!(changed.await, Some(PrincipalEnd::RightsChanged));
    }
}

#[tokio::test(start_paused = true)]
async fn a_principal_ends_with_a_token_that_is_deleted_between_two_lookups() {
    let fixture = Fixture::new().await;
    let store = WithoutFeed::new(&fixture.store);
    let watcher = PrincipalWatcher::builder(store)
        .with_clock(fixture.clock.clone())
        .build();
    let watch = watcher.watch(&fixture.principal().await).unwrap();
    settle(&watch).await;
    let id = fixture.token.record().id();
    fixture.tokens().revoke(id).await.unwrap();
    fixture.tokens().purge(Duration::ZERO).await.unwrap();
    let ended = ends_within(&fixture, &watch, 10 * SECOND).await;
    assert_eq!(ended.unwrap().1, PrincipalEnd::Unknown);
}

#[tokio::test(start_paused = true)]
async fn other_changes_do_not_end_a_principal() {
    let renamed = end_after(async |fixture| {
        let id = fixture.token.record().id();
        let update = TokenUpdate::new()
            .with_name("renamed")
            .with_description("a dashboard");
        fixture.tokens().update(id, update).await.unwrap();
    });
    assert_eq!(renamed.await, None);
    let another = end_after(async |fixture| {
        let other = fixture
            .tokens()
            .create(NewToken::new("other"))
            .await
            .unwrap();
        fixture.tokens().revoke(other.record().id()).await.unwrap();
    });
    assert_eq!(another.await, None);
    let rotated = end_after(async |fixture| {
        let id = fixture.token.record().id();
        let _ = fixture.tokens().rotate(id, 60 * SECOND).await.unwrap();
    });
    assert_eq!(rotated.await, None);
}

#[tokio::test(start_paused = true)]
async fn expiry_needs_no_notification() {
    // 60 s after the start of the clock.
    let expiry = "2026-11-18T11:07:40Z".parse().unwrap();
    let fixture = Fixture::with(NewToken::new("dashboard").with_expiry(expiry)).await;
    let lifetime = {
        use tower_service_token::clock::Clock;
        let record = fixture.token.record();
        record
            .expires_at()
            .unwrap()
            .duration_since(fixture.clock.now())
            .unwrap()
    };
    let watch = watcher(&fixture).watch(&fixture.principal().await).unwrap();
    let (passed, end) = ends_within(&fixture, &watch, lifetime + SECOND)
        .await
        .unwrap();
    assert_eq!(end, PrincipalEnd::Expired);
    assert!(
        (lifetime..=lifetime + SECOND).contains(&passed),
        "{passed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_expiry_replaces_the_one_at_the_start_of_the_stream() {
    let expiry = "2026-11-18T11:07:40Z".parse().unwrap();
    let fixture = Fixture::with(NewToken::new("dashboard").with_expiry(expiry)).await;
    let watch = watcher(&fixture).watch(&fixture.principal().await).unwrap();
    settle(&watch).await;
    let update = TokenUpdate::new().with_expiry("2026-11-18T12:07:40Z".parse().unwrap());
    fixture
        .tokens()
        .update(fixture.token.record().id(), update)
        .await
        .unwrap();
    assert_eq!(ends_within(&fixture, &watch, 300 * SECOND).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_secret_ends_with_its_grace_period_and_the_new_one_does_not() {
    let fixture = Fixture::new().await;
    let watcher = watcher(&fixture);
    let old = watcher.watch(&fixture.principal().await).unwrap();
    settle(&old).await;
    let id = fixture.token.record().id();
    let issued = fixture.tokens().rotate(id, 20 * SECOND).await.unwrap();
    let new = principal_of(&fixture.store, issued.expose_secret(), &fixture.clock).await;
    let new = watcher.watch(&new).unwrap();
    let (passed, end) = ends_within(&fixture, &old, 30 * SECOND).await.unwrap();
    assert_eq!(end, PrincipalEnd::Superseded);
    assert!((20 * SECOND..=21 * SECOND).contains(&passed), "{passed:?}");
    assert_eq!(ends_within(&fixture, &new, 60 * SECOND).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_principal_of_a_stale_cache_ends_after_the_first_lookup() {
    let fixture = Fixture::new().await;
    let stale = fixture.principal().await;
    fixture
        .tokens()
        .revoke(fixture.token.record().id())
        .await
        .unwrap();
    let watch = watcher(&fixture).watch(&stale).unwrap();
    let end = timeout(AT_ONCE, watch.ended()).await;
    assert_eq!(end, Ok(PrincipalEnd::Revoked));
    // An ended principal is not shared with a later stream.
    fixture
        .tokens()
        .revoke(fixture.token.record().id())
        .await
        .unwrap();
    let again = watcher(&fixture).watch(&stale).unwrap();
    assert_eq!(
        timeout(AT_ONCE, again.ended()).await,
        Ok(PrincipalEnd::Revoked)
    );
}

#[tokio::test(start_paused = true)]
async fn without_change_feed_a_revocation_ends_streams_within_the_bound() {
    for bound in [1, 2, 10, 60] {
        let bound = bound * SECOND;
        let fixture = Fixture::new().await;
        let watcher = PrincipalWatcher::builder(WithoutFeed::new(&fixture.store))
            .with_clock(fixture.clock.clone())
            .with_bound(bound)
            .build();
        let watch = watcher.watch(&fixture.principal().await).unwrap();
        assert_eq!(ends_within(&fixture, &watch, 5 * bound).await, None);
        fixture
            .tokens()
            .revoke(fixture.token.record().id())
            .await
            .unwrap();
        let (passed, end) = ends_within(&fixture, &watch, bound).await.unwrap();
        assert_eq!(end, PrincipalEnd::Revoked);
        assert!(passed <= bound / 2 + SECOND, "{passed:?} of {bound:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_of_one_token_share_their_lookups() {
    let fixture = Fixture::new().await;
    let store = WithoutFeed::new(&fixture.store);
    let watcher = PrincipalWatcher::builder(store.clone())
        .with_clock(fixture.clock.clone())
        .with_limits(StreamLimits::new().with_per_token(5000))
        .build();
    let caller = fixture.principal().await;
    let opened: Vec<_> = (0..5000).map(|_| watcher.watch(&caller).unwrap()).collect();
    sleep(60 * SECOND).await;
    let lookups = store.lookups();
    assert!((10..=14).contains(&lookups), "{lookups} lookups in 60 s");
    fixture
        .tokens()
        .revoke(fixture.token.record().id())
        .await
        .unwrap();
    for watch in &opened {
        assert_eq!(watch.ended().await, PrincipalEnd::Revoked);
    }
    // Nothing is looked up any more.
    let lookups = store.lookups();
    sleep(60 * SECOND).await;
    assert_eq!(store.lookups(), lookups);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_not_looked_up_after_their_streams_ended() {
    let fixture = Fixture::new().await;
    let store = WithoutFeed::new(&fixture.store);
    let watcher = PrincipalWatcher::builder(store.clone())
        .with_clock(fixture.clock.clone())
        .build();
    let caller = fixture.principal().await;
    for _ in 0..3 {
        let before = store.lookups();
        let watch = watcher.watch(&caller).unwrap();
        sleep(20 * SECOND).await;
        assert!(store.lookups() > before + 2);
        drop(watch);
        let after = store.lookups();
        sleep(60 * SECOND).await;
        assert_eq!(store.lookups(), after);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_outlives_its_watcher() {
    let fixture = Fixture::new().await;
    let watch = watcher(&fixture).watch(&fixture.principal().await).unwrap();
    sleep(60 * SECOND).await;
    fixture
        .tokens()
        .revoke(fixture.token.record().id())
        .await
        .unwrap();
    assert_eq!(
        timeout(AT_ONCE, watch.ended()).await,
        Ok(PrincipalEnd::Revoked)
    );
}

#[tokio::test(start_paused = true)]
async fn thousands_of_tokens_end_promptly_in_one_change() {
    let fixture = Fixture::new().await;
    let watcher = watcher(&fixture);
    let mut opened = Vec::new();
    for number in 0..2000 {
        let new = NewToken::new(format!("token {number}"));
        let issued = fixture.tokens().create(new).await.unwrap();
        let caller: Principal =
            principal_of(&fixture.store, issued.expose_secret(), &fixture.clock).await;
        opened.push((issued.record().id(), watcher.watch(&caller).unwrap()));
    }
    sleep(SECOND).await;
    for (id, _) in opened.iter().step_by(2) {
        fixture.tokens().revoke(*id).await.unwrap();
    }
    let started = Instant::now();
    for (_, watch) in opened.iter().step_by(2) {
        assert_eq!(watch.ended().await, PrincipalEnd::Revoked);
    }
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
    sleep(60 * SECOND).await;
    assert!(
        opened
            .iter()
            .skip(1)
            .step_by(2)
            .all(|(_, watch)| !watch.has_ended())
    );
}
