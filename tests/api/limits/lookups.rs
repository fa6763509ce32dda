//! Rate limits and queueing of a layer's lookups, in paused time.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use http::Response;
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep};
use tower_service_token::limits::FailureLimit;
use tower_service_token::testing::Fault;

use crate::limits::{DAMAGED, LimitedService, SECOND, limit, slow_limit, unknown};

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));
const MILLISECOND: Duration = Duration::from_millis(1);

/// Sends unknown tokens from [`ADDRESS`] for a second, and uses 50 valid tokens for the first time
/// from `address`.
///
/// Returns the number of accepted valid tokens, and the number of unknown tokens that were rejected
/// without a lookup.
async fn accepted_during_flood(per_second: usize, address: IpAddr) -> (usize, usize) {
    let service = LimitedService::new(limit());
    let (mut unknown_tokens, mut good) = (JoinSet::new(), JoinSet::new());
    let started = Instant::now();
    for millisecond in 0..1_000 {
        for _ in 0..per_second * (millisecond + 1) / 1_000 - per_second * millisecond / 1_000 {
            unknown_tokens.spawn(service.send(ADDRESS, &unknown()));
        }
        if millisecond % 20 == 10 {
            good.spawn(service.send(address, &service.token()));
        }
        sleep(MILLISECOND).await;
    }
    let good = good.join_all().await;
    let unknown_tokens = unknown_tokens.join_all().await;
    let seconds = started.elapsed().as_secs_f64();
    let lookups = u32::try_from(service.store.calls()).unwrap();
    assert!(
        f64::from(lookups) <= 4_000.0 * seconds + 400.0,
        "{lookups} in {seconds} s"
    );
    let rejected = unknown_tokens
        .iter()
        .filter(|response| response.status() == 429);
    for response in &unknown_tokens {
        assert!(response.status() == 401 || retry_after(response) == "1");
    }
    let rejected = rejected.count();
    (
        good.iter().filter(|it| it.status() == 200).count(),
        rejected,
    )
}

