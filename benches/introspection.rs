//! One accepted request whose token an authorization server has introspected.
//!
//! Group `introspection`, 100 tokens, each presented in turn, cache headers off:
//!
//! - `bare_with_principal`: no authentication, inserts an identity;
//! - `floor`: the least possible check by digest, written by hand;
//! - `memory`: `MemoryStore`;
//! - `introspection`: an [`IntrospectionStore`] that caches every response, so that every request
//!   is a hit;
//! - `memory_with_expiry`, `introspection_with_expiry`: the same with an expiry, as real responses
//!   have one. Each request reads the clock.
//!
//! Group `introspection_cold`: two threads send 1,000 concurrent requests with one token that is
//! not cached. The bench counts the calls to the server: one.
//!
//! A run prints its ratios and their goals at the end.

#[path = "support/baseline.rs"]
mod baseline;
#[path = "support/case.rs"]
mod case;
#[path = "support/expiring.rs"]
mod expiring;
#[path = "support/mode.rs"]
mod mode;
#[path = "support/request.rs"]
mod request;
#[path = "support/tokens.rs"]
mod tokens;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use axum::body::Body;
use benches::results::{Goal, Results};
use bytes::Bytes;
use criterion::Criterion;
use futures::future::join_all;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::introspection::{ClientAuth, IntrospectionStore};
use tower_service_token::store::Credential;
use tower_service_token::token::{MintedToken, PresentedToken};
use tower_service_token::{ServiceTokenLayer, TokenStore};

use self::baseline::{BareWithPrincipal, Floor, Trivial};
use self::case::{Case, Times, bench, requests_with};
use self::expiring::store_with_expiry;
use self::request::request_with;

const HOUR: Duration = Duration::from_secs(3600);
const LONG_TTL: Duration = Duration::from_secs(24 * 3600);
const REQUESTS: usize = 1_000;

/// Counts the calls to the server.
type Calls = Arc<AtomicUsize>;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("the runtime starts");
    let tokens: Arc<[_]> = tokens::mint(100).into();
    let mut cases = cases(&tokens, &runtime);
    bench(&mut criterion, "introspection", &mut cases);
    let rounds = bench_cold(&mut criterion, &tokens[0], &runtime);
    criterion.final_summary();
    if mode::is_full_run() {
        println!("\nintrospection, 100 tokens");
        let mut results = Results::new("introspection");
        print_ratios(&mut cases, &mut results);
        println!(
            "{REQUESTS} cold requests for one token made 1 call, {rounds} times out of {rounds}"
        );
        // `bench_cold` asserts the number of calls. A filter may have skipped it.
        if rounds > 0 {
            results.add(
                "calls for 1,000 concurrent requests with one unknown token",
                1.0,
                Goal::AtMost(1.0),
            );
        }
        results.finish();
    }
}

fn print_ratios(cases: &mut [Case], results: &mut Results) {
    let times = Times::measure(cases);
    times.add_to(results, "introspection");
    let over_bare = |id: &str| times.of(id) - times.of("bare_with_principal");
    for (suffix, both) in [("", ""), ("_with_expiry", ", with an expiry in both")] {
        let (hit, memory) = (format!("introspection{suffix}"), format!("memory{suffix}"));
        let ratio = over_bare(&hit) / over_bare(&memory);
        results.ratio(
            format!("hit of `IntrospectionStore` to `MemoryStore`, over no authentication{both}"),
            ratio,
            Goal::AtMost(1.5),
        );
    }
}

fn cases(tokens: &Arc<[MintedToken]>, runtime: &Runtime) -> Vec<Case> {
    let in_an_hour = SystemTime::now() + HOUR;
    let expiring = store_with_expiry(tokens, in_an_hour);
    let seconds = in_an_hour.duration_since(SystemTime::UNIX_EPOCH);
    let exp = format!(",\"exp\":{}", seconds.expect("after 1970").as_secs());
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
        accepted("memory", tokens, tokens::store(tokens)),
        accepted("introspection", tokens, filled(tokens, "", runtime)),
        accepted("memory_with_expiry", tokens, expiring),
        accepted(
            "introspection_with_expiry",
            tokens,
            filled(tokens, &exp, runtime),
        ),
    ]
}

fn accepted(id: &str, tokens: &Arc<[MintedToken]>, store: impl TokenStore) -> Case {
    let layer = ServiceTokenLayer::new(store).without_cache_headers();
    let requests = requests_with(tokens, request_with);
    Case::new(id, StatusCode::OK, requests, layer.layer(Trivial))
}

/// Returns a store whose server accepts every token, with a name, two roles and `claims`.
fn store(claims: &str) -> (IntrospectionStore, Calls) {
    let roles = tokens::ROLES.join(" ");
    let name = tokens::name(1);
    let body = format!(
        "{{\"active\":true,\"client_id\":\"ci\",\"name\":\"{name}\",\"roles\":\"{roles}\"{claims}}}"
    );
    let (body, calls) = (Bytes::from(body), Calls::default());
    let server = service_fn({
        let calls = Arc::clone(&calls);
        move |_: Request<Full<Bytes>>| {
            calls.fetch_add(1, Ordering::Relaxed);
            let body = Full::new(body.clone());
            async move {
                tokio::task::yield_now().await;
                let response = Response::builder().header(CONTENT_TYPE, "application/json");
                Ok::<_, Infallible>(response.body(body).expect("the header is valid"))
            }
        }
    });
    let store = IntrospectionStore::builder(ClientAuth::basic("service", "secret"))
        .with_role_claim("roles")
        .with_transport(server)
        .with_ttl(LONG_TTL)
        .build("https://auth.example/introspect");
    (store.expect("the endpoint is valid"), calls)
}

/// Returns a store with cache entries for these tokens that outlive the bench.
fn filled(tokens: &[MintedToken], claims: &str, runtime: &Runtime) -> IntrospectionStore {
    let (store, _) = store(claims);
    runtime.block_on(async {
        for token in tokens {
            let token = PresentedToken::new(token.expose_secret()).expect("visible ASCII");
            let found = store.find(&Credential::new(token)).await;
            assert!(found.expect("the server responds").is_some());
        }
    });
    store
}

/// Asserts that each round makes one call. Returns the number of rounds.
fn bench_cold(criterion: &mut Criterion, token: &MintedToken, runtime: &Runtime) -> usize {
    let (store, calls) = store("");
    let service = ServiceTokenLayer::new(store.clone()).layer(Trivial);
    let mut rounds = 0;
    let mut round = || {
        store.clear();
        let requests = (0..REQUESTS).map(|_| request_with(token.expose_secret()));
        let requests: Vec<Request<Body>> = requests.collect();
        let started = Instant::now();
        runtime.block_on(async {
            let sent = requests
                .into_iter()
                .map(|request| tokio::spawn(service.clone().oneshot(request)));
            for response in join_all(sent).await {
                let response = response.expect("no panic").expect("infallible");
                assert_eq!(response.status(), StatusCode::OK);
            }
        });
        rounds += 1;
        started.elapsed()
    };
    let mut group = criterion.benchmark_group("introspection_cold");
    group.sample_size(20);
    group.bench_function("a_thousand_requests_for_one_token", |bencher| {
        bencher.iter_custom(|iterations| (0..iterations).map(|_| round()).sum());
    });
    group.finish();
    assert_eq!(calls.load(Ordering::Relaxed), rounds, "calls");
    rounds
}
