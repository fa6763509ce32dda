//! One accepted request, compared with toolkits for API keys: 1 key, and 1,000 keys in random order.
//!
//! The bench `peers` says how the ratios are made. The toolkits have a package of their own, whose
//! `Cargo.toml` says why.
//!
//! | id | credential | stored | search | comparison | inserts | also, in each request |
//! |---|---|---|---|---|---|---|
//! | `memory` | `ApiKey` or `X-API-Key` | SHA-256 | index | constant time | principal | rejects repeated headers, marks sensitive, changes at run time |
//! | `apikeys_rs` | `X-API-Key` | plain text | `HashMap` | `==` | nothing | copies the headers and the whole map of keys, calls the inner service before the check |
//! | `rustauth` | `X-API-Key` | SHA-256 | scan until found | `==` | key id | routes a JSON request to `/api-key/verify` and parses the response; writes the time of use |
//!
//! - `apikeys_rs`: `HashMapStorage`, `KeyManager` and `ApiKeyLayer`, with a limiter that allows
//!   everything. The service is one of axum 0.7; the conversion of the request is included.
//! - `rustauth`: `MemoryAdapter` and the plugin `api_key`, whose only public function to verify a key
//!   is the endpoint. The middleware is an axum `from_fn`. Limits of requests are disabled, because
//!   the default allows ten per key and day.

#[path = "../support/baseline.rs"]
mod baseline;
#[path = "../support/case.rs"]
mod case;
#[path = "../support/mode.rs"]
mod mode;
#[path = "../support/request.rs"]
mod request;
#[path = "../support/tokens.rs"]
mod tokens;

mod apikeys;
mod rustauth_keys;

use std::sync::Arc;

use benches::results::{Goal, Results, counted};
use criterion::Criterion;
use http::StatusCode;
use tokio::runtime::{Builder, Runtime};
use tower::Layer;
use tower_service_token::ServiceTokenLayer;
use tower_service_token::header::X_API_KEY;

use self::baseline::{BareWithPrincipal, Floor, Trivial};
use self::case::{Case, Times, bench, requests_with};
use self::request::{request_with, request_with_header};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = Builder::new_current_thread().build();
    let runtime = runtime.expect("the runtime starts");
    let mut groups = [1, 1_000].map(|keys| (keys, cases(keys, &runtime)));
    for (keys, cases) in &mut groups {
        bench(&mut criterion, &format!("peers/{keys}"), cases);
    }
    criterion.final_summary();
    if mode::is_full_run() {
        let mut results = Results::new("toolkits");
        for (keys, cases) in &mut groups {
            println!("\n{keys} keys");
            let times = Times::measure(cases);
            times.add_to(&mut results, &format!("peers/{keys}"));
            for peer in ["apikeys_rs", "rustauth"] {
                let ratio = times.of(peer) / times.of("memory");
                let measured = format!("`{peer}` to this crate, {}", counted(*keys, "key"));
                results.ratio(measured, ratio, Goal::AtLeast(1.0));
            }
        }
        results.finish();
    }
}

fn cases(keys: usize, runtime: &Runtime) -> Vec<Case> {
    let tokens: Arc<[_]> = tokens::mint(keys).into();
    let memory = ServiceTokenLayer::new(tokens::store(&tokens)).without_cache_headers();
    let by_api_key = || requests_with(&tokens, |token| request_with_header(X_API_KEY, token));
    let ok = StatusCode::OK;
    vec![
        Case::new(
            "bare_with_principal",
            ok,
            requests_with(&tokens, request_with),
            BareWithPrincipal::new(),
        ),
        Case::new(
            "floor",
            ok,
            requests_with(&tokens, request_with),
            Floor::new(&tokens),
        ),
        Case::new(
            "memory",
            ok,
            requests_with(&tokens, request_with),
            memory.layer(Trivial),
        ),
        Case::new(
            "apikeys_rs",
            ok,
            by_api_key(),
            apikeys::service(&tokens, runtime),
        ),
        Case::new(
            "rustauth",
            ok,
            by_api_key(),
            rustauth_keys::service(&tokens, runtime),
        ),
    ]
}
