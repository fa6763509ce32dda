//! One accepted request, compared with other crates: 1 key, and 1,000 keys in random order.
//!
//! Each peer does the least that its documentation shows for accepting a valid credential. The
//! ratios are of whole requests. `bare_with_principal` and `floor` measure what all requests share,
//! see `support/baseline.rs`.
//!
//! | id | credential | stored | search | comparison | inserts | also |
//! |---|---|---|---|---|---|---|
//! | `memory` | `ApiKey` or `X-API-Key` | SHA-256 | index | constant time | principal | rejects repeated headers, marks sensitive, changes at run time |
//! | `tower_http` | `Bearer` | SHA-256 | `HashMap` | by the map, `==` | identity | |
//! | `tower_http_same_work` | `Bearer` or `X-API-Key` | SHA-256 | `HashMap` | constant time | identity | rejects repeated headers, marks sensitive |
//! | `axum_from_fn` | `Bearer` | SHA-256 | `HashMap` | by the map, `==` | identity | boxed futures and service |
//! | `oauth_resource_server` | `Bearer` | plain text | scan of all | constant time | credential and label | marks sensitive |
//! | `axum_gate` | `Bearer` | plain text | one key only | constant time | a flag, the same for all | boxed future |
//! | `ts_webapi` | any header | plain text | scan until found | `==` | nothing | |

#[path = "support/baseline.rs"]
mod baseline;
#[path = "support/case.rs"]
mod case;
#[path = "support/mode.rs"]
mod mode;
#[path = "support/request.rs"]
mod request;
#[path = "support/tokens.rs"]
mod tokens;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum_gate::prelude::{Account, Gate, Group, JsonWebToken, JwtClaims, Role};
use benches::results::{Goal, Results, counted};
use criterion::Criterion;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use oauth_resource_server::StaticTokens;
use oauth_resource_server::http_layer::HttpAuthLayer;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tower::{Layer, Service};
use tower_http::auth::AsyncRequireAuthorizationLayer;
use tower_service_token::ServiceTokenLayer;
use tower_service_token::header::X_API_KEY;
use tower_service_token::token::MintedToken;
use ts_webapi::middleware::ApiKeyAuth;

use self::baseline::{BareWithPrincipal, Floor, Trivial};
use self::case::{Case, Times, bench, requests_with};
use self::request::{request_with, request_with_header};

const PEERS: [&str; 6] = [
    "tower_http",
    "tower_http_same_work",
    "axum_from_fn",
    "oauth_resource_server",
    "axum_gate",
    "ts_webapi",
];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut groups = [(1, 1.0), (1_000, 20.0)].map(|(keys, goal)| (keys, goal, cases(keys)));
    for (keys, _, cases) in &mut groups {
        bench(&mut criterion, &format!("peers/{keys}"), cases);
    }
    criterion.final_summary();
    if mode::is_full_run() {
        let mut results = Results::new("peers");
        for (keys, goal_of_scanning, cases) in &mut groups {
            print_ratios(*keys, *goal_of_scanning, cases, &mut results);
        }
        results.finish();
    }
}

fn print_ratios(keys: usize, goal_of_scanning: f64, cases: &mut [Case], results: &mut Results) {
    println!("\n{keys} keys");
    let times = Times::measure(cases);
    times.add_to(results, &format!("peers/{keys}"));
    for peer in PEERS
        .into_iter()
        .filter(|&peer| peer != "axum_gate" || keys == 1)
    {
        let goal = match peer {
            "ts_webapi" if keys == 1 => Goal::None,
            "oauth_resource_server" => Goal::AtLeast(goal_of_scanning),
            _ => Goal::AtLeast(1.0),
        };
        let ratio = times.of(peer) / times.of("memory");
        let measured = format!("`{peer}` to this crate, {}", counted(keys, "key"));
        results.ratio(measured, ratio, goal);
    }
}

/// The identity that the hand-written checks insert.
#[derive(Clone)]
#[expect(dead_code, reason = "only the cost of storing it matters")]
struct Caller(Arc<str>);

type Known = Arc<HashMap<[u8; 32], Caller>>;

/// The key is a prefix of the digest, so that the whole digest can be compared in constant time.
type KnownByPrefix = HashMap<[u8; 8], ([u8; 32], Caller)>;

