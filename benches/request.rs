//! One request through the whole service: accepted and rejected.
//!
//! Group `accepted`, 100 tokens, each presented in turn:
//!
//! - `bare`: no authentication; `bare_with_principal`: none, but inserts an identity;
//! - `floor`: the least possible authentication by digest, see `support/baseline.rs`;
//! - `memory`: `MemoryStore`, cache headers off; `memory_with_cache_headers`: with the default
//!   settings; `memory_with_expiry`: records with an expiry, so that each request reads the clock;
//! - `waiting`: a store that implements only `find`, which returns immediately;
//! - `memory_observed`: as `memory`, with a Prometheus recorder and a log of level `INFO` (with the
//!   features `metrics` and `tracing`). The other ids are measured without a recorder.
//!
//! Group `accepted_one_token`: the same with a single token.
//!
//! Group `rejected`: one case per reason, with a response builder that sets only the status, and as
//! `…_problem_json` with the default builder. `wrong_digest` uses a store that finds records by id.
//! `bare_rejection` rejects each request without a check: it costs what the response and the
//! rejection in its extensions cost, so that this can be subtracted.
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
#[path = "support/remote.rs"]
mod remote;
#[path = "support/request.rs"]
mod request;
#[path = "support/tokens.rs"]
mod tokens;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use axum::body::Body;
use benches::results::{Goal, Results};
use criterion::Criterion;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use tower::{Layer, Service};
use tower_service_token::digest::TokenDigest;
use tower_service_token::middleware::ServiceToken;
use tower_service_token::reject::{ProblemJson, Rejection, RejectionReason, ResponseForRejection};
use tower_service_token::store::{Cached, Credential, StoreError, TokenRecord};
use tower_service_token::token::{MintedToken, TokenFormat, TokenId, TokenShape};
use tower_service_token::{ServiceTokenLayer, TokenStore};

use self::baseline::{BareWithPrincipal, Floor, Trivial};
use self::case::{Case, Times, bench, requests_with};
use self::expiring::store_with_expiry;
use self::remote::Remote;
use self::request::request_with;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut results = Results::new("request");
    let mut accepted = accepted_cases(100);
    let mut accepted_one_token = accepted_cases(1);
    let mut rejected = rejected_cases();
    bench(&mut criterion, "accepted", &mut accepted);
    bench(
        &mut criterion,
        "accepted_one_token",
        &mut accepted_one_token,
    );
    bench(&mut criterion, "rejected", &mut rejected);
    if mode::is_full_run() {
        println!("\naccepted, 100 tokens");
        print_accepted("100 tokens", "accepted", &mut accepted, &mut results);
        println!("\naccepted, 1 token");
        print_accepted(
            "1 token",
            "accepted_one_token",
            &mut accepted_one_token,
            &mut results,
        );
        println!("\nrejected");
        let mut cases = accepted_cases(100);
        cases.extend(rejected);
        print_rejected(&mut cases, &mut results);
    }
    // Last, because a recorder and a log stay for the whole process. The layers above have counted a
    // request, and go on without the recorder.
    #[cfg(all(feature = "metrics", feature = "tracing"))]
    {
        observe();
        for (group, count, cases) in [
            ("accepted", 100, &mut accepted),
            ("accepted_one_token", 1, &mut accepted_one_token),
        ] {
            let mut observed = [observed_case(count)];
            bench(&mut criterion, group, &mut observed);
            if mode::is_full_run() {
                println!("\n{group}, with a recorder and a log");
                cases.extend(observed);
                print_observed(group, count, cases, &mut results);
            }
        }
    }
    criterion.final_summary();
    results.finish();
}

fn print_accepted(tokens: &str, group: &str, cases: &mut [Case], results: &mut Results) {
    let times = Times::measure(cases);
    times.add_to(results, group);
    let over_bare = |id| times.of(id) - times.of("bare_with_principal");
    results.ratio(
        format!("accepted request to floor, over no authentication, {tokens}"),
        over_bare("memory") / over_bare("floor"),
        Goal::AtMost(1.2),
    );
}

