//! The HTTP contract, row by row: the credentials of a request, and the complete response.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::executor::block_on;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::authorize::{RequireRolesLayer, RequireScopesLayer};
use tower_service_token::clock::ManualClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::header::{CredentialSources, TokenHeader};
use tower_service_token::reject::{GrpcStatus, Realm, Rejection, RejectionReason as Reason};
use tower_service_token::store::{Credential, StoreError, TokenRecord, TokenState};
use tower_service_token::token::{TokenFormat, TokenId};
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, TokenStore};

const FOREIGN: &str = "svctok-aaaaa-bbbb-ccccc-ddddd";

/// A store with two tokens of this crate's format and one foreign token, and a manual clock.
struct Fixture {
    store: MemoryStore,
    clock: ManualClock,
    good: String,
    good_id: TokenId,
    other: String,
}

impl Fixture {
    fn new() -> Self {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        let store = MemoryStore::new();
        let (good, good_id) = add(&store, |record| {
            record
                .with_name("good")
                .with_roles(["reader"])
                .with_scopes(["projects:read"])
        });
        let (other, _) = add(&store, |record| record.with_name("other"));
        let foreign = TokenRecord::new(TokenId::from_i64(42).unwrap(), TokenDigest::of(FOREIGN));
        store.insert(foreign.with_name("foreign")).unwrap();
        Self {
            store,
            clock: ManualClock::new(now),
            good,
            good_id,
            other,
        }
    }

    fn layer(&self) -> ServiceTokenLayer {
        ServiceTokenLayer::new(self.store.clone()).with_clock(self.clock.clone())
    }

    fn add(&self, customize: impl FnOnce(TokenRecord) -> TokenRecord) -> (String, TokenId) {
        add(&self.store, customize)
    }

    fn now(&self) -> SystemTime {
        tower_service_token::clock::Clock::now(&self.clock)
    }
}

fn add(
    store: &MemoryStore,
    customize: impl FnOnce(TokenRecord) -> TokenRecord,
) -> (String, TokenId) {
    let token = TokenFormat::default().mint().unwrap();
    store.insert(customize(TokenRecord::from(&token))).unwrap();
    (token.expose_secret().to_owned(), token.id())
}

type Headers<'a> = &'a [(&'a str, &'a [u8])];

fn request(headers: Headers<'_>) -> Request<String> {
    let mut request = Request::new(String::new());
    for (name, value) in headers {
        request.headers_mut().append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value).unwrap(),
        );
    }
    request
}

/// Responds with the caller's name, or `anonymous`.
async fn hello(request: Request<String>) -> Result<Response<String>, std::convert::Infallible> {
    let principal = request.extensions().get::<Principal>();
    let name = principal.map_or("anonymous", |principal| principal.name());
    Ok(Response::new(name.to_owned()))
}

fn send(layer: &ServiceTokenLayer, request: Request<String>) -> Response<String> {
    block_on(layer.layer(service_fn(hello)).oneshot(request)).unwrap()
}

fn with_changed_byte(token: &str, at: usize) -> String {
    let mut token = token.to_owned().into_bytes();
    token[at] = if token[at] == b'a' { b'b' } else { b'a' };
    String::from_utf8(token).unwrap()
}

