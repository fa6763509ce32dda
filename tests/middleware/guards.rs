//! Guards: accepted and rejected callers, and guards without the layer.

use std::convert::Infallible;

use futures::executor::block_on;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_service_token::authorize::{RequireRolesLayer, RequireScopesLayer};
use tower_service_token::header::{CredentialSources, TokenHeader};
use tower_service_token::principal::Requirement;
use tower_service_token::reject::{Realm, Rejection, RejectionReason};
use tower_service_token::store::TokenRecord;
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer};

async fn hello(_: Request<String>) -> Result<Response<String>, Infallible> {
    Ok(Response::default())
}

/// Returns a layer, and a request from a caller with these roles and scopes.
fn caller(roles: &[&str], scopes: &[&str]) -> (ServiceTokenLayer, Request<String>) {
    let store = MemoryStore::new();
    let token = TokenFormat::default().mint().unwrap();
    let record = TokenRecord::from(&token)
        .with_roles(roles)
        .with_scopes(scopes);
    store.insert(record).unwrap();
    let request = Request::builder()
        .header("x-api-key", token.expose_secret())
        .body(String::new())
        .unwrap();
    (ServiceTokenLayer::new(store), request)
}

fn principal(roles: &[&str], scopes: &[&str]) -> Principal {
    let (layer, request) = caller(roles, scopes);
    let handler = service_fn(async |request: Request<String>| {
        let mut response = Response::new(String::new());
        let principal = request.extensions().get::<Principal>().unwrap();
        response.extensions_mut().insert(principal.clone());
        Ok::<_, Infallible>(response)
    });
    let response = block_on(layer.layer(handler).oneshot(request)).unwrap();
    response.extensions().get::<Principal>().unwrap().clone()
}

fn assert_accepted(
    service: impl Service<Request<String>, Response = Response<String>, Error = Infallible>,
    request: Request<String>,
    is_accepted: bool,
    name: &str,
) {
    let status = block_on(service.oneshot(request)).unwrap().status();
    let expected = if is_accepted {
        StatusCode::OK
    } else {
        StatusCode::FORBIDDEN
    };
    assert_eq!(status, expected, "{name}");
}

#[test]
fn role_guards_require_exact_roles() {
    #[rustfmt::skip]
    let rows: &[(&[&str], RequireRolesLayer, bool)] = &[
        (&["a"], RequireRolesLayer::any_of(["a", "b"]), true),
        (&["c"], RequireRolesLayer::any_of(["a", "b"]), false),
        (&[], RequireRolesLayer::any_of(["a"]), false),
        (&["A"], RequireRolesLayer::any_of(["a"]), false),
        (&["*"], RequireRolesLayer::any_of(["a"]), false),
        (&["a", "b"], RequireRolesLayer::all_of(["b", "a"]), true),
        (&["a"], RequireRolesLayer::all_of(["a", "b"]), false),
        (&["a"], RequireRolesLayer::any_of([""; 0]), false),
        (&["a"], RequireRolesLayer::all_of([""; 0]), false),
        (&[""], RequireRolesLayer::any_of([""]), false),
    ];
    for (roles, guard, is_accepted) in rows {
        let (layer, request) = caller(roles, &["*"]);
        let service = layer.layer(guard.layer(service_fn(hello)));
        assert_accepted(
            service,
            request,
            *is_accepted,
            &format!("{roles:?} before {guard:?}"),
        );
    }
}

#[test]
fn scope_guards_honor_wildcards() {
    #[rustfmt::skip]
    let rows: &[(&[&str], RequireScopesLayer, bool)] = &[
        (&["p:read"], RequireScopesLayer::any_of(["p:read", "p:write"]), true),
        (&["p:*"], RequireScopesLayer::all_of(["p:read", "p:write"]), true),
        (&["p:read"], RequireScopesLayer::all_of(["p:read", "p:write"]), false),
        (&["p:**"], RequireScopesLayer::all_of(["p:env:read"]), true),
        (&["p:*"], RequireScopesLayer::all_of(["p:env:read"]), false),
        (&["*"], RequireScopesLayer::all_of(["anything:at:all"]), true),
        (&[], RequireScopesLayer::any_of(["p:read"]), false),
        (&["*"], RequireScopesLayer::any_of([""; 0]), false),
        (&["*"], RequireScopesLayer::all_of([""; 0]), false),
    ];
    for (scopes, guard, is_accepted) in rows {
        let (layer, request) = caller(&["a"], scopes);
        let service = layer.layer(guard.layer(service_fn(hello)));
        assert_accepted(
            service,
            request,
            *is_accepted,
            &format!("{scopes:?} before {guard:?}"),
        );
    }
}

#[test]
fn guard_without_the_layer_responds_500() {
    let inner = service_fn(
        async |_: Request<String>| -> Result<Response<String>, Infallible> {
            panic!("the inner service was reached")
        },
    );
    let guard = RequireRolesLayer::any_of(["a"]);
    let response = block_on(guard.layer(inner).oneshot(Request::new(String::new()))).unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!response.headers().contains_key("www-authenticate"));
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.reason(), RejectionReason::MissingLayer);
}