/// Compares with the times from before [`observe`]. Each is divided by the floor of its own measurement, because
/// the speed of the machine changes between the two.
#[cfg(all(feature = "metrics", feature = "tracing"))]
fn print_observed(group: &str, count: usize, cases: &mut [Case], results: &mut Results) {
    let times = Times::measure(cases);
    let over_bare = |id| times.of(id) - times.of("bare_with_principal");
    let before = |id| results.reading(group, id).expect("measured before");
    let over_bare_before = |id| before(id) - before("bare_with_principal");
    let observed = over_bare("memory_observed") / over_bare("floor");
    let unobserved = over_bare_before("memory") / over_bare_before("floor");
    results.ratio(
        format!(
            "accepted request with a recorder and a log to one without, over no \
             authentication, {}",
            benches::results::counted(count, "token")
        ),
        observed / unobserved,
        Goal::AtMost(1.35),
    );
}

/// Installs a recorder of metrics and a log that goes nowhere.
#[cfg(all(feature = "metrics", feature = "tracing"))]
fn observe() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    metrics::set_global_recorder(recorder).expect("the first recorder");
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(std::io::sink)
        .init();
}

#[cfg(all(feature = "metrics", feature = "tracing"))]
fn observed_case(count: usize) -> Case {
    let tokens: Arc<[_]> = tokens::mint(count).into();
    let layer = ServiceTokenLayer::new(tokens::store(&tokens)).without_cache_headers();
    ok(
        "memory_observed",
        requests_with(&tokens, request_with),
        layer.layer(Trivial),
    )
}

fn print_rejected(cases: &mut [Case], results: &mut Results) {
    let times = Times::measure(cases);
    let response = times.of("bare_rejection") - times.of("bare");
    println!("the response to a rejected request, with the reason: {response:.0} ns");
    times.add_to(results, "rejected");
    for (id, subject, goal) in [
        ("missing", "no token", Goal::AtMost(0.5)),
        ("malformed", "bad checksum", Goal::AtMost(1.0)),
        ("unknown", "unknown", Goal::AtMost(1.2)),
        ("wrong_digest", "wrong digest", Goal::None),
        ("expired", "expired", Goal::None),
    ] {
        let whole = times.of(id) / times.of("memory");
        let ratio = (times.of(id) - response) / times.of("memory");
        let problem_json = times.of(&format!("{id}_problem_json")) - times.of(id);
        results.ratio(format!("rejected to accepted: {subject}"), ratio, goal);
        println!("{whole:.2} with the response; problem+json adds {problem_json:.0} ns");
        results.add(
            format!("nanoseconds that problem+json adds: {subject}"),
            problem_json,
            Goal::AtMost(150.0),
        );
    }
}

fn accepted_cases(count: usize) -> Vec<Case> {
    let tokens: Arc<[_]> = tokens::mint(count).into();
    let store = tokens::store(&tokens);
    let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
    let expiring = store_with_expiry(&tokens, in_an_hour);
    let with_cache_headers = ServiceTokenLayer::new(store.clone());
    let memory = with_cache_headers.clone().without_cache_headers();
    let with_expiry = ServiceTokenLayer::new(expiring).without_cache_headers();
    let waiting = ServiceTokenLayer::new(Remote(store)).without_cache_headers();
    vec![
        ok("bare", requests_with(&tokens, request_with), Trivial),
        ok(
            "bare_with_principal",
            requests_with(&tokens, request_with),
            BareWithPrincipal::new(),
        ),
        ok(
            "floor",
            requests_with(&tokens, request_with),
            Floor::new(&tokens),
        ),
        ok(
            "memory",
            requests_with(&tokens, request_with),
            memory.layer(Trivial),
        ),
        ok(
            "memory_with_expiry",
            requests_with(&tokens, request_with),
            with_expiry.layer(Trivial),
        ),
        ok(
            "memory_with_cache_headers",
            requests_with(&tokens, request_with),
            with_cache_headers.layer(Trivial),
        ),
        ok(
            "waiting",
            requests_with(&tokens, request_with),
            waiting.layer(Trivial),
        ),
    ]
}

