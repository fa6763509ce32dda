//! Callers that the application authenticated, beside service tokens.

use std::convert::Infallible;

use futures::executor::block_on;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_service_token::authorize::{Caller, RequireRolesLayer, RequireScopesLayer};
use tower_service_token::header::{CredentialSources, TokenHeader};
use tower_service_token::principal::{Identity, Requirement};
use tower_service_token::reject::{Rejection, RejectionReason};
use tower_service_token::store::TokenRecord;
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer};

/// Responds with the kind and the name of the caller.
async fn show(request: Request<String>) -> Result<Response<String>, Infallible> {
    Ok(Response::new(
        match Caller::from_extensions(request.extensions()) {
            Ok(Caller::Token(principal)) => format!("token {}", principal.name()),
            Ok(Caller::Identity(identity)) => format!("identity {}", identity.name()),
            Err(rejection) => format!("none: {:?}", rejection.reason()),
        },
    ))
}

fn alice() -> Identity {
    Identity::new("alice")
        .with_roles(["deployer"])
        .with_scopes(["projects:*"])
}

/// A layer with one token, `ci`, that may read projects, and the token.
fn layer() -> (ServiceTokenLayer, String) {
    let (store, token) = (MemoryStore::new(), TokenFormat::default().mint().unwrap());
    let record = TokenRecord::from(&token)
        .with_name("ci")
        .with_scopes(["projects:read"]);
    store.insert(record).unwrap();
    (
        ServiceTokenLayer::new(store),
        token.expose_secret().to_owned(),
    )
}

/// A layer that takes the identity which the application put into the extensions.
fn accepting() -> (ServiceTokenLayer, String) {
    let (layer, token) = layer();
    let layer = layer.with_identity(|extensions| extensions.get::<Identity>().cloned());
    (layer, token)
}

fn request(identity: Option<Identity>, token: Option<&str>) -> Request<String> {
    let mut request = Request::new(String::new());
    if let Some(identity) = identity {
        request.extensions_mut().insert(identity);
    }
    if let Some(token) = token {
        let token = HeaderValue::from_str(token).unwrap();
        request.headers_mut().insert("x-api-key", token);
    }
    request
}

fn send<S>(service: S, request: Request<String>) -> Response<String>
where
    S: Service<Request<String>, Response = Response<String>, Error = Infallible>,
{
    block_on(service.oneshot(request)).unwrap()
}

fn reason(response: &Response<String>) -> RejectionReason {
    let rejection = response.extensions().get::<Rejection>();
    rejection.expect("a rejected request").reason()
}

#[test]
fn identity_replaces_a_missing_token_only_if_switched_on() {
    let (layer, _) = layer();
    let response = send(layer.layer(service_fn(show)), request(Some(alice()), None));
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let optional = layer.optional().layer(service_fn(show));
    let response = send(optional, request(Some(alice()), None));
    assert_eq!(response.body(), "none: MissingToken");

    let (layer, _) = accepting();
    for layer in [layer.clone(), layer.optional()] {
        let response = send(layer.layer(service_fn(show)), request(Some(alice()), None));
        assert_eq!(response.body(), "identity alice");
    }
}

#[test]
fn request_without_token_and_identity_is_rejected_unless_optional() {
    let (layer, _) = accepting();
    let response = send(layer.layer(service_fn(show)), request(None, None));
    assert_eq!(reason(&response), RejectionReason::MissingToken);
    assert_eq!(
        response.headers()[WWW_AUTHENTICATE],
        r#"ApiKey realm="api""#
    );
    let response = send(
        layer.optional().layer(service_fn(show)),
        request(None, None),
    );
    assert_eq!(response.body(), "none: MissingToken");
}

#[test]
fn token_outranks_identity_and_invalid_token_is_rejected() {
    let (layer, token) = accepting();
    let unknown = TokenFormat::default().mint().unwrap();
    let damaged = format!(
        "{}{}",
        &token[..47],
        if token.ends_with('0') { '1' } else { '0' }
    );
    for layer in [layer.clone(), layer.optional()] {
        let service = layer.layer(service_fn(show));
        let response = send(service.clone(), request(Some(alice()), Some(&token)));
        assert_eq!(response.body(), "token ci");
        for (presented, expected) in [
            (unknown.expose_secret(), RejectionReason::UnknownToken),
            (&damaged, RejectionReason::DamagedToken),
            ("two words", RejectionReason::MalformedHeader),
            ("", RejectionReason::MalformedHeader),
        ] {
            let response = send(service.clone(), request(Some(alice()), Some(presented)));
            assert_eq!(reason(&response), expected, "{presented}");
        }
    }
}

