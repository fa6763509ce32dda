//! The output of the public types.

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::time::SystemTime;

use futures::executor::block_on;
use http::{HeaderMap, HeaderValue, Request, Response};
use serde::Serialize;
use tower::{Layer, service_fn};
use tower_service_token::authorize::{
    Caller, GrpcMethodGuardLayer, RequireRolesLayer, RequireScopesLayer,
};
use tower_service_token::clock::{ManualClock, SystemClock};
use tower_service_token::digest::TokenDigest;
use tower_service_token::header::{CredentialSources, TokenHeader, X_API_KEY};
use tower_service_token::lifecycle::IssuedToken;
use tower_service_token::principal::{Identity, Requirement, Roles, Scopes};
use tower_service_token::registry::Write;
use tower_service_token::reject::{
    FailureLogged, GrpcStatus, ProblemJson, Realm, Rejection, RejectionReason,
};
use tower_service_token::store::{
    Cached, ChainStore, Credential, MemoryStoreError, RotationKey, StoreError, StoreErrorKind,
    TokenRecord, TokenState, verdict,
};
use tower_service_token::token::{
    DisplayId, MintedToken, PresentedToken, TokenFormat, TokenId, TokenShape,
};
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, TokenStore};

use super::lifecycle_types;
use super::{SECRET, SECRET_PART, assert_no_secret, hex, leaks, minted_record, token_id};

/// The name of a public type, and its output.
pub(super) type Formatted = (&'static str, Vec<String>);

pub(super) fn debug_text(name: &'static str, value: &impl Debug) -> Formatted {
    (name, vec![format!("{value:?}"), format!("{value:#?}")])
}

/// Formats an error and all its sources with `Display` and `Debug`.
pub(super) fn error_text(name: &'static str, error: &(dyn Error + 'static)) -> Formatted {
    let mut texts = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        texts.extend([
            error.to_string(),
            format!("{error:?}"),
            format!("{error:#?}"),
        ]);
        next = error.source();
    }
    (name, texts)
}

fn credential() -> Credential<'static> {
    Credential::new(PresentedToken::new(SECRET).expect("visible ASCII"))
}

pub(super) fn principal() -> Principal {
    verdict(Some(minted_record()), &credential(), &SystemClock).expect("a valid token")
}

fn formatted_secrets() -> Vec<Formatted> {
    let presented = PresentedToken::new(SECRET).expect("visible ASCII");
    let mut formatted = vec![
        debug_text("PresentedToken", &presented),
        debug_text("PresentedToken", &presented.into_owned()),
        debug_text("Credential", &credential()),
        debug_text("Credential", &credential().into_owned()),
        debug_text("TokenDigest", credential().digest()),
        debug_text("TokenId", &token_id()),
        debug_text("DisplayId", &DisplayId::from(token_id())),
        debug_text("TokenFormat", &TokenFormat::default()),
        debug_text("TokenShape", &TokenFormat::default().inspect(SECRET)),
        debug_text("TokenShape", &TokenShape::Damaged),
        debug_text("SystemClock", &SystemClock),
        debug_text("ManualClock", &ManualClock::new(SystemTime::UNIX_EPOCH)),
    ];
    // The detector searches for `SECRET` only, and this token has a random secret.
    let minted = TokenFormat::default().mint().expect("random bytes");
    let (_, texts) = debug_text("MintedToken", &minted);
    for text in &texts {
        assert!(!text.contains(&minted.expose_secret()[18..]), "{text}");
        assert!(text.contains(&minted.id().to_string()), "{text}");
    }
    formatted.push(("MintedToken", texts));
    formatted
}

fn formatted_stores() -> Vec<Formatted> {
    let store = MemoryStore::new();
    store.insert(minted_record()).expect("an empty store");
    let duplicate_id = store.insert(minted_record()).expect_err("a duplicate ID");
    let other_id = TokenId::from_i64(1).expect("in range");
    let same_digest = TokenRecord::new(other_id, TokenDigest::of(SECRET));
    let duplicate_digest = store.insert(same_digest).expect_err("a duplicate digest");
    assert_eq!(duplicate_digest, MemoryStoreError::DuplicateDigest);
    let revoked = minted_record().with_state(TokenState::Revoked);
    let rotation_key = RotationKey::from_bytes(*TokenDigest::of(SECRET).as_bytes());
    let denial = verdict(Some(revoked), &credential(), &SystemClock).expect_err("revoked");
    vec![
        debug_text("MemoryStore", &store),
        error_text("MemoryStoreError", &duplicate_id),
        error_text("MemoryStoreError", &duplicate_digest),
        debug_text("TokenRecord", &minted_record()),
        debug_text("RotationKey", &rotation_key),
        debug_text("TokenState", &TokenState::Revoked),
        debug_text("Cached", &store.find_cached(&credential())),
        debug_text("Cached", &block_on(store.find(&credential()))),
        debug_text("Cached", &Cached::Miss),
        error_text("Denial", &denial),
        debug_text("DenialKind", &denial.kind()),
        error_text("StoreError", &StoreError::unavailable("connection refused")),
        error_text("StoreError", &StoreError::corrupt("a row without an id")),
        debug_text("StoreErrorKind", &StoreErrorKind::Corrupt),
        debug_text("Principal", &principal()),
        debug_text("Roles", principal().roles()),
        debug_text("Scopes", principal().scopes()),
        debug_text("Identity", &Identity::new("alice").with_roles(["deployer"])),
        debug_text("Caller", &Caller::Token(principal())),
        debug_text("Roles", &Roles::default()),
        debug_text("Iter", &principal().roles().iter()),
        debug_text("Scopes", &Scopes::default()),
    ]
}

