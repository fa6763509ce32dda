//! What the public types print.

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Debug;
use std::time::SystemTime;

use futures::executor::block_on;
use http::{HeaderMap, HeaderValue, Request, Response};
use tower::{Layer, service_fn};
use tower_service_token::authorize::{RequireRolesLayer, RequireScopesLayer};
use tower_service_token::clock::{ManualClock, SystemClock};
use tower_service_token::digest::TokenDigest;
use tower_service_token::header::{CredentialSources, X_API_KEY};
use tower_service_token::principal::{Requirement, Roles, Scopes};
use tower_service_token::reject::{
    FailureLogged, GrpcStatus, ProblemJson, Rejection, RejectionReason,
};
use tower_service_token::store::{
    Cached, ChainStore, Credential, MemoryStoreError, StoreError, StoreErrorKind, TokenRecord,
    TokenState, verdict,
};
use tower_service_token::token::{PresentedToken, TokenFormat, TokenId, TokenShape};
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, TokenStore};

use super::lifecycle_types;
use super::{SECRET, SECRET_PART, assert_silent, hex, leaks, minted_record, token_id};

/// A type of this crate and all it prints.
pub(super) type Shown = (&'static str, Vec<String>);

pub(super) fn debugged(name: &'static str, value: &impl Debug) -> Shown {
    (name, vec![format!("{value:?}"), format!("{value:#?}")])
}

/// An error with its whole chain of sources, in every form.
pub(super) fn told(name: &'static str, error: &(dyn Error + 'static)) -> Shown {
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
    verdict(Some(minted_record()), &credential(), &SystemClock).expect("a good token")
}

fn secrets_shown() -> Vec<Shown> {
    let presented = PresentedToken::new(SECRET).expect("visible ASCII");
    let mut shown = vec![
        debugged("PresentedToken", &presented),
        debugged("PresentedToken", &presented.into_owned()),
        debugged("Credential", &credential()),
        debugged("Credential", &credential().into_owned()),
        debugged("TokenDigest", credential().digest()),
        debugged("TokenId", &token_id()),
        debugged("TokenFormat", &TokenFormat::default()),
        debugged("TokenShape", &TokenFormat::default().inspect(SECRET)),
        debugged("TokenShape", &TokenShape::Damaged),
        debugged("SystemClock", &SystemClock),
        debugged("ManualClock", &ManualClock::new(SystemTime::UNIX_EPOCH)),
    ];
    // Of this token the detector does not know the secret.
    let minted = TokenFormat::default().mint().expect("random bytes");
    let (_, texts) = debugged("MintedToken", &minted);
    for text in &texts {
        assert!(!text.contains(&minted.expose_secret()[18..]), "{text}");
        assert!(text.contains(&minted.id().to_string()), "{text}");
    }
    shown.push(("MintedToken", texts));
    shown
}

fn stores_shown() -> Vec<Shown> {
    let store = MemoryStore::new();
    store.insert(minted_record()).expect("an empty store");
    let again = store.insert(minted_record()).expect_err("a taken id");
    let other_id = TokenId::from_i64(1).expect("in range");
    let same_digest = TokenRecord::new(other_id, TokenDigest::of(SECRET));
    let taken = store.insert(same_digest).expect_err("a taken digest");
    assert_eq!(taken, MemoryStoreError::DuplicateDigest);
    let revoked = minted_record().with_state(TokenState::Revoked);
    let denial = verdict(Some(revoked), &credential(), &SystemClock).expect_err("revoked");
    vec![
        debugged("MemoryStore", &store),
        told("MemoryStoreError", &again),
        told("MemoryStoreError", &taken),
        debugged("TokenRecord", &minted_record()),
        debugged("TokenState", &TokenState::Revoked),
        debugged("Cached", &store.find_cached(&credential())),
        debugged("Cached", &block_on(store.find(&credential()))),
        debugged("Cached", &Cached::Ask),
        told("Denial", &denial),
        debugged("DenialKind", &denial.kind()),
        told("StoreError", &StoreError::unavailable("connection refused")),
        told("StoreError", &StoreError::corrupt("a row without an id")),
        debugged("StoreErrorKind", &StoreErrorKind::Corrupt),
        debugged("Principal", &principal()),
        debugged("Roles", principal().roles()),
        debugged("Scopes", principal().scopes()),
        debugged("Roles", &Roles::default()),
        debugged("Scopes", &Scopes::default()),
    ]
}

fn errors_fed_the_secret() -> Vec<Shown> {
    let hex = hex(TokenDigest::of(SECRET).as_bytes());
    let mut headers = HeaderMap::new();
    headers.insert(X_API_KEY, HeaderValue::from_static(SECRET));
    headers.append(X_API_KEY, HeaderValue::from_static(SECRET));
    let repeated = CredentialSources::default().read(&headers);
    let cookie = CredentialSources::none().with_header(http::header::COOKIE);
    let layer = || ServiceTokenLayer::new(MemoryStore::new());
    let realm = format!("{SECRET}\"");
    let mut shown = vec![
        told(
            "ParseTokenIdError",
            &SECRET.parse::<TokenId>().expect_err("too long"),
        ),
        told(
            "PrefixError",
            &TokenFormat::new(SECRET).expect_err("too long"),
        ),
        told(
            "PrefixError",
            &TokenFormat::default()
                .accept_prefix(SECRET)
                .expect_err("too long"),
        ),
        told("IntakeError", &repeated.expect_err("a repeated header")),
        told("HeaderNameError", &cookie.expect_err("a cookie")),
        told(
            "RealmError",
            &layer().with_realm(&realm).expect_err("a quote"),
        ),
    ];
    for text in [SECRET.to_owned(), format!("sha256:{SECRET}"), hex] {
        let error = text.parse::<TokenDigest>().expect_err("no digest");
        shown.push(told("ParseDigestError", &error));
    }
    shown
}

