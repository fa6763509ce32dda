//! One accepted request with a cache in front of a store that must be awaited.
//!
//! Group `cached`, 100 tokens, each presented in turn, cache headers off:
//!
//! - `bare_with_principal`: no authentication, inserts an identity;
//! - `memory`: [`MemoryStore`];
//! - `cached`: a [`CachedStore`] with an entry for every token, so that every request is a hit;
//! - `cached_with_expiry`: the same with records that have an expiry;
//! - `cached_with_churn`: like `cached`, while another thread changes, evicts and looks up one of
//!   1,000 other tokens, about 10,000 times per second.
//!
//! A run prints its ratio and its goal at the end.

#[path = "support/baseline.rs"]
mod baseline;
#[path = "support/case.rs"]
mod case;
#[path = "support/expiring.rs"]
mod expiring;
#[path = "support/mode.rs"]
mod mode;
#[path = "support/remote.rs"]
mod remote;
#[path = "support/request.rs"]
mod request;
#[path = "support/tokens.rs"]
mod tokens;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use benches::results::{Goal, Results};
use criterion::Criterion;
use http::StatusCode;
use tokio::runtime::{Builder, Runtime};
use tower::Layer;
use tower_service_token::store::{CachedStore, Credential};
use tower_service_token::token::{MintedToken, PresentedToken};
use tower_service_token::{MemoryStore, ServiceTokenLayer, TokenStore};

use self::baseline::{BareWithPrincipal, Floor, Trivial};
use self::case::{Case, Times, bench, requests_with};
use self::expiring::store_with_expiry;
use self::remote::Remote;
use self::request::request_with;

const PAUSE: Duration = Duration::from_micros(100);
const LONG_TTL: Duration = Duration::from_secs(24 * 3600);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the runtime starts");
    let tokens: Arc<[_]> = tokens::mint(100).into();
    let mut cases = cases(&tokens, &runtime);
    bench(&mut criterion, "cached", &mut cases);

    let (churned, churn) = churned(&tokens, &runtime);
    let case = accepted("cached_with_churn", &tokens, churned);
    bench(&mut criterion, "cached", &mut [case]);
    drop(churn);
    criterion.final_summary();
    if mode::is_full_run() {
        println!("\ncached, 100 tokens");
        print_ratios(&mut cases);
    }
}

fn print_ratios(cases: &mut [Case]) {
    let times = Times::measure(cases);
    let over_bare = |id| times.of(id) - times.of("bare_with_principal");
    let mut results = Results::new("cached");
    times.add_to(&mut results, "cached");
    results.ratio(
        "hit of `CachedStore` to `MemoryStore`, over no authentication",
        over_bare("cached") / over_bare("memory"),
        Goal::AtMost(2.0),
    );
    let expiry = times.of("cached_with_expiry") - times.of("cached");
    println!("an expiry in the record adds {expiry:.0} ns");
    results.finish();
}

fn cases(tokens: &Arc<[MintedToken]>, runtime: &Runtime) -> Vec<Case> {
    let memory = tokens::store(tokens);
    let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
    let expiring = store_with_expiry(tokens, in_an_hour);
    let bare = requests_with(tokens, request_with);
    let floor = requests_with(tokens, request_with);
    vec![
        Case::new(
            "bare_with_principal",
            StatusCode::OK,
            bare,
            BareWithPrincipal::new(),
        ),
        Case::new("floor", StatusCode::OK, floor, Floor::new(tokens)),
        accepted("memory", tokens, memory.clone()),
        accepted("cached", tokens, filled(tokens, memory, runtime)),
        accepted(
            "cached_with_expiry",
            tokens,
            filled(tokens, expiring, runtime),
        ),
    ]
}

fn accepted(id: &str, tokens: &Arc<[MintedToken]>, store: impl TokenStore) -> Case {
    let layer = ServiceTokenLayer::new(store).without_cache_headers();
    let requests = requests_with(tokens, request_with);
    Case::new(id, StatusCode::OK, requests, layer.layer(Trivial))
}

/// Returns a cache with entries for these tokens that outlive the bench.
fn filled(tokens: &[MintedToken], store: MemoryStore, runtime: &Runtime) -> CachedStore<Remote> {
    let cached = CachedStore::new(Remote(store)).with_ttl(LONG_TTL);
    runtime.block_on(async {
        for token in tokens {
            look_up(&cached, token).await;
        }
    });
    cached
}

async fn look_up(cached: &CachedStore<Remote>, token: &MintedToken) {
    let token = PresentedToken::new(token.expose_secret()).expect("visible ASCII");
    let found = cached.find(&Credential::new(token)).await;
    assert!(found.expect("memory is available").is_some());
}

/// Changes tokens until dropped.
struct BackgroundChurn {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for BackgroundChurn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread does not panic");
        }
    }
}

fn churned(
    tokens: &Arc<[MintedToken]>,
    runtime: &Runtime,
) -> (CachedStore<Remote>, BackgroundChurn) {
    let store = tokens::store(tokens);
    let others = tokens::mint(1000);
    for (number, token) in others.iter().enumerate() {
        let record = tokens::record(token, number);
        store.insert(record).expect("tokens are different");
    }
    let cached = filled(tokens, store.clone(), runtime);
    let stop = Arc::new(AtomicBool::new(false));
    let thread = thread::spawn({
        let (cached, stop) = (cached.clone(), Arc::clone(&stop));
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("the runtime starts");
        move || {
            for (number, token) in others.iter().enumerate().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let record = tokens::record(token, number);
                store.replace(record).expect("the token exists");
                runtime.block_on(look_up(&cached, token));
                thread::sleep(PAUSE);
            }
        }
    });
    let thread = Some(thread);
    (cached, BackgroundChurn { stop, thread })
}