fn ok<S>(id: &str, request: impl FnMut() -> Request<Body> + 'static, service: S) -> Case
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + 'static,
{
    Case::new(id, StatusCode::OK, request, service)
}

/// The builder of the response to a rejected request.
type Build = fn(&Rejection) -> Response<Body>;

fn status_only(rejection: &Rejection) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = rejection.status();
    response
}

fn problem_json(rejection: &Rejection) -> Response<Body> {
    ProblemJson.response_for_rejection(rejection)
}

fn rejected_cases() -> Vec<Case> {
    let tokens: Arc<[_]> = tokens::mint(100).into();
    let unknown: Arc<[_]> = tokens::mint(100).into();
    let expired = store_with_expiry(&tokens, SystemTime::UNIX_EPOCH);
    let memory = ServiceTokenLayer::new(tokens::store(&tokens));
    let expired = ServiceTokenLayer::new(expired);
    let by_id = ServiceTokenLayer::new(ById::with_other_secrets(&tokens));
    let missing = || {
        let mut request = request_with("none");
        request.headers_mut().remove(AUTHORIZATION);
        request
    };
    let (all_but_last, last) = tokens[0].expose_secret().split_at(47);
    let damaged = format!("{all_but_last}{}", if last == "0" { "1" } else { "0" });
    let malformed = move || request_with(&damaged);
    let mut cases = vec![Case::new(
        "bare_rejection",
        StatusCode::UNAUTHORIZED,
        requests_with(&tokens, request_with),
        BareRejection,
    )];
    for (suffix, build) in [("", status_only as Build), ("_problem_json", problem_json)] {
        let service = |layer: &ServiceTokenLayer| {
            let layer = layer.clone().with_rejection_response(build);
            layer.layer(Trivial)
        };
        let id = |id| format!("{id}{suffix}");
        let stored = || requests_with(&tokens, request_with);
        cases.extend([
            rejected(id("missing"), missing, service(&memory)),
            rejected(id("malformed"), malformed.clone(), service(&memory)),
            rejected(
                id("unknown"),
                requests_with(&unknown, request_with),
                service(&memory),
            ),
            rejected(id("wrong_digest"), stored(), service(&by_id)),
            rejected(id("expired"), stored(), service(&expired)),
        ]);
    }
    cases
}

fn rejected(
    id: String,
    request: impl FnMut() -> Request<Body> + 'static,
    service: ServiceToken<Trivial, Build>,
) -> Case {
    Case::new(id, StatusCode::UNAUTHORIZED, request, service)
}

/// Rejects every request.
struct BareRejection;

impl Service<Request<Body>> for BareRejection {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        drop(black_box(request));
        let rejection = Rejection::new(RejectionReason::UnknownToken);
        let mut response = status_only(&rejection);
        response.extensions_mut().insert(rejection);
        ready(Ok(response))
    }
}

/// A store that finds records by the ID in the token.
struct ById {
    format: TokenFormat,
    records: HashMap<TokenId, TokenRecord>,
}

impl ById {
    fn with_other_secrets(tokens: &[MintedToken]) -> Self {
        let records = tokens.iter().enumerate().map(|(number, token)| {
            let other = TokenDigest::of(&tokens::name(number));
            let record = tokens::record(token, number).with_digest(other);
            (token.id(), record)
        });
        Self {
            format: TokenFormat::default(),
            records: records.collect(),
        }
    }
}

#[async_trait]
impl TokenStore for ById {
    fn find_cached(&self, credential: &Credential<'_>) -> Cached {
        let TokenShape::WellFormed(id) = self.format.inspect(credential.token().expose_secret())
        else {
            return Cached::NotFound;
        };
        let record = self.records.get(&id).cloned();
        record.map_or(Cached::NotFound, Cached::Found)
    }

    async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        Ok(None)
    }
}
