//! Principals for tests of handlers: the fields they show, and that only the feature accepts them.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use futures::executor::block_on;
use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::authorize::{RequireRolesLayer, RequireScopesLayer};
use tower_service_token::lifecycle::{LifecycleError, NewToken};
use tower_service_token::testing::{self, AuthenticatedLayer, PrincipalBuilder};
use tower_service_token::token::DisplayId;
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, ServiceTokens};

async fn name(request: Request<String>) -> Result<Response<String>, Infallible> {
    let caller = request.extensions().get::<Principal>();
    Ok(Response::new(
        caller.map_or("nobody", Principal::name).to_owned(),
    ))
}

#[test]
fn builder_sets_every_field_of_a_principal() {
    let expiry = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let id = "7Hq2mX9bTe".parse().unwrap();
    let caller: Principal = testing::principal("ci")
        .with_id(id)
        .with_subject("alice")
        .with_owner("user:1")
        .with_display_id(DisplayId::new("key-1").unwrap())
        .with_data(7_u8)
        .with_roles(["deployer"])
        .with_scopes(["projects:*"])
        .with_label("team", "web")
        .with_expires_at(expiry)
        .mark_stale()
        .use_previous_secret()
        .into();
    assert_eq!(
        (caller.id(), caller.name(), caller.subject()),
        (id, "ci", Some("alice"))
    );
    assert_eq!(caller.owner(), Some("user:1"));
    assert_eq!(caller.display_id().to_string(), "key-1");
    assert_eq!(caller.data(), Some(&7_u8));
    assert!(caller.roles().contains("deployer") && caller.scopes().allow("projects:read"));
    assert_eq!(caller.labels().collect::<Vec<_>>(), [("team", "web")]);
    assert_eq!(caller.expires_at(), Some(expiry));
    assert!(caller.is_stale() && caller.uses_previous_secret());

    let plain: Principal = testing::principal("ci").into();
    assert!(!plain.is_stale() && !plain.uses_previous_secret());
    assert!(plain.roles().is_empty() && plain.scopes().is_empty());
    assert_eq!((plain.subject(), plain.expires_at()), (None, None));
    let again: Principal = testing::principal("ci").into();
    let other: Principal = testing::principal("cd").into();
    assert!(plain.id() == again.id() && plain.id() != other.id());
}

#[test]
fn guards_accept_an_authenticated_request_with_the_rights() {
    let caller = || {
        testing::principal("ci")
            .with_roles(["deployer"])
            .with_scopes(["a:*"])
    };
    let status = |caller: PrincipalBuilder| {
        let inner = RequireScopesLayer::all_of(["a:b"]).layer(service_fn(name));
        let service = RequireRolesLayer::any_of(["deployer"]).layer(inner);
        let request = testing::authenticated(Request::new(String::new()), caller);
        block_on(service.oneshot(request)).unwrap().status()
    };
    assert_eq!(status(caller()), StatusCode::OK);
    assert_eq!(status(caller().with_scopes(["b:*"])), StatusCode::FORBIDDEN);
    assert_eq!(status(caller().with_roles([""; 0])), StatusCode::FORBIDDEN);
}

#[test]
fn layer_authenticates_every_request() {
    let service = AuthenticatedLayer::new(testing::principal("ci")).layer(service_fn(name));
    for _ in 0..2 {
        let response = service.clone().oneshot(Request::new(String::new()));
        assert_eq!(block_on(response).unwrap().body(), "ci");
    }
}

/// Also in a program with the feature enabled.
#[test]
fn service_token_layer_removes_a_test_principal() {
    for (layer, status, body) in [
        (
            ServiceTokenLayer::new(MemoryStore::new()),
            StatusCode::UNAUTHORIZED,
            None,
        ),
        (
            ServiceTokenLayer::new(MemoryStore::new()).optional(),
            StatusCode::OK,
            Some("nobody"),
        ),
    ] {
        let service = layer.layer(service_fn(name));
        let service = AuthenticatedLayer::new(testing::principal("ci")).layer(service);
        let response = block_on(service.oneshot(Request::new(String::new()))).unwrap();
        assert_eq!(response.status(), status);
        if let Some(body) = body {
            assert_eq!(response.body(), body);
        }
    }
}

/// The holder of a stored token may change what it covers; a principal without a token may not.
#[test]
fn only_the_principal_of_a_stored_token_can_act() {
    let tokens = ServiceTokens::new(MemoryStore::new());
    let issued = block_on(tokens.create(NewToken::new("ci").with_roles(["deployer"]))).unwrap();
    let create = |caller: Principal| {
        let new = NewToken::new("cd").with_roles(["deployer"]);
        block_on(tokens.clone().acting_for(caller).create(new))
    };
    assert!(create(PrincipalBuilder::from(issued.record().clone()).into()).is_ok());
    let error = create(testing::principal("ci").with_roles(["deployer"]).into()).unwrap_err();
    assert!(matches!(error, LifecycleError::UnknownActor), "{error:?}");
}

#[cfg(feature = "axum")]
#[test]
fn extractors_accept_an_authenticated_request() {
    use axum::body::Body;
    use axum::routing::get;
    use axum::{Router, extract::FromRequestParts};

    let routes: Router = Router::new().route(
        "/",
        get(async |caller: Principal, _: Option<Principal>| caller.name().to_owned()),
    );
    let app = routes
        .clone()
        .layer(AuthenticatedLayer::new(testing::principal("ci")));
    let get = || Request::get("/").body(Body::empty()).unwrap();
    assert_eq!(
        block_on(app.oneshot(get())).unwrap().status(),
        StatusCode::OK
    );
    let response = block_on(routes.oneshot(get())).unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);

    let request = testing::authenticated(Request::new(()), testing::principal("ci"));
    let (mut parts, ()) = request.into_parts();
    let caller = <Principal as FromRequestParts<()>>::from_request_parts(&mut parts, &());
    let caller = block_on(caller).unwrap();
    assert_eq!(caller.name(), "ci");
}