#[test]
fn credential_headers_follow_the_documented_rules() {
    let fixture = Fixture::new();
    let (good, other) = (fixture.good.as_str(), fixture.other.as_str());
    let default = fixture.layer();
    let bearer = fixture.layer().accept_bearer();
    let header = TokenHeader::new(HeaderName::from_static("x-deploy-token")).unwrap();
    let custom = fixture.layer().with_header(header.clone());
    let only_custom = CredentialSources::none().with_header(header);
    let only_custom = fixture.layer().with_sources(only_custom);
    let short = fixture.layer().with_max_token_length(47);
    let optional = fixture.layer().optional();

    let with = |prefix: &str, suffix: &str| format!("{prefix}{good}{suffix}").into_bytes();
    let api_key = with("ApiKey ", "");
    let long = |length: usize| vec![b'x'; length];
    let accepted = |name: &'static str| Ok(name);
    let (missing, bad_request, invalid) = (
        Err("missing_token"),
        Err("invalid_request"),
        Err("invalid_token"),
    );

    #[rustfmt::skip]
    let rows: &[(&str, &ServiceTokenLayer, Headers<'_>, Result<&str, &str>)] = &[
        // 1. Sources.
        ("ApiKey", &default, &[("authorization", &api_key)], accepted("good")),
        ("X-API-Key", &default, &[("x-api-key", good.as_bytes())], accepted("good")),
        ("foreign token", &default, &[("x-api-key", FOREIGN.as_bytes())], accepted("foreign")),
        ("Bearer not enabled", &default, &[("authorization", &with("Bearer ", ""))], missing),
        ("Bearer enabled", &bearer, &[("authorization", &with("Bearer ", ""))], accepted("good")),
        ("ApiKey beside Bearer", &bearer, &[("authorization", &api_key)], accepted("good")),
        ("custom header not enabled", &default, &[("x-deploy-token", good.as_bytes())], missing),
        ("custom header", &custom, &[("x-deploy-token", good.as_bytes())], accepted("good")),
        ("X-API-Key beside custom", &custom, &[("x-api-key", good.as_bytes())], accepted("good")),
        ("only the custom header", &only_custom, &[("x-api-key", good.as_bytes()), ("authorization", &api_key)], missing),
        ("cookie", &default, &[("cookie", &with("x-api-key=", ""))], missing),
        // 2. Scheme and spaces.
        ("scheme in capitals", &default, &[("authorization", &with("APIKEY ", ""))], accepted("good")),
        ("scheme in small letters", &default, &[("authorization", &with("apikey ", ""))], accepted("good")),
        ("several spaces", &default, &[("authorization", &with("ApiKey    ", ""))], accepted("good")),
        ("surrounding white space", &default, &[("authorization", &with(" \tApiKey ", " \t "))], accepted("good")),
        ("white space around X-API-Key", &default, &[("x-api-key", &with("\t ", " "))], accepted("good")),
        ("text after the token", &default, &[("authorization", &with("ApiKey ", " more"))], bad_request),
        ("text after the token in X-API-Key", &default, &[("x-api-key", &with("", " more"))], bad_request),
        ("a list in one line", &default, &[("authorization", &with("ApiKey ", ", ApiKey x"))], bad_request),
        ("tab after the space", &default, &[("authorization", &with("ApiKey \t", ""))], bad_request),
        ("tab after the scheme", &default, &[("authorization", &with("ApiKey\t", ""))], bad_request),
        // 3. Bytes and length.
        ("empty X-API-Key", &default, &[("x-api-key", b"")], bad_request),
        ("blank X-API-Key", &default, &[("x-api-key", b" \t ")], bad_request),
        ("scheme without token", &default, &[("authorization", b"ApiKey")], bad_request),
        ("scheme and spaces", &default, &[("authorization", b"ApiKey   ")], bad_request),
        ("empty Authorization", &default, &[("authorization", b"")], bad_request),
        ("byte 0xFF alone", &default, &[("x-api-key", b"\xff")], bad_request),
        ("byte 0xFF in the token", &default, &[("authorization", &[&api_key[..], b"\xff"].concat())], bad_request),
        ("byte 0xFF in the scheme", &default, &[("authorization", &[b"\xff", &api_key[..]].concat())], bad_request),
        ("non-ASCII text", &default, &[("x-api-key", "tökén".as_bytes())], bad_request),
        ("512 bytes", &default, &[("x-api-key", &long(512))], invalid),
        ("513 bytes", &default, &[("x-api-key", &long(513))], bad_request),
        ("512 bytes of ApiKey", &default, &[("authorization", &[b"ApiKey ", &long(512)[..]].concat())], invalid),
        ("513 bytes of ApiKey", &default, &[("authorization", &[b"ApiKey ", &long(513)[..]].concat())], bad_request),
        ("longer than the maximum", &short, &[("x-api-key", good.as_bytes())], bad_request),
        ("as long as the maximum", &short, &[("x-api-key", FOREIGN.as_bytes())], accepted("foreign")),
        // 4. More than one.
        ("repeated Authorization", &default, &[("authorization", &api_key), ("authorization", &api_key)], bad_request),
        ("accepted scheme after another scheme", &default, &[("authorization", b"Basic eDp5"), ("authorization", &api_key)], bad_request),
        ("repeated X-API-Key", &default, &[("x-api-key", good.as_bytes()), ("x-api-key", good.as_bytes())], bad_request),
        ("repeated, the first one unknown", &default, &[("x-api-key", b"x"), ("x-api-key", good.as_bytes())], bad_request),
        ("both, same token", &default, &[("authorization", &api_key), ("x-api-key", good.as_bytes())], accepted("good")),
        ("both, different tokens", &default, &[("authorization", &api_key), ("x-api-key", other.as_bytes())], bad_request),
        ("good and malformed", &default, &[("authorization", &api_key), ("x-api-key", b"")], bad_request),
        ("two headers, different", &custom, &[("x-deploy-token", good.as_bytes()), ("x-api-key", other.as_bytes())], bad_request),
        // 5. Other schemes.
        ("Basic", &default, &[("authorization", b"Basic eDp5")], missing),
        ("a scheme that is not accepted", &default, &[("authorization", b"Negotiate \xff")], missing),
        ("a bare token as scheme", &default, &[("authorization", good.as_bytes())], missing),
        ("Basic beside X-API-Key", &default, &[("authorization", b"Basic eDp5"), ("x-api-key", good.as_bytes())], accepted("good")),
        // 7. Optional.
        ("optional, none", &optional, &[], accepted("anonymous")),
        ("optional, another scheme", &optional, &[("authorization", b"Basic eDp5")], accepted("anonymous")),
        ("optional, good", &optional, &[("authorization", &api_key)], accepted("good")),
        ("optional, unknown", &optional, &[("x-api-key", b"unknown")], invalid),
        ("optional, malformed", &optional, &[("x-api-key", b"\xff")], bad_request),
        ("none", &default, &[], missing),
    ];
    for (row, layer, headers, expected) in rows {
        let response = send(layer, request(headers));
        match expected {
            Ok(name) => {
                assert_eq!(response.status(), StatusCode::OK, "{row}");
                assert_eq!(response.body(), name, "{row}");
            }
            Err(code) => {
                let body: Value = serde_json::from_str(response.body()).expect(row);
                assert_eq!(body["code"], *code, "{row}");
                assert_eq!(body["status"], response.status().as_u16(), "{row}");
            }
        }
    }
}

/// A store that always returns the same result.
#[derive(Clone)]
struct FixedStore(Arc<dyn Fn() -> Result<Option<TokenRecord>, StoreError> + Send + Sync>);

impl FixedStore {
    fn with(
        result: impl Fn() -> Result<Option<TokenRecord>, StoreError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(result))
    }
}

