//! The guard that has the requirements of all gRPC methods in one table.

use std::convert::Infallible;

use futures::executor::block_on;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::authorize::GrpcMethodGuardLayer;
use tower_service_token::principal::{Identity, Requirement};
use tower_service_token::reject::{
    GrpcStatus, ProblemJson, Rejection, RejectionReason, ResponseForRejection,
};
use tower_service_token::store::TokenRecord;
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, ServiceTokenLayer};

const OK: &str = "0";
const INVALID_ARGUMENT: &str = "3";
const PERMISSION_DENIED: &str = "7";
const INTERNAL: &str = "13";
const UNAUTHENTICATED: &str = "16";

async fn reached(_: Request<String>) -> Result<Response<String>, Infallible> {
    let response = Response::builder().header("grpc-status", OK);
    Ok(response.body("reached".to_owned()).unwrap())
}

fn table() -> GrpcMethodGuardLayer {
    GrpcMethodGuardLayer::new()
        .with_method("jobs.v1.Jobs/List", Requirement::any_scope(["jobs:read"]))
        .with_method(
            "/jobs.v1.Jobs/Start",
            Requirement::all_scopes(["jobs:write"]),
        )
        .with_method("jobs.v1.Jobs/Closed", Requirement::any_scope([""; 0]))
        .with_authenticated_method("jobs.v1.Jobs/WhoAmI")
        .with_public_method("grpc.health.v1.Health/Check")
}

/// A layer that is optional and takes identities, and a token that may read jobs.
fn layer() -> (ServiceTokenLayer, String) {
    let (store, token) = (MemoryStore::new(), TokenFormat::default().mint().unwrap());
    let record = TokenRecord::from(&token).with_scopes(["jobs:read"]);
    store.insert(record).unwrap();
    let layer = ServiceTokenLayer::new(store)
        .optional()
        .with_identity(|extensions| extensions.get::<Identity>().cloned());
    (layer, token.expose_secret().to_owned())
}

fn request(path: &str, token: Option<&str>, identity: Option<Identity>) -> Request<String> {
    let mut request = Request::post(path).header(CONTENT_TYPE, "application/grpc");
    if let Some(token) = token {
        request = request.header("x-api-key", token);
    }
    let mut request = request.body(String::new()).unwrap();
    if let Some(identity) = identity {
        request.extensions_mut().insert(identity);
    }
    request
}

fn respond(
    layer: &ServiceTokenLayer,
    methods: &GrpcMethodGuardLayer,
    request: Request<String>,
) -> Response<String> {
    let service = layer
        .clone()
        .with_rejection_response(GrpcStatus)
        .layer(methods.layer(service_fn(reached)));
    block_on(service.oneshot(request)).unwrap()
}

#[test]
fn checks_the_caller_by_method() {
    let (layer, token) = layer();
    let token = Some(&*token);
    let writer = || Some(Identity::new("alice").with_scopes(["jobs:write"]));
    for (path, token, identity, expected) in [
        ("/jobs.v1.Jobs/List", token, None, OK),
        ("/jobs.v1.Jobs/List", None, None, UNAUTHENTICATED),
        ("/jobs.v1.Jobs/List", None, writer(), PERMISSION_DENIED),
        ("/jobs.v1.Jobs/Start", token, None, PERMISSION_DENIED),
        ("/jobs.v1.Jobs/Start", None, writer(), OK),
        // The token decides, not the identity beside it.
        ("/jobs.v1.Jobs/Start", token, writer(), PERMISSION_DENIED),
        ("/jobs.v1.Jobs/Closed", token, None, PERMISSION_DENIED),
        ("/jobs.v1.Jobs/WhoAmI", token, None, OK),
        ("/jobs.v1.Jobs/WhoAmI", None, writer(), OK),
        ("/jobs.v1.Jobs/WhoAmI", None, None, UNAUTHENTICATED),
        ("/grpc.health.v1.Health/Check", None, None, OK),
        ("/grpc.health.v1.Health/Check", token, None, OK),
        (
            "/grpc.health.v1.Health/Check",
            Some("other"),
            None,
            UNAUTHENTICATED,
        ),
        (
            "/grpc.health.v1.Health/Check",
            Some("a b"),
            None,
            INVALID_ARGUMENT,
        ),
    ] {
        let what = format!("{path} {token:?} {identity:?}");
        let response = respond(&layer, &table(), request(path, token, identity));
        assert_eq!(response.headers()["grpc-status"], expected, "{what}");
        assert_eq!(response.body() == "reached", expected == OK, "{what}");
        assert_eq!(response.status(), 200);
    }
}