fn errors_about_the_secret() -> Vec<Formatted> {
    let hex = hex(TokenDigest::of(SECRET).as_bytes());
    let mut headers = HeaderMap::new();
    headers.insert(X_API_KEY, HeaderValue::from_static(SECRET));
    headers.append(X_API_KEY, HeaderValue::from_static(SECRET));
    let repeated = CredentialSources::default().read(&headers);
    let cookie = TokenHeader::new(http::header::COOKIE);
    let realm = format!("{SECRET}\"");
    let mut formatted = vec![
        error_text(
            "ParseTokenIdError",
            &SECRET.parse::<TokenId>().expect_err("too long"),
        ),
        error_text(
            "DisplayIdError",
            &DisplayId::new(SECRET).expect_err("a token"),
        ),
        error_text(
            "PrefixError",
            &TokenFormat::new(SECRET).expect_err("too long"),
        ),
        error_text("CredentialError", &repeated.expect_err("a repeated header")),
        error_text("TokenHeaderError", &cookie.expect_err("a cookie")),
        error_text("RealmError", &Realm::new(&realm).expect_err("a quote")),
    ];
    for text in [SECRET.to_owned(), format!("sha256:{SECRET}"), hex] {
        let error = text.parse::<TokenDigest>().expect_err("no digest");
        formatted.push(error_text("ParseTokenDigestError", &error));
    }
    formatted
}

fn formatted_layers_and_rejections() -> Vec<Formatted> {
    let store = MemoryStore::new();
    store.insert(minted_record()).expect("an empty store");
    let layer = ServiceTokenLayer::new(store);
    let roles = RequireRolesLayer::any_of(["deployer"]);
    let scopes = RequireScopesLayer::all_of(["projects:write"]);
    let inner = service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(())));
    let requirement = Requirement::all_scopes(["projects:read"]);
    let methods = GrpcMethodGuardLayer::new().with_method("jobs.v1.Jobs/List", requirement.clone());
    let rejection = principal()
        .require(requirement.clone())
        .expect_err("a missing scope");
    let with_source = Rejection::new(RejectionReason::StoreUnavailable)
        .with_source(StoreError::unavailable("connection refused"));
    let mut formatted = vec![
        debug_text("CredentialSources", &CredentialSources::default()),
        debug_text("TokenHeader", &TokenHeader::X_API_KEY),
        debug_text("Realm", &Realm::new("api").expect("a realm")),
        debug_text("ServiceToken", &layer.layer(inner)),
        debug_text("ServiceTokenLayer", &layer),
        debug_text("RequireRoles", &roles.layer(inner)),
        debug_text("RequireRolesLayer", &roles),
        debug_text("RequireScopes", &scopes.layer(inner)),
        debug_text("RequireScopesLayer", &scopes),
        debug_text("GrpcMethodGuard", &methods.layer(inner)),
        debug_text("GrpcMethodGuardLayer", &methods),
        debug_text("Requirement", &requirement),
        debug_text("RejectionReason", &rejection.reason()),
        error_text("Rejection", &rejection),
        error_text("Rejection", &with_source),
        debug_text("ProblemJson", &ProblemJson),
        debug_text("GrpcStatus", &GrpcStatus),
        debug_text("FailureLogged", &FailureLogged),
    ];
    #[cfg(feature = "axum")]
    formatted.push(debug_text("Authorized", &authorized::extract()));
    #[cfg(not(feature = "axum"))]
    formatted.push(("Authorized", Vec::new()));
    formatted.push(debug_text("Rejection", &rejection));
    formatted
}

#[cfg(feature = "axum")]
mod authorized {
    use axum::extract::FromRequestParts;
    use tower_service_token::authorize::{AccessPolicy, Authorized};

    use super::{Request, Requirement, block_on, principal};

    #[derive(Debug)]
    pub(super) struct Deploy;

    impl AccessPolicy for Deploy {
        fn requirement() -> Requirement {
            Requirement::any_role(["deployer"])
        }
    }