fn cases(keys: usize) -> Vec<Case> {
    let tokens: Arc<[_]> = tokens::mint(keys).into();
    let by_digest = |(number, token): (usize, &MintedToken)| {
        let digest = Sha256::digest(token.expose_secret().as_bytes());
        (digest.into(), Caller(tokens::name(number).into()))
    };
    let known: Known = Arc::new(tokens.iter().enumerate().map(by_digest).collect());
    let texts = tokens.iter().map(|token| token.expose_secret().to_owned());

    let memory = ServiceTokenLayer::new(tokens::store(&tokens)).without_cache_headers();
    let known_to_tower_http = Arc::clone(&known);
    let tower_http = AsyncRequireAuthorizationLayer::new(move |request| {
        ready(authorize(&known_to_tower_http, request))
    });
    let by_start = |(digest, caller): (&[u8; 32], &Caller)| {
        let (start, _) = digest.split_first_chunk().expect("32 is more than 8");
        (*start, (*digest, caller.clone()))
    };
    let by_start: KnownByPrefix = known.iter().map(by_start).collect();
    let tower_http_same_work = AsyncRequireAuthorizationLayer::new(move |request| {
        ready(authorize_constant_time(&by_start, request))
    });
    let labelled = texts.clone().enumerate();
    let static_tokens = labelled.fold(StaticTokens::new(), |all, (number, text)| {
        let label = tokens::name(number);
        all.with(Some(&label), text).expect("tokens are different")
    });
    let oauth_resource_server = HttpAuthLayer::builder()
        .static_tokens(static_tokens)
        .build()
        .expect("at least one token is set");
    let ts_webapi = ApiKeyAuth::new(X_API_KEY, texts.collect());

    let mut cases = vec![
        case("bare_with_principal", &tokens, BareWithPrincipal::new()),
        Case::new(
            "floor",
            StatusCode::OK,
            requests_with(&tokens, request_with),
            Floor::new(&tokens),
        ),
        Case::new(
            "memory",
            StatusCode::OK,
            requests_with(&tokens, request_with),
            memory.layer(Trivial),
        ),
        case("tower_http", &tokens, tower_http.layer(Trivial)),
        case(
            "tower_http_same_work",
            &tokens,
            tower_http_same_work.layer(Trivial),
        ),
        case(
            "axum_from_fn",
            &tokens,
            from_fn_with_state(known, check).layer(Trivial),
        ),
        case(
            "oauth_resource_server",
            &tokens,
            oauth_resource_server.layer(Trivial),
        ),
        Case::new(
            "ts_webapi",
            StatusCode::OK,
            requests_with(&tokens, |token| request_with_header(X_API_KEY, token)),
            ts_webapi.layer(Trivial),
        ),
    ];
    if let [only] = &*tokens {
        let codec = Arc::new(JsonWebToken::<JwtClaims<Account<Role, Group>>>::default());
        let gate =
            Gate::bearer::<_, Role, Group>("bench", codec).with_static_token(only.expose_secret());
        cases.push(case("axum_gate", &tokens, gate.layer(Trivial)));
    }
    cases
}

fn case<S>(id: &str, tokens: &Arc<[MintedToken]>, service: S) -> Case
where
    S: Service<Request, Response = Response, Error = Infallible> + 'static,
{
    let requests = requests_with(tokens, |token| {
        request_with_header(AUTHORIZATION, &format!("Bearer {token}"))
    });
    Case::new(id, StatusCode::OK, requests, service)
}

async fn check(State(known): State<Known>, request: Request, next: Next) -> Response {
    match authorize(&known, request) {
        Ok(request) => next.run(request).await,
        Err(response) => response,
    }
}

#[expect(
    clippy::result_large_err,
    reason = "tower-http requires this signature"
)]
fn authorize(known: &Known, mut request: Request) -> Result<Request, Response> {
    let caller = find(known, request.headers()).ok_or_else(unauthorized)?;
    request.extensions_mut().insert(caller);
    Ok(request)
}

fn find(known: &Known, headers: &HeaderMap) -> Option<Caller> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let digest: [u8; 32] = Sha256::digest(value.strip_prefix("Bearer ")?).into();
    known.get(&digest).cloned()
}

/// A hand-written check that does the work of `memory`, without changes at run time.
#[expect(
    clippy::result_large_err,
    reason = "tower-http requires this signature"
)]
fn authorize_constant_time(
    known: &KnownByPrefix,
    mut request: Request,
) -> Result<Request, Response> {
    let caller = find_constant_time(known, request.headers_mut()).ok_or_else(unauthorized)?;
    request.extensions_mut().insert(caller);
    Ok(request)
}

fn find_constant_time(known: &KnownByPrefix, headers: &mut HeaderMap) -> Option<Caller> {
    let named = |name| {
        let mut values = headers.get_all(name).iter();
        (values.next(), values.next().is_some())
    };
    let (name, text) = match (named(AUTHORIZATION), named(X_API_KEY)) {
        ((Some(value), false), (None, _)) => {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            (
                AUTHORIZATION,
                scheme.eq_ignore_ascii_case("Bearer").then_some(token)?,
            )
        }
        ((None, _), (Some(value), false)) => (X_API_KEY, value.to_str().ok()?),
        _ => return None,
    };
    let digest: [u8; 32] = Sha256::digest(text).into();
    headers.get_mut(name)?.set_sensitive(true);
    let (stored, caller) = known.get(digest.first_chunk::<8>()?)?;
    bool::from(digest.ct_eq(stored)).then(|| caller.clone())
}

fn unauthorized() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response
}