#[test]
fn methods_without_an_entry_are_closed() {
    let (layer, token) = layer();
    let admin = || Some(Identity::new("root").with_scopes(["**"]));
    for path in [
        "/jobs.v1.Jobs/Delete",
        "/jobs.v1.Jobs/list",
        "/jobs.v1.jobs/List",
        "/jobs.v1.Jobs/List/",
        "//jobs.v1.Jobs/List",
        "/jobs.v1.Jobs//List",
        "/jobs.v1.Jobs%2FList",
        "/x/../jobs.v1.Jobs/List",
        "/grpc.health.v1.Health/Watch",
        "/jobs.v1.Jobs",
        "/",
    ] {
        for (token, identity, expected) in [
            (Some(&*token), None, PERMISSION_DENIED),
            (None, admin(), PERMISSION_DENIED),
            (None, None, UNAUTHENTICATED),
        ] {
            let response = respond(&layer, &table(), request(path, token, identity));
            assert_eq!(response.headers()["grpc-status"], expected, "{path}");
            assert_eq!(response.body(), "", "{path}");
        }
    }
    // The query is not part of the method.
    let query = request("/jobs.v1.Jobs/List?a=/x", Some(&token), None);
    let response = respond(&layer, &table(), query);
    assert_eq!(response.headers()["grpc-status"], OK);

    let empty = GrpcMethodGuardLayer::new();
    let response = respond(
        &layer,
        &empty,
        request("/jobs.v1.Jobs/List", Some(&token), None),
    );
    assert_eq!(response.headers()["grpc-status"], PERMISSION_DENIED);
    let rejection = response.extensions().get::<Rejection>().unwrap();
    let source = std::error::Error::source(rejection).unwrap().to_string();
    assert_eq!(
        source,
        "the gRPC method has no entry in the GrpcMethodGuardLayer"
    );
    assert!(rejection.token_id().is_some());
}

#[test]
fn last_entry_for_a_method_applies() {
    let (layer, token) = layer();
    let open = table().with_authenticated_method("/jobs.v1.Jobs/Start");
    let closed = open
        .clone()
        .with_method("jobs.v1.Jobs/Start", Requirement::any_role(["x"]));
    for (methods, expected) in [(open, OK), (closed, PERMISSION_DENIED)] {
        let request = request("/jobs.v1.Jobs/Start", Some(&token), None);
        let response = respond(&layer, &methods, request);
        assert_eq!(response.headers()["grpc-status"], expected);
    }
}

#[test]
fn table_without_the_layer_is_an_internal_error() {
    for path in [
        "/jobs.v1.Jobs/List",
        "/jobs.v1.Jobs/WhoAmI",
        "/unknown/Method",
    ] {
        let service = table().layer(service_fn(reached));
        let request = request(path, None, Some(Identity::new("alice")));
        let response = block_on(service.oneshot(request)).unwrap();
        assert_eq!(response.headers()["grpc-status"], INTERNAL, "{path}");
        assert_eq!(response.body(), "");
    }
}

#[test]
fn table_uses_the_chosen_response_builder() {
    let (layer, _) = layer();
    let methods = table().with_rejection_response(ProblemJson);
    let service = layer.layer(methods.layer(service_fn(reached)));
    let response = block_on(service.oneshot(request("/a/B", None, None))).unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
}

#[test]
fn every_rejection_converts_to_a_grpc_response() {
    for (reason, status) in [
        (RejectionReason::MissingToken, "16"),
        (RejectionReason::RepeatedHeader, "3"),
        (RejectionReason::UnknownToken, "16"),
        (RejectionReason::InsufficientScope, "7"),
        (RejectionReason::IdentityInsufficientScope, "7"),
        (RejectionReason::RateLimited, "8"),
        (RejectionReason::StoreUnavailable, "14"),
        (RejectionReason::CorruptRecord, "13"),
        (RejectionReason::MissingLayer, "13"),
    ] {
        let rejection = Rejection::new(reason);
        assert!(!rejection.is_grpc());
        let response = rejection.to_grpc_response("body");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], status, "{reason:?}");
        assert_eq!(response.headers()["grpc-message"], rejection.detail());
        assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc");
        assert_eq!(
            response.headers().contains_key(WWW_AUTHENTICATE),
            ["16", "3"].contains(&status) || reason == RejectionReason::InsufficientScope,
        );
        assert_eq!(
            response.headers().contains_key("retry-after"),
            ["8", "14"].contains(&status)
        );

        // A guard of one's own, with the builder of the service.
        let json = Request::new(());
        let grpc = request("/a/B", None, None);
        let of = |headers| -> Response<String> {
            GrpcStatus.response_for_rejection(&rejection.clone().for_request(headers))
        };
        assert_eq!(of(grpc.headers()).headers()["grpc-status"], status);
        assert_eq!(of(json.headers()).status(), reason.status());
    }
}
