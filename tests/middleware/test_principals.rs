//! Callers for tests of handlers: the fields they show, and that only the feature accepts them.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use futures::executor::block_on;
use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::authorize::{Caller, RequireRolesLayer, RequireScopesLayer};
use tower_service_token::lifecycle::{LifecycleError, NewToken};
use tower_service_token::principal::Identity;
use tower_service_token::reject::{Rejection, RejectionReason};
use tower_service_token::testing::{self, PrincipalBuilder, SetCallerLayer};
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
    let service = SetCallerLayer::new(testing::principal("ci")).layer(service_fn(name));
    for _ in 0..2 {
        let response = service.clone().oneshot(Request::new(String::new()));
        assert_eq!(block_on(response).unwrap().body(), "ci");
    }
}

fn alice() -> Identity {
    Identity::new("alice").with_roles(["deployer"])
}

/// The name of the caller in a request, or the reason of the rejection.
fn caller<B>(request: &Request<B>) -> Result<String, RejectionReason> {
    let caller = Caller::from_extensions(request.extensions());
    let name = caller.map(|caller| caller.name().to_owned());
    name.map_err(|rejection| rejection.reason())
}

#[test]
fn requests_are_authenticated_as_a_token_or_an_identity_or_anonymous() {
    let ci = || testing::principal("ci");
    let request = || Request::new(());
    for (request, expected) in [
        (request(), Err(RejectionReason::MissingLayer)),
        (
            testing::anonymous(request()),
            Err(RejectionReason::MissingToken),
        ),
        (testing::authenticated(request(), ci()), Ok("ci")),
        (
            testing::authenticated(request(), Principal::from(ci())),
            Ok("ci"),
        ),
        (testing::authenticated(request(), alice()), Ok("alice")),
        (
            testing::authenticated(request(), Caller::from(ci())),
            Ok("ci"),
        ),
        (
            testing::authenticated(request(), Caller::Identity(alice())),
            Ok("alice"),
        ),
    ] {
        let expected = expected.map(str::to_owned);
        assert_eq!(caller(&request), expected);
        // The last call applies.
        let token = testing::authenticated(request, ci());
        assert_eq!(caller(&token), Ok("ci".to_owned()));
        let identity = testing::authenticated(token, alice());
        assert_eq!(caller(&identity), Ok("alice".to_owned()));
        assert!(identity.extensions().get::<Principal>().is_none());
        let token = testing::authenticated(identity, ci());
        let anonymous = testing::anonymous(token);
        assert_eq!(caller(&anonymous), Err(RejectionReason::MissingToken));
        assert!(anonymous.extensions().get::<Principal>().is_none());
    }
}

#[test]
fn guards_judge_a_test_identity_and_reject_an_anonymous_request() {
    let call = |layer: SetCallerLayer, role: &str| {
        let service = layer.layer(RequireRolesLayer::any_of([role]).layer(service_fn(name)));
        let response = block_on(service.oneshot(Request::new(String::new()))).unwrap();
        let rejection = response.extensions().get::<Rejection>();
        rejection.map_or(Ok(()), |rejection| Err(rejection.reason()))
    };
    assert_eq!(call(SetCallerLayer::new(alice()), "deployer"), Ok(()));
    assert_eq!(
        call(SetCallerLayer::new(alice()), "admin"),
        Err(RejectionReason::IdentityInsufficientScope)
    );
    assert_eq!(
        call(SetCallerLayer::anonymous(), "deployer"),
        Err(RejectionReason::MissingToken)
    );
}

/// A request that was made for a test in front of the real layer has no rights.
#[test]
fn service_token_layer_removes_a_test_identity() {
    let whoami = service_fn(async |request: Request<String>| {
        let caller = caller(&request).unwrap_or_else(|reason| reason.as_str().to_owned());
        Ok::<_, Infallible>(Response::new(caller))
    });
    for layer in [SetCallerLayer::new(alice()), SetCallerLayer::anonymous()] {
        let required = ServiceTokenLayer::new(MemoryStore::new());
        let service = layer.layer(required.layer(whoami));
        let response = block_on(service.oneshot(Request::new(String::new()))).unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let optional = ServiceTokenLayer::new(MemoryStore::new()).optional();
        let service = layer.layer(optional.layer(whoami));
        let response = block_on(service.oneshot(Request::new(String::new()))).unwrap();
        assert_eq!(response.body(), "missing_token");
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
        let service = SetCallerLayer::new(testing::principal("ci")).layer(service);
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
        .layer(SetCallerLayer::new(testing::principal("ci")));
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

#[cfg(feature = "axum")]
#[test]
fn optional_extractors_find_no_caller_in_an_anonymous_request() {
    use axum::body::Body;
    use axum::response::IntoResponse;
    use axum::routing::get;
    use axum::{Router, response::Response};

    async fn handle(token: Option<Principal>, caller: Option<Caller>) -> Response {
        let caller = caller.map_or("nobody".to_owned(), |caller| caller.name().to_owned());
        format!("{caller} {}", token.is_some()).into_response()
    }
    let routes: Router = Router::new().route("/", get(handle));
    for (layer, expected) in [
        (SetCallerLayer::anonymous(), "nobody false"),
        (SetCallerLayer::new(alice()), "alice false"),
        (SetCallerLayer::new(testing::principal("ci")), "ci true"),
    ] {
        let request = Request::get("/").body(Body::empty()).unwrap();
        let response = block_on(routes.clone().layer(layer).oneshot(request)).unwrap();
        let body = block_on(axum::body::to_bytes(response.into_body(), 100)).unwrap();
        assert_eq!(body, expected);
    }
}