#[test]
fn guard_behind_an_optional_layer_challenges_anonymous_requests() {
    let layer = ServiceTokenLayer::new(MemoryStore::new());
    let layer = layer
        .optional()
        .accept_bearer()
        .with_realm(Realm::new("farm").unwrap());
    let guard = RequireRolesLayer::any_of(["a"]);
    let service = layer.layer(guard.layer(service_fn(hello)));
    let response = block_on(service.oneshot(Request::new(String::new()))).unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let challenges: Vec<_> = response
        .headers()
        .get_all("www-authenticate")
        .iter()
        .collect();
    assert_eq!(
        challenges,
        [r#"ApiKey realm="farm""#, r#"Bearer realm="farm""#]
    );
}

#[test]
fn guard_uses_its_own_response_builder_and_inserts_the_rejection() {
    let (layer, request) = caller(&[], &[]);
    let guard = RequireScopesLayer::any_of(["a:b"])
        .with_rejection_response(|rejection: &Rejection| rejection.to_response("no".to_owned()));
    let service = layer.layer(guard.layer(service_fn(hello)));
    let response = block_on(service.oneshot(request)).unwrap();
    assert_eq!(
        (response.status(), response.body().as_str()),
        (StatusCode::FORBIDDEN, "no")
    );
    let rejection = response.extensions().get::<Rejection>().unwrap();
    let required: Vec<_> = rejection.required().unwrap().names().collect();
    assert_eq!(required, ["a:b"]);
}

#[test]
fn principal_require_checks_a_requirement() {
    let principal = principal(&["deployer"], &["projects:*"]);
    let allowed = Requirement::all_scopes(["projects:write"]);
    assert!(principal.require(allowed).is_ok());
    let denied = principal
        .require(Requirement::any_role(["admin"]))
        .unwrap_err();
    assert_eq!(denied.status(), StatusCode::FORBIDDEN);
    assert_eq!(denied.token_id(), Some(principal.id()));
}

#[test]
fn unquotable_required_scope_is_enforced_and_left_out_of_the_challenge() {
    let (layer, request) = caller(&[], &["a:b"]);
    let guard = RequireScopesLayer::all_of(["a:b", "x\" y"]);
    let service = layer.layer(guard.layer(service_fn(hello)));
    let response = block_on(service.oneshot(request)).unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        response.headers()["www-authenticate"],
        r#"ApiKey realm="api", error="insufficient_scope", scope="a:b""#
    );
}

#[test]
fn principal_contains_the_fields_of_its_record() {
    let store = MemoryStore::new();
    let token = TokenFormat::default().mint().unwrap();
    let expiry = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    let record = TokenRecord::from(&token)
        .with_name("nightly")
        .with_subject("build farm")
        .with_roles(["deployer"])
        .with_scopes(["projects:write"])
        .with_label("team", "core")
        .with_label("workspace", "w1")
        .with_expires_at(expiry);
    store.insert(record.clone()).unwrap();
    let debug_principal = service_fn(async |request: Request<String>| {
        let caller = request.extensions().get::<Principal>().unwrap();
        Ok::<_, Infallible>(Response::new(format!("{caller:?}")))
    });
    let request = Request::builder().header("x-api-key", token.expose_secret());
    let request = request.body(String::new()).unwrap();
    let shown = block_on(
        ServiceTokenLayer::new(store)
            .layer(debug_principal)
            .oneshot(request),
    )
    .unwrap();
    let shown = shown.body();
    for part in [
        "nightly",
        "build farm",
        "deployer",
        "projects:write",
        "team",
        "w1",
    ] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    assert!(shown.contains(&token.id().to_string()));
    assert_eq!(record.subject(), Some("build farm"));
    assert_eq!(
        record.labels().collect::<Vec<_>>(),
        [("team", "core"), ("workspace", "w1")]
    );
}

#[test]
fn guard_challenges_have_the_realm_and_schemes_of_the_outer_layer() {
    let (layer, request) = caller(&[], &[]);
    let layer = layer
        .accept_bearer()
        .with_realm(Realm::new("farm").unwrap());
    for layer in [layer.clone(), layer.without_cache_headers()] {
        let guard = RequireScopesLayer::any_of(["a:b"]);
        let service = layer.layer(guard.layer(service_fn(hello)));
        let response = block_on(service.oneshot(request.clone())).unwrap();
        let challenges = response.headers().get_all("www-authenticate");
        let challenges: Vec<_> = challenges.iter().map(HeaderValue::as_bytes).collect();
        let rest = r#"realm="farm", error="insufficient_scope", scope="a:b""#;
        assert_eq!(
            challenges,
            [
                format!("ApiKey {rest}").as_bytes(),
                format!("Bearer {rest}").as_bytes()
            ]
        );
    }
}

#[test]
fn inner_layer_keeps_its_own_challenge() {
    let (outer, mut request) = caller(&[], &[]);
    let inner = ServiceTokenLayer::new(MemoryStore::new()).with_realm(Realm::new("inner").unwrap());
    let inner = inner.with_sources(
        CredentialSources::none()
            .with_header(TokenHeader::new(HeaderName::from_static("x-inner")).unwrap()),
    );
    request
        .headers_mut()
        .insert("x-inner", "unknown".parse().unwrap());
    let service = outer
        .with_realm(Realm::new("outer").unwrap())
        .layer(inner.layer(service_fn(hello)));
    let response = block_on(service.oneshot(request)).unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        response.headers()["www-authenticate"],
        r#"ApiKey realm="inner", error="invalid_token""#
    );
}