#[test]
fn identity_source_is_not_called_for_requests_with_a_token() {
    let (layer, token) = layer();
    let layer = layer.with_identity(|_| panic!("called"));
    let service = layer.layer(service_fn(show));
    let response = send(service.clone(), request(None, Some(&token)));
    assert_eq!(response.body(), "token ci");
    assert_eq!(send(service, request(None, Some("unknown"))).status(), 401);
}

#[test]
fn principal_in_the_extensions_is_no_identity() {
    let (layer, token) = accepting();
    let principal = service_fn(async |request: Request<String>| {
        let mut response = Response::new(String::new());
        let principal = request.extensions().get::<Principal>().unwrap().clone();
        response.extensions_mut().insert(principal);
        Ok(response)
    });
    let response = send(layer.layer(principal), request(None, Some(&token)));
    let principal = response.extensions().get::<Principal>().unwrap();
    let mut forged = request(None, None);
    forged.extensions_mut().insert(principal.clone());
    let response = send(layer.layer(service_fn(show)), forged);
    assert_eq!(reason(&response), RejectionReason::MissingToken);
}

#[test]
fn inner_layer_decides_again() {
    let (outer, token) = accepting();
    let header = TokenHeader::new("x-inner".parse().unwrap()).unwrap();
    let sources = CredentialSources::none().with_header(header);
    let inner = ServiceTokenLayer::new(MemoryStore::new()).with_sources(sources);

    let optional = outer.layer(inner.clone().optional().layer(service_fn(show)));
    for token in [None, Some(&*token)] {
        let response = send(optional.clone(), request(Some(alice()), token));
        assert_eq!(response.body(), "none: MissingToken");
    }
    let required = outer.layer(inner.layer(service_fn(show)));
    let response = send(required, request(Some(alice()), None));
    assert_eq!(reason(&response), RejectionReason::MissingToken);
}

#[test]
fn token_of_an_inner_layer_outranks_the_identity_of_an_outer_one() {
    let (outer, _) = accepting();
    let (inner, token) = layer();
    let header = TokenHeader::new("x-inner".parse().unwrap()).unwrap();
    let inner = inner.with_sources(CredentialSources::none().with_header(header));
    let guard = RequireScopesLayer::all_of(["projects:write"]);
    let mut request = request(Some(alice()), None);
    let token = HeaderValue::from_str(&token).unwrap();
    request.headers_mut().insert("x-inner", token);
    let shown = outer.layer(inner.layer(service_fn(show)));
    assert_eq!(send(shown, request.clone()).body(), "token ci");
    // Only the identity has this scope.
    let guarded = outer.layer(inner.layer(guard.layer(service_fn(show))));
    assert_eq!(
        reason(&send(guarded, request)),
        RejectionReason::InsufficientScope
    );
}

#[test]
fn stripping_leaves_bearer_tokens_of_another_format() {
    let (layer, token) = accepting();
    let layer = layer
        .optional()
        .accept_bearer_of(TokenFormat::default())
        .strip_credential();
    let show = service_fn(async |request: Request<String>| {
        let left = request.headers().get(AUTHORIZATION);
        let left = left.map_or("", |value| value.to_str().unwrap());
        Ok::<_, Infallible>(Response::new(left.to_owned()))
    });
    for (value, left) in [
        (format!("Bearer {token}"), ""),
        ("Bearer eyJ.e30.c2ln".to_owned(), "Bearer eyJ.e30.c2ln"),
    ] {
        let mut request = request(None, None);
        let value = HeaderValue::from_str(&value).unwrap();
        request.headers_mut().insert(AUTHORIZATION, value);
        assert_eq!(send(layer.layer(show), request).body(), left);
    }
}