fn retry_after(response: &Response<String>) -> &str {
    let header = response.headers().get("retry-after");
    header.map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn flood_of_300_per_second_does_not_limit_its_address() {
    assert_eq!(accepted_during_flood(300, ADDRESS).await, (50, 0));
}

#[tokio::test(start_paused = true)]
async fn flood_of_3000_per_second_does_not_limit_its_address() {
    assert_eq!(accepted_during_flood(3_000, ADDRESS).await, (50, 0));
}

#[tokio::test(start_paused = true)]
async fn flood_of_20000_per_second_does_not_limit_other_addresses() {
    let (accepted, rejected) = accepted_during_flood(20_000, OTHER).await;
    assert_eq!(accepted, 50);
    assert!(rejected > 10_000, "{rejected}");
}

#[tokio::test(start_paused = true)]
async fn accepted_tokens_skip_the_queue_for_24_hours() {
    let service = LimitedService::new(slow_limit());
    let good = service.token();
    assert_eq!(service.timed(ADDRESS, &good).await, (200, Duration::ZERO));
    for _ in 0..3 {
        let unknown = service.timed(ADDRESS, &unknown()).await;
        assert!(
            unknown.0 == 401 && unknown.1 > Duration::ZERO,
            "{unknown:?}"
        );
        for address in [ADDRESS, OTHER] {
            assert_eq!(service.timed(address, &good).await, (200, Duration::ZERO));
        }
    }
    advance(SECOND * (24 * 3600 - 1)).await;
    assert_eq!(service.timed(ADDRESS, &good).await, (200, Duration::ZERO));
    advance(24 * 3600 * SECOND).await;
    // An evicted token waits in the queue again.
    service.timed(ADDRESS, &unknown()).await;
    let (status, waited) = service.timed(ADDRESS, &good).await;
    assert!(
        status == 200 && waited > Duration::ZERO,
        "{status} {waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn rejected_tokens_are_no_longer_remembered() {
    use tower_service_token::ServiceTokens;

    let service = LimitedService::new(slow_limit());
    let token = crate::limits::mint();
    let record = tower_service_token::store::TokenRecord::from(&token);
    service.memory.insert(record).unwrap();
    let secret = token.expose_secret();
    assert_eq!(service.timed(ADDRESS, secret).await.0, 200);
    let tokens = ServiceTokens::new(service.memory.clone());
    tokens.revoke(token.id()).await.unwrap();
    assert_eq!(service.timed(ADDRESS, secret).await, (401, Duration::ZERO));
    let (status, waited) = service.timed(ADDRESS, secret).await;
    assert!(
        status == 401 && waited > Duration::ZERO,
        "{status} {waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn remembers_only_accepted_tokens_and_at_most_the_maximum() {
    let service = LimitedService::new(slow_limit().with_max_remembered_tokens(100));
    let mut good = Vec::new();
    for _ in 0..50 {
        good.push(service.token());
    }
    for token in &good {
        assert_eq!(service.timed(ADDRESS, token).await.0, 200);
    }
    for _ in 0..300 {
        assert_eq!(service.timed(ADDRESS, &unknown()).await.0, 401);
    }
    for token in &good {
        assert_eq!(service.timed(ADDRESS, token).await, (200, Duration::ZERO));
    }
    let mut waited = 0;
    for _ in 0..1_000 {
        good.push(service.token());
        service.timed(ADDRESS, &good[good.len() - 1]).await;
    }
    for token in good.iter().rev() {
        waited += usize::from(service.timed(ADDRESS, token).await.1 > Duration::ZERO);
    }
    assert!(waited >= good.len() - 100, "{waited}");
}

#[tokio::test(start_paused = true)]
async fn accepted_tokens_do_not_refill_the_budget() {
    let service = LimitedService::new(limit().with_burst(NonZeroU32::MIN).with_interval(SECOND));
    let good = service.token();
    assert_eq!(service.send(ADDRESS, DAMAGED).await.status(), 401);
    for _ in 0..10 {
        assert_eq!(service.send(ADDRESS, &good).await.status(), 200);
        let rejected = service.send(ADDRESS, DAMAGED).await;
        assert_eq!(
            (rejected.status().as_u16(), retry_after(&rejected)),
            (429, "1")
        );
    }
    assert_eq!(service.send(OTHER, DAMAGED).await.status(), 401);
    let calls = service.store.calls();
    assert_eq!(calls, 10, "a damaged token is not looked up");
}

#[tokio::test(start_paused = true)]
async fn client_with_a_full_queue_gets_429_and_others_wait() {
    let service = LimitedService::new(slow_limit());
    // Uses up the only lookup that may start immediately.
    service.send(OTHER, &unknown()).await;
    let mut waiting = JoinSet::new();
    for _ in 0..2_000 {
        waiting.spawn(service.send(ADDRESS, &unknown()));
    }
    tokio::task::yield_now().await;
    let rejected = service.send(ADDRESS, &service.token()).await;
    assert_eq!(
        (rejected.status().as_u16(), retry_after(&rejected)),
        (429, "1")
    );
    assert!(rejected.headers().get("www-authenticate").is_none());
    // Two lookups are admitted before the queued requests time out.
    let (status, waited) = service.timed(OTHER, &service.token()).await;
    assert_eq!(status, 200);
    assert!(waited <= 2 * SECOND, "{waited:?}");
    let statuses = waiting.join_all().await;
    let timed_out = statuses.iter().filter(|it| it.status() == 429).count();
    assert!(timed_out >= 1_998, "{timed_out}");
}

#[tokio::test(start_paused = true)]
async fn dropped_requests_leave_the_queue() {
    let service = LimitedService::new(slow_limit());
    service.send(OTHER, &unknown()).await;
    for _ in 0..3_000 {
        let waiting = service.send(ADDRESS, &unknown());
        assert!(waiting.now_or_never().is_none());
    }
    assert_eq!(service.timed(ADDRESS, &service.token()).await.0, 200);
    assert_eq!(service.store.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn store_outage_is_503_within_and_beyond_the_budget() {
    let service = LimitedService::new(limit().with_burst(NonZeroU32::MIN).with_interval(SECOND));
    for _ in 0..2 {
        service.store.inject(Fault::Error);
        assert_eq!(service.send(ADDRESS, &unknown()).await.status(), 503);
        service.store.clear_fault();
        assert_eq!(service.send(ADDRESS, &unknown()).await.status(), 401);
    }
}

#[tokio::test(start_paused = true)]
async fn layer_without_a_limit_does_not_queue() {
    let service = LimitedService::new(slow_limit());
    let layer = service.layer.clone().with_failure_limit(None);
    for _ in 0..200 {
        let response = crate::limits::send(&layer, ADDRESS, &unknown()).await;
        assert_eq!(response.status(), 401);
    }
    let damaged = crate::limits::send(&layer, ADDRESS, DAMAGED).await;
    assert_eq!(damaged.status(), 401);
}

#[test]
fn rejects_queued_lookups_without_a_runtime() {
    let limit = FailureLimit::new().with_max_lookups_per_second(NonZeroU32::MIN);
    let service = LimitedService::new(limit);
    let all = (0..3).map(|_| service.send(ADDRESS, &unknown()));
    let statuses = futures::executor::block_on(join_all(all));
    let statuses = statuses.iter().map(|it| it.status().as_u16());
    assert_eq!(statuses.collect::<Vec<_>>(), [401, 429, 429]);
}

#[test]
fn queue_survives_a_runtime_shutdown() {
    let start = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap()
    };
    let limit = FailureLimit::new().with_max_lookups_per_second(NonZeroU32::new(20).unwrap());
    let service = LimitedService::new(limit);
    start().block_on(async {
        for _ in 0..2 {
            assert_eq!(service.send(ADDRESS, &unknown()).await.status(), 401);
        }
        let waiting = service.send(ADDRESS, &unknown());
        assert!(waiting.now_or_never().is_none());
    });
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().build().unwrap();
    let status = runtime.block_on(async {
        let all = (0..3).map(|_| service.send(ADDRESS, &unknown()));
        join_all(all).await[2].status()
    });
    assert_eq!(status, 401);
}

#[cfg(feature = "metrics")]
#[test]
fn counts_lookups_by_outcome() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let service = LimitedService::new(slow_limit());
            let good = service.token();
            for _ in 0..3 {
                service.send(ADDRESS, &good).await;
            }
            let all = (0..5).map(|_| service.send(ADDRESS, &unknown()));
            join_all(all).await;
        });
    });
    let mut counts = std::collections::BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let key = key.key();
        match value {
            DebugValue::Counter(count) if key.name() == "service_token_lookup_admissions_total" => {
                let label = key.labels().next().unwrap().value().to_owned();
                counts.insert(label, count);
            }
            DebugValue::Gauge(waiting) if key.name() == "service_token_lookups_queued" => {
                assert!(waiting.abs() < 0.5, "{waiting}");
                counts.insert("waiting".to_owned(), 0);
            }
            _ => {}
        }
    }
    // Of five queued lookups, two or three are admitted within 2 s.
    let (queued, rejected) = (counts["queued"], counts["rejected"]);
    assert!(queued >= 1 && queued + rejected == 5, "{counts:?}");
    assert_eq!((counts["immediate"], counts["remembered"]), (1, 2));
    assert!(counts.contains_key("waiting"));
}