#[async_trait]
impl TokenStore for FixedStore {
    async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        (self.0)()
    }
}

/// One row of the contract's table of responses.
struct Row {
    name: &'static str,
    layer: ServiceTokenLayer,
    token: Option<String>,
    reason: Reason,
    status: u16,
    grpc: &'static str,
    challenge: Option<&'static str>,
    retry_after: Option<&'static str>,
    body: Value,
}

fn body(status: u16, title: &str, code: &str, detail: &str) -> Value {
    json!({"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail})
}

fn with_id(mut body: Value, id: TokenId) -> Value {
    body["token_id"] = id.to_string().into();
    body
}

fn response_rows(fixture: &Fixture) -> Vec<Row> {
    let layer = || fixture.layer();
    let now = fixture.now();
    let minute = Duration::from_secs(60);
    let (expired, expired_id) = fixture.add(|record| record.with_expires_at(now));
    let (early, early_id) = fixture.add(|record| record.with_not_before(now + minute));
    let (revoked, revoked_id) = fixture.add(|record| record.with_state(TokenState::Revoked));
    let (disabled, disabled_id) = fixture.add(|record| record.with_state(TokenState::Disabled));
    let unknown = TokenFormat::default().mint().unwrap();
    let unknown = unknown.expose_secret().to_owned();
    let another = TokenRecord::new(fixture.good_id, TokenDigest::of("another"));

    let layer_with = |store: FixedStore| ServiceTokenLayer::new(store);
    let wrong_digest = layer_with(FixedStore::with(move || Ok(Some(another.clone()))));
    let unavailable = layer_with(FixedStore::with(|| {
        Err(StoreError::unavailable("connection refused"))
    }));
    let busy = layer_with(FixedStore::with(|| {
        Err(StoreError::unavailable("busy").with_retry_after(Duration::from_millis(2_100)))
    }));
    let limited = layer_with(FixedStore::with(|| {
        Err(StoreError::rate_limited(Duration::from_secs(30)))
    }));
    let corrupt = layer_with(FixedStore::with(|| Err(StoreError::corrupt("no digest"))));

    let no_token = "no service token provided";
    let one_token =
        "the request must present one service token, once, in one of the accepted headers";
    let not_valid = "the service token is not valid";
    let unavailable_body = || {
        body(
            503,
            "Service Unavailable",
            "auth_unavailable",
            "service tokens cannot be checked at the moment",
        )
    };
    let unauthorized = |code, detail| body(401, "Unauthorized", code, detail);
    let invalid = Some(r#"ApiKey realm="api", error="invalid_token""#);
    let row = |name, layer, token: &str, reason, status, grpc, challenge, retry_after, body| Row {
        name,
        layer,
        token: (!token.is_empty()).then(|| token.to_owned()),
        reason,
        status,
        grpc,
        challenge,
        retry_after,
        body,
    };
    #[rustfmt::skip]
    let rows = vec![
        row("no credential", layer(), "", Reason::MissingToken, 401, "16",
            Some(r#"ApiKey realm="api""#), None, unauthorized("missing_token", no_token)),
        row("bad syntax", layer(), "two words", Reason::MalformedHeader, 400, "3",
            Some(r#"ApiKey realm="api", error="invalid_request""#), None,
            body(400, "Bad Request", "invalid_request", one_token)),
        row("too long", layer(), &"x".repeat(513), Reason::TokenTooLong, 400, "3",
            Some(r#"ApiKey realm="api", error="invalid_request""#), None,
            body(400, "Bad Request", "invalid_request", one_token)),
        row("bad checksum", layer(), &with_changed_byte(&fixture.good, 47), Reason::DamagedToken, 401, "16",
            invalid, None, unauthorized("invalid_token", not_valid)),
        row("unknown", layer(), &unknown, Reason::UnknownToken, 401, "16",
            invalid, None, unauthorized("invalid_token", not_valid)),
        row("unknown, of another format", layer(), "hunter2", Reason::UnknownToken, 401, "16",
            invalid, None, unauthorized("invalid_token", not_valid)),
        row("wrong digest", wrong_digest, &unknown, Reason::WrongDigest, 401, "16",
            invalid, None, unauthorized("invalid_token", not_valid)),
        row("expired", layer(), &expired, Reason::ExpiredToken, 401, "16",
            Some(r#"ApiKey realm="api", error="invalid_token", error_description="the service token has expired""#), None,
            with_id(unauthorized("token_expired", "the service token has expired"), expired_id)),
        row("revoked", layer(), &revoked, Reason::RevokedToken, 401, "16",
            Some(r#"ApiKey realm="api", error="invalid_token", error_description="the service token was revoked""#), None,
            with_id(unauthorized("token_revoked", "the service token was revoked"), revoked_id)),
        row("disabled", layer(), &disabled, Reason::DisabledToken, 401, "16",
            Some(r#"ApiKey realm="api", error="invalid_token", error_description="the service token is disabled""#), None,
            with_id(unauthorized("token_disabled", "the service token is disabled"), disabled_id)),
        row("not yet valid", layer(), &early, Reason::TokenNotYetValid, 401, "16",
            Some(r#"ApiKey realm="api", error="invalid_token", error_description="the service token is not valid yet""#), None,
            with_id(unauthorized("token_not_yet_valid", "the service token is not valid yet"), early_id)),
        row("too many requests", limited, &unknown, Reason::RateLimited, 429, "8",
            None, Some("30"), body(429, "Too Many Requests", "rate_limited", "too many requests")),
        row("store unreachable", unavailable, &unknown, Reason::StoreUnavailable, 503, "14",
            None, Some("1"), unavailable_body()),
        row("store with a retry time", busy, &unknown, Reason::StoreUnavailable, 503, "14",
            None, Some("3"), unavailable_body()),
        row("corrupt record", corrupt, &unknown, Reason::CorruptRecord, 500, "13",
            None, None, body(500, "Internal Server Error", "internal", "the request could not be authenticated")),
    ];
    rows
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let values = headers.get_all(name).iter();
    values.map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn rejection_responses_match_the_documented_table() {
    let fixture = Fixture::new();
    for row in response_rows(&fixture) {
        let name = row.name;
        let token = row
            .token
            .as_deref()
            .map(|token| [("x-api-key", token.as_bytes())]);
        let credentials: Headers<'_> = token.as_ref().map_or(&[], |token| &token[..]);
        let response = send(&row.layer, request(credentials));
        let challenge: Vec<&str> = row.challenge.into_iter().collect();
        let retry_after: Vec<&str> = row.retry_after.into_iter().collect();

        assert_eq!(response.status().as_u16(), row.status, "{name}");
        let headers = response.headers();
        assert_eq!(header(headers, "www-authenticate"), challenge, "{name}");
        assert_eq!(header(headers, "retry-after"), retry_after, "{name}");
        assert_eq!(header(headers, "cache-control"), ["no-store"], "{name}");
        assert_eq!(
            header(headers, "content-type"),
            ["application/problem+json"],
            "{name}"
        );
        let body: Value = serde_json::from_str(response.body()).expect(name);
        assert_eq!(body, row.body, "{name}");
        let rejection = response.extensions().get::<Rejection>().expect(name);
        assert_eq!(rejection.reason(), row.reason, "{name}");

        for content_type in ["application/grpc", "application/grpc+proto"] {
            let mut call = request(credentials);
            call.headers_mut()
                .insert("content-type", HeaderValue::from_static(content_type));
            let response = send(&row.layer, call.clone());
            assert_eq!(response.status().as_u16(), row.status, "{name}");
            assert!(!response.headers().contains_key("grpc-status"), "{name}");

            let layer = row.layer.clone().with_rejection_response(GrpcStatus);
            let response = block_on(layer.layer(service_fn(hello)).oneshot(call)).unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{name}");
            let headers = response.headers();
            assert_eq!(
                header(headers, "content-type"),
                ["application/grpc"],
                "{name}"
            );
            assert_eq!(header(headers, "grpc-status"), [row.grpc], "{name}");
            assert_eq!(
                header(headers, "grpc-message"),
                [row.body["detail"].as_str().unwrap()],
                "{name}"
            );
            assert_eq!(response.body(), "", "{name}");
        }
    }
}

#[test]
fn causes_of_invalid_token_are_indistinguishable() {
    let fixture = Fixture::new();
    let mut rendered = Vec::new();
    for row in response_rows(&fixture) {
        if row.body["code"] == "invalid_token" {
            let token = row.token.unwrap();
            let response = send(&row.layer, request(&[("x-api-key", token.as_bytes())]));
            let (parts, body) = response.into_parts();
            rendered.push((
                row.name,
                format!("{} {:?} {body}", parts.status, parts.headers),
            ));
        }
    }
    assert_eq!(rendered.len(), 4);
    for (name, response) in &rendered {
        assert_eq!(response, &rendered[0].1, "{name}");
    }
}

#[test]
fn sends_one_challenge_for_each_accepted_scheme() {
    let fixture = Fixture::new();
    let challenges = |layer: ServiceTokenLayer| {
        let response = send(&layer, request(&[]));
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        header(response.headers(), "www-authenticate")
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let realm = |layer: ServiceTokenLayer| layer.with_realm(Realm::new("build farm").unwrap());
    assert_eq!(
        challenges(realm(fixture.layer()).accept_bearer()),
        [
            r#"ApiKey realm="build farm""#,
            r#"Bearer realm="build farm""#
        ]
    );
    let sources = CredentialSources::default();
    let bearer_only = sources.clone().without_api_key().accept_bearer();
    assert_eq!(
        challenges(fixture.layer().with_sources(bearer_only)),
        [r#"Bearer realm="api""#]
    );
    let header_only = CredentialSources::none().with_header(TokenHeader::X_API_KEY);
    assert_eq!(
        challenges(realm(fixture.layer()).with_sources(header_only)),
        [r#"ApiKey realm="build farm""#]
    );
    for bad in ["\"", "back\\slash", "über", "line\nfeed"] {
        assert!(Realm::new(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn guards_respond_403_with_the_requirement() {
    let fixture = Fixture::new();
    let challenge_and_requirement = |response: Response<String>| {
        let (parts, body) = response.into_parts();
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(parts.status, StatusCode::FORBIDDEN);
        assert_eq!(body["code"], "insufficient_scope");
        assert_eq!(body["token_id"], fixture.good_id.to_string());
        assert_eq!(header(&parts.headers, "cache-control"), ["no-store"]);
        let challenge = header(&parts.headers, "www-authenticate").join("|");
        (challenge, body["required"].clone())
    };
    let request = || request(&[("x-api-key", fixture.good.as_bytes())]);
    let roles = fixture
        .layer()
        .layer(RequireRolesLayer::any_of(["admin", "owner"]).layer(service_fn(hello)));
    assert_eq!(
        challenge_and_requirement(block_on(roles.oneshot(request())).unwrap()),
        (
            r#"ApiKey realm="api", error="insufficient_scope""#.to_owned(),
            json!({"match": "any", "roles": ["admin", "owner"]})
        )
    );
    let scopes = RequireScopesLayer::all_of(["projects:read", "projects:write"]);
    let bearer = CredentialSources::default()
        .without_api_key()
        .accept_bearer();
    let layer = fixture.layer().with_realm(Realm::new("farm").unwrap());
    let scopes = layer
        .with_sources(bearer)
        .layer(scopes.layer(service_fn(hello)));
    assert_eq!(
        challenge_and_requirement(block_on(scopes.oneshot(request())).unwrap()),
        (
            r#"Bearer realm="farm", error="insufficient_scope", scope="projects:read projects:write""#.to_owned(),
            json!({"match": "all", "scopes": ["projects:read", "projects:write"]})
        )
    );
}

#[test]
fn accepted_responses_are_private_for_caches() {
    let fixture = Fixture::new();
    let good = request(&[("x-api-key", fixture.good.as_bytes())]);
    let response = send(&fixture.layer(), good.clone());
    assert_eq!(
        header(response.headers(), "vary"),
        ["Authorization, X-API-Key"]
    );
    assert_eq!(header(response.headers(), "cache-control"), ["private"]);

    let handler = service_fn(async |_: Request<String>| {
        let response = Response::builder()
            .header("cache-control", "max-age=60")
            .header("vary", "accept");
        response.body(String::new())
    });
    let response = block_on(fixture.layer().layer(handler).oneshot(good.clone())).unwrap();
    assert_eq!(
        header(response.headers(), "vary"),
        ["accept", "Authorization, X-API-Key"]
    );
    assert_eq!(header(response.headers(), "cache-control"), ["max-age=60"]);

    let response = send(&fixture.layer().without_cache_headers(), good);
    assert!(response.headers().is_empty());

    let optional = send(&fixture.layer().optional(), request(&[]));
    assert_eq!(
        header(optional.headers(), "vary"),
        ["Authorization, X-API-Key"]
    );

    let sources = CredentialSources::none().with_header(TokenHeader::X_API_KEY);
    let response = send(
        &fixture.layer().with_sources(sources),
        request(&[("x-api-key", fixture.good.as_bytes())]),
    );
    assert_eq!(header(response.headers(), "vary"), ["X-API-Key"]);
}

#[test]
fn marks_the_credential_sensitive_and_strips_it_if_configured() {
    let fixture = Fixture::new();
    let api_key = format!("ApiKey {}", fixture.good);
    let headers_seen_by_handler = |layer: ServiceTokenLayer, headers: Headers<'_>| {
        let echo = service_fn(async |request: Request<String>| {
            let mut response = Response::new(String::new());
            *response.headers_mut() = request.headers().clone();
            Ok::<_, std::convert::Infallible>(response)
        });
        let layer = layer.without_cache_headers();
        let response = block_on(layer.layer(echo).oneshot(request(headers))).unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_parts().0.headers
    };
    let both: Headers<'_> = &[
        ("authorization", api_key.as_bytes()),
        ("x-api-key", fixture.good.as_bytes()),
        ("accept", b"*/*"),
    ];
    let headers = headers_seen_by_handler(fixture.layer(), both);
    assert!(headers["authorization"].is_sensitive());
    assert!(headers["x-api-key"].is_sensitive());
    assert!(!headers["accept"].is_sensitive());

    let headers = headers_seen_by_handler(fixture.layer().strip_credential(), both);
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["accept"]);

    let ignored_authorization: Headers<'_> = &[
        ("authorization", b""),
        ("x-api-key", fixture.good.as_bytes()),
    ];
    let sources = CredentialSources::none().with_header(TokenHeader::X_API_KEY);
    let layer = fixture.layer().with_sources(sources).strip_credential();
    let headers = headers_seen_by_handler(layer, ignored_authorization);
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["authorization"]);

    let beside_basic: Headers<'_> = &[
        ("authorization", b"Basic eDp5"),
        ("x-api-key", fixture.good.as_bytes()),
    ];
    let headers = headers_seen_by_handler(fixture.layer().strip_credential(), beside_basic);
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["authorization"]);
    assert!(headers["authorization"].is_sensitive());
}

#[test]
fn authenticates_options_requests() {
    let fixture = Fixture::new();
    let mut preflight = request(&[("origin", b"https://example.com")]);
    *preflight.method_mut() = Method::OPTIONS;
    let response = send(&fixture.layer(), preflight);
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}

#[test]
fn custom_response_builder_cannot_grant_access() {
    let fixture = Fixture::new();
    let layer = fixture
        .layer()
        .with_rejection_response(|rejection: &Rejection| {
            Response::builder()
                .status(StatusCode::OK)
                .body(format!("granted: {}", rejection.code()))
                .unwrap()
        });
    let inner = service_fn(
        async |_: Request<String>| -> Result<Response<String>, &str> {
            panic!("a rejected request reached the inner service")
        },
    );
    let response = block_on(layer.layer(inner).oneshot(request(&[]))).unwrap();
    assert_eq!(response.body(), "granted: missing_token");
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.reason(), Reason::MissingToken);
}