fn layers_and_refusals_shown() -> Vec<Shown> {
    let store = MemoryStore::new();
    store.insert(minted_record()).expect("an empty store");
    let layer = ServiceTokenLayer::new(store);
    let roles = RequireRolesLayer::any_of(["deployer"]);
    let scopes = RequireScopesLayer::all_of(["projects:write"]);
    let inner = service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(())));
    let requirement = Requirement::all_scopes(["projects:read"]);
    let refusal = principal().require(requirement.clone()).expect_err("lacks");
    let with_source = Rejection::new(RejectionReason::StoreUnavailable)
        .with_source(StoreError::unavailable("connection refused"));
    let mut shown = vec![
        debugged("CredentialSources", &CredentialSources::default()),
        debugged("ServiceToken", &layer.layer(inner)),
        debugged("ServiceTokenLayer", &layer),
        debugged("RequireRoles", &roles.layer(inner)),
        debugged("RequireRolesLayer", &roles),
        debugged("RequireScopes", &scopes.layer(inner)),
        debugged("RequireScopesLayer", &scopes),
        debugged("Requirement", &requirement),
        debugged("RejectionReason", &refusal.reason()),
        told("Rejection", &refusal),
        told("Rejection", &with_source),
        debugged("ProblemJson", &ProblemJson),
        debugged("GrpcStatus", &GrpcStatus),
        debugged("FailureLogged", &FailureLogged),
    ];
    #[cfg(feature = "axum")]
    shown.push(debugged("Authorized", &authorized::extract()));
    #[cfg(not(feature = "axum"))]
    shown.push(("Authorized", Vec::new()));
    shown.push(debugged("Rejection", &refusal));
    shown
}

#[cfg(feature = "axum")]
mod authorized {
    use axum::extract::FromRequestParts;
    use tower_service_token::authorize::{Authorized, Policy};

    use super::{Request, Requirement, block_on, principal};

    #[derive(Debug)]
    pub(super) struct Deploy;

    impl Policy for Deploy {
        fn requirement() -> Requirement {
            Requirement::any_role(["deployer"])
        }
    }

    pub(super) fn extract() -> Authorized<Deploy> {
        let mut request = Request::new(());
        request.extensions_mut().insert(principal());
        let (mut parts, ()) = request.into_parts();
        block_on(Authorized::from_request_parts(&mut parts, &())).expect("a deployer")
    }
}

fn everything_shown() -> Vec<Shown> {
    [
        secrets_shown(),
        stores_shown(),
        errors_fed_the_secret(),
        layers_and_refusals_shown(),
        super::file_store::shown(),
        vec![debugged("ChainStore", &ChainStore::new(MemoryStore::new()))],
        lifecycle_types::registry_types(),
        lifecycle_types::lifecycle_types(),
        lifecycle_types::errors_fed_the_secret(),
        lifecycle_types::testing_types(),
        lifecycle_types::tokio_types(),
        lifecycle_types::sql_types(),
        super::api_types::shown(),
        super::client_types::shown(),
        super::introspection::shown(),
        super::limits::shown(),
    ]
    .concat()
}

#[test]
fn no_public_type_shows_the_secret_or_its_digest() {
    for (name, texts) in everything_shown() {
        for text in texts {
            assert!(!text.is_empty(), "{name}");
            assert_silent(name, &text);
        }
    }
}

#[test]
fn asking_for_the_digest_as_text_is_the_one_way_to_get_it() {
    let digest = TokenDigest::of(SECRET);
    assert!(!leaks(&digest.to_string()).is_empty());
    assert!(!digest.to_string().contains(SECRET_PART));
}

/// Public types that print nothing, with the reason.
const NOT_SHOWN: [(&str, &str); 4] = [
    (
        "PostgresStore",
        "needs a server; its `Debug` is that of `SqliteStore`",
    ),
    ("FieldChange", "shown within each `AuditEvent`"),
    (
        "MintError",
        "only a broken generator makes one; it holds no text",
    ),
    ("ResponseFuture", "has no Debug"),
];

#[test]
fn no_public_type_was_forgotten() {
    let declared = regex::Regex::new(r"(?m)^\s*pub (?:struct|enum) (\w+)").expect("a regex");
    let shown: Vec<_> = everything_shown()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let mut types = 0;
    for source in sources("src".as_ref()) {
        for found in declared.captures_iter(&source) {
            let name = &found[1];
            types += 1;
            assert!(
                shown.contains(&name) || NOT_SHOWN.iter().any(|(known, _)| *known == name),
                "{name} is public and not looked at"
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
            sources.push(std::fs::read_to_string(&path).expect("a text"));
        }
    }
    sources
}