#[test]
fn guards_check_the_rights_of_an_identity() {
    let (layer, _) = accepting();
    let roles = |roles: &'static [&'static str]| RequireRolesLayer::all_of(roles.iter().copied());
    let scopes =
        |scopes: &'static [&'static str]| RequireScopesLayer::all_of(scopes.iter().copied());
    for (needed, status) in [
        (&["deployer"][..], 200),
        (&["deployer", "admin"], 403),
        (&[], 403),
    ] {
        let service = layer.layer(roles(needed).layer(service_fn(show)));
        let response = send(service, request(Some(alice()), None));
        assert_eq!(response.status(), status, "{needed:?}");
    }
    for (needed, status) in [
        (&["projects:read"][..], 200),
        (&["projects:read", "users:read"], 403),
        (&["*"], 403),
    ] {
        let service = layer.layer(scopes(needed).layer(service_fn(show)));
        let response = send(service, request(Some(alice()), None));
        assert_eq!(response.status(), status, "{needed:?}");
    }
    let nothing = Identity::new("mallory");
    let service = layer.layer(roles(&["deployer"]).layer(service_fn(show)));
    assert_eq!(send(service, request(Some(nothing), None)).status(), 403);
}

#[test]
fn rejection_of_an_identity_speaks_of_no_token_and_has_no_challenge() {
    let (layer, token) = accepting();
    let guard = RequireScopesLayer::all_of(["users:read"]);
    let service = layer.accept_bearer().layer(guard.layer(service_fn(show)));
    let response = send(service.clone(), request(Some(alice()), None));
    assert_eq!(response.status(), 403);
    assert!(!response.headers().contains_key(WWW_AUTHENTICATE));
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body = response.body();
    assert!(body.contains(r#""code":"insufficient_scope""#), "{body}");
    assert!(
        body.contains("the caller lacks a required role or scope"),
        "{body}"
    );
    assert!(body.contains("users:read"), "{body}");
    assert!(!body.contains("token"), "{body}");
    assert_eq!(
        reason(&response),
        RejectionReason::IdentityInsufficientScope
    );

    // The contract for tokens is unchanged.
    let response = send(service, request(Some(alice()), Some(&token)));
    let challenges = response.headers().get_all(WWW_AUTHENTICATE);
    assert_eq!(challenges.iter().count(), 2);
    assert_eq!(reason(&response), RejectionReason::InsufficientScope);
    let body = response.body();
    assert!(
        body.contains("the service token lacks a required role or scope"),
        "{body}"
    );
}

#[test]
fn caller_require_checks_tokens_and_identities() {
    let caller = Caller::Identity(alice());
    let allowed = Requirement::all_scopes(["projects:write"]);
    assert!(caller.require(allowed).is_ok());
    let denied = caller
        .require(Requirement::any_role(["admin"]))
        .unwrap_err();
    assert_eq!(denied.reason(), RejectionReason::IdentityInsufficientScope);
    assert_eq!(denied.token_id(), None);
    assert_eq!(
        denied.required().unwrap().names().collect::<Vec<_>>(),
        ["admin"]
    );
    assert_eq!(caller.name(), "alice");
    assert!(caller.principal().is_none());
    assert_eq!(caller.identity(), Some(&alice()));

    let (layer, token) = accepting();
    let check = service_fn(async |request: Request<String>| {
        let caller = Caller::from_extensions(request.extensions()).unwrap();
        assert!(
            caller
                .require(Requirement::any_scope(["projects:read"]))
                .is_ok()
        );
        let denied = caller
            .require(Requirement::any_role(["admin"]))
            .unwrap_err();
        assert_eq!(denied.reason(), RejectionReason::InsufficientScope);
        assert_eq!(denied.token_id(), caller.principal().map(Principal::id));
        assert!(denied.token_id().is_some());
        assert!(caller.identity().is_none());
        Ok(Response::new(String::new()))
    });
    send(layer.layer(check), request(Some(alice()), Some(&token)));
}

#[test]
fn caller_without_the_layer_is_500() {
    let request = request(Some(alice()), None);
    let rejection = Caller::from_extensions(request.extensions()).unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::MissingLayer);
    let guard = RequireRolesLayer::any_of(["deployer"]);
    let response = send(guard.layer(service_fn(show)), request);
    assert_eq!(response.status(), 500);
}