    pub(super) fn extract() -> Authorized<Deploy> {
        let mut request = Request::new(());
        request.extensions_mut().insert(principal());
        let (mut parts, ()) = request.into_parts();
        block_on(<Authorized<Deploy>>::from_request_parts(&mut parts, &())).expect("a deployer")
    }
}

fn all_formatted_types() -> Vec<Formatted> {
    [
        formatted_secrets(),
        formatted_stores(),
        errors_about_the_secret(),
        formatted_layers_and_rejections(),
        super::file_store::formatted_types(),
        vec![debug_text(
            "ChainStore",
            &ChainStore::new(MemoryStore::new()),
        )],
        lifecycle_types::registry_types(),
        lifecycle_types::lifecycle_types(),
        lifecycle_types::errors_about_the_secret(),
        lifecycle_types::testing_types(),
        lifecycle_types::openapi_types(),
        lifecycle_types::tokio_types(),
        lifecycle_types::sql_types(),
        super::api_types::formatted_types(),
        super::client_types::formatted_types(),
        super::introspection::formatted_types(),
        super::limits::formatted_types(),
        super::streams::formatted_types(),
    ]
    .concat()
}

#[test]
fn no_public_type_prints_the_secret_or_its_digest() {
    for (name, texts) in all_formatted_types() {
        for text in texts {
            assert!(!text.is_empty(), "{name}");
            assert_no_secret(name, &text);
        }
    }
}

/// Answers whether a type implements `Serialize`: the inherent method wins over that of the trait.
struct Probe<T>(PhantomData<T>);

impl<T: Serialize> Probe<T> {
    #[expect(clippy::unused_self, reason = "as the method of the trait")]
    fn is_serialize(&self) -> bool {
        true
    }
}

trait NotSerialize {
    fn is_serialize(&self) -> bool {
        false
    }
}

impl<T> NotSerialize for Probe<T> {}

#[test]
fn serde_writes_no_secrets_and_no_records() {
    assert!(Probe::<TokenId>(PhantomData).is_serialize());
    assert!(Probe::<Principal>(PhantomData).is_serialize());
    assert!(!Probe::<MintedToken>(PhantomData).is_serialize());
    assert!(!Probe::<PresentedToken<'static>>(PhantomData).is_serialize());
    assert!(!Probe::<Credential<'static>>(PhantomData).is_serialize());
    assert!(!Probe::<IssuedToken>(PhantomData).is_serialize());
    assert!(!Probe::<TokenDigest>(PhantomData).is_serialize());
    assert!(!Probe::<TokenRecord>(PhantomData).is_serialize());
    assert!(!Probe::<RotationKey>(PhantomData).is_serialize());
    assert!(!Probe::<Write>(PhantomData).is_serialize());
    let principal = serde_json::to_string(&principal()).expect("plain data");
    assert!(principal.contains(&token_id().to_string()), "{principal}");
    assert_no_secret("Principal", &principal);
}

#[test]
fn digest_text_requires_an_explicit_conversion() {
    let digest = TokenDigest::of(SECRET);
    assert!(!leaks(&digest.to_string()).is_empty());
    assert!(!digest.to_string().contains(SECRET_PART));
}

/// Public types that this suite does not format, with the reason.
const NOT_FORMATTED: &[(&str, &str)] = &[
    ("ErrorChain", "formatted as the sources of each error"),
    ("TokenTextError", "formatted by `TokenSourceError`"),
    ("FieldChange", "formatted within each `AuditEvent`"),
    (
        "ParseDateTimeError",
        "only `svctok` prints it; it holds no text",
    ),
    (
        "ParseDurationError",
        "only `svctok` prints it; it holds no text",
    ),
    (
        "ParseDurationError",
        "only `svctok` prints it; it holds no text",
    ),
    ("Lease", "cannot be named: part of the bound of `SqlStore`"),
    (
        "Postgres",
        "cannot be named: part of the bound of `SqlStore`",
    ),
    ("Sqlite", "cannot be named: part of the bound of `SqlStore`"),
    (
        "MintError",
        "only a failing random number generator causes it; it holds no text",
    ),
    ("GuardFuture", "has no Debug"),
    ("ServiceTokenFuture", "has no Debug"),
];

#[test]
fn every_public_type_is_covered() {
    let declared = regex::Regex::new(r"(?m)^\s*pub (?:struct|enum) (\w+)").expect("a regex");
    let formatted: Vec<_> = all_formatted_types()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let mut types = 0;
    for source in sources("../src".as_ref()) {
        for found in declared.captures_iter(&source) {
            let name = &found[1];
            types += 1;
            assert!(
                formatted.contains(&name) || NOT_FORMATTED.iter().any(|(known, _)| *known == name),
                "{name} is public and not covered"
            );
        }
    }
    assert!(types > 20, "{types}");
}

fn sources(folder: &std::path::Path) -> Vec<String> {
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources.extend(self::sources(&path));
        } else {
            sources.push(std::fs::read_to_string(&path).expect("a text file"));
        }
    }
    sources
}
