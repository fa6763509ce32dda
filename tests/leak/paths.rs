//! Every path of a request through the layer and the guards.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tower_service_token::clock::ManualClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::principal::Identity;
use tower_service_token::reject::RejectionReason;
use tower_service_token::store::{Credential, StoreError, TokenRecord, TokenState};
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, ServiceTokenLayer, TokenStore};

use super::{DAMAGED, SECRET, minted_record};

/// A store without a cache whose lookups are pending once before they return.
struct PendingStore(Box<dyn Fn() -> Result<Option<TokenRecord>, StoreError> + Send + Sync>);

impl PendingStore {
    fn new(
        result: impl Fn() -> Result<Option<TokenRecord>, StoreError> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(result))
    }
}

#[async_trait]
impl TokenStore for PendingStore {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        let mut waited = false;
        poll_fn(|cx| {
            if waited {
                return Poll::Ready(());
            }
            waited = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        // Simulates a store that logs its argument.
        tracing::trace!(?credential, "the store was queried");
        (self.0)()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpectedOutcome {
    Accepted,
    Anonymous,
    Rejected(RejectionReason),
    /// The layer accepts the request, and the guard rejects it.
    RejectedByGuard(RejectionReason),
}

pub(super) struct RequestPath {
    pub(super) name: &'static str,
    /// `None` for a guard without a layer.
    pub(super) layer: Option<ServiceTokenLayer>,
    pub(super) guarded: bool,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) expected: ExpectedOutcome,
}

fn path(
    name: &'static str,
    layer: ServiceTokenLayer,
    token: &str,
    expected: ExpectedOutcome,
) -> RequestPath {
    RequestPath {
        name,
        layer: Some(layer),
        guarded: false,
        headers: vec![("authorization", format!("ApiKey {token}"))],
        expected,
    }
}

fn in_memory(record: TokenRecord) -> ServiceTokenLayer {
    let store = MemoryStore::new();
    store.insert(record).expect("an empty store");
    ServiceTokenLayer::new(store).with_clock(ManualClock::new(now()))
}

fn pending_store(
    result: impl Fn() -> Result<Option<TokenRecord>, StoreError> + Send + Sync + 'static,
) -> ServiceTokenLayer {
    ServiceTokenLayer::new(PendingStore::new(result)).with_clock(ManualClock::new(now()))
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn credential_paths() -> Vec<RequestPath> {
    use RejectionReason as Reason;

    let rejected = |name, headers: &[(&'static str, &str)], reason| RequestPath {
        name,
        layer: Some(in_memory(minted_record())),
        guarded: false,
        headers: headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        expected: ExpectedOutcome::Rejected(reason),
    };
    let api_key = format!("ApiKey {SECRET}");
    let trailing_text = format!("ApiKey {SECRET} {SECRET}");
    let bad_scheme = format!("ApiKey:{SECRET}");
    let not_ascii = format!("{SECRET}\u{e9}");
    let long = SECRET.repeat(11);
    let twice = [("x-api-key", SECRET), ("x-api-key", SECRET)];
    let two = [("authorization", &*api_key), ("x-api-key", DAMAGED)];
    let bearer = format!("Bearer {SECRET}");
    vec![
        rejected("missing", &[], Reason::MissingToken),
        rejected(
            "other scheme",
            &[("authorization", &bearer)],
            Reason::MissingToken,
        ),
        rejected(
            "trailing text",
            &[("authorization", &trailing_text)],
            Reason::MalformedHeader,
        ),
        rejected(
            "bad scheme",
            &[("authorization", &bad_scheme)],
            Reason::MalformedHeader,
        ),
        rejected(
            "not ASCII",
            &[("x-api-key", &not_ascii)],
            Reason::MalformedHeader,
        ),
        rejected("repeated", &twice, Reason::RepeatedHeader),
        rejected("conflicting", &two, Reason::ConflictingTokens),
        rejected("too long", &[("x-api-key", &long)], Reason::TokenTooLong),
        RequestPath {
            layer: Some(in_memory(minted_record()).optional()),
            expected: ExpectedOutcome::Anonymous,
            ..rejected("optional, none", &[], Reason::MissingToken)
        },
        RequestPath {
            layer: Some(in_memory(minted_record()).optional()),
            expected: ExpectedOutcome::Anonymous,
            ..rejected(
                "optional, other scheme",
                &[("authorization", &bearer)],
                Reason::MissingToken,
            )
        },
        RequestPath {
            layer: Some(in_memory(minted_record()).optional()),
            ..rejected(
                "optional, malformed",
                &[("authorization", &trailing_text)],
                Reason::MalformedHeader,
            )
        },
        RequestPath {
            layer: Some(in_memory(minted_record()).accept_bearer()),
            expected: ExpectedOutcome::Accepted,
            ..rejected(
                "bearer",
                &[("authorization", &bearer)],
                Reason::MissingToken,
            )
        },
        RequestPath {
            layer: Some(layer_of_another_format()),
            expected: ExpectedOutcome::Anonymous,
            ..rejected(
                "optional, bearer of another format",
                &[("authorization", &bearer)],
                Reason::MissingToken,
            )
        },
        RequestPath {
            expected: ExpectedOutcome::Accepted,
            ..rejected(
                "both headers",
                &[("authorization", &api_key), ("x-api-key", SECRET)],
                Reason::MissingToken,
            )
        },
    ]
}

/// A layer for which the secret is a bearer token of another middleware.
fn layer_of_another_format() -> ServiceTokenLayer {
    let format = TokenFormat::new("acme_").expect("a valid prefix");
    let layer = in_memory(minted_record()).optional();
    layer.accept_bearer_of(format)
}

/// Returns a record whose digest has the same lookup key as that of the secret.
fn record_with_similar_digest() -> TokenRecord {
    let mut digest = *TokenDigest::of(SECRET).as_bytes();
    digest[31] ^= 1;
    minted_record().with_digest(TokenDigest::from_bytes(digest))
}

fn verdict_paths() -> Vec<RequestPath> {
    use RejectionReason as Reason;

    let second = Duration::from_secs(1);
    let mut paths = Vec::new();
    for (name, record, expected) in [
        ("accepted", minted_record(), ExpectedOutcome::Accepted),
        (
            "wrong digest",
            record_with_similar_digest(),
            ExpectedOutcome::Rejected(Reason::WrongDigest),
        ),
        (
            "revoked",
            minted_record().with_state(TokenState::Revoked),
            ExpectedOutcome::Rejected(Reason::RevokedToken),
        ),
        (
            "disabled",
            minted_record().with_state(TokenState::Disabled),
            ExpectedOutcome::Rejected(Reason::DisabledToken),
        ),
        (
            "expired",
            minted_record().with_expires_at(now() - second),
            ExpectedOutcome::Rejected(Reason::ExpiredToken),
        ),
        (
            "superseded",
            minted_record()
                .with_digest(TokenDigest::of("another"))
                .with_previous_digest((TokenDigest::of(SECRET), now())),
            ExpectedOutcome::Rejected(Reason::SupersededToken),
        ),
        (
            "previous secret",
            minted_record()
                .with_digest(TokenDigest::of("another"))
                .with_previous_digest((TokenDigest::of(SECRET), now() + second)),
            ExpectedOutcome::Accepted,
        ),
        (
            "not yet valid",
            minted_record().with_not_before(now() + second),
            ExpectedOutcome::Rejected(Reason::TokenNotYetValid),
        ),
    ] {
        paths.push(path(name, in_memory(record.clone()), SECRET, expected));
        let found = move || Ok(Some(record.clone()));
        paths.push(path(name, pending_store(found), SECRET, expected));
    }
    let empty = || ServiceTokenLayer::new(MemoryStore::new());
    let stripped = in_memory(minted_record()).strip_credential();
    paths.extend([
        path(
            "accepted and stripped",
            stripped,
            SECRET,
            ExpectedOutcome::Accepted,
        ),
        path(
            "unknown",
            empty(),
            SECRET,
            ExpectedOutcome::Rejected(Reason::UnknownToken),
        ),
        path(
            "unknown",
            pending_store(|| Ok(None)),
            SECRET,
            ExpectedOutcome::Rejected(Reason::UnknownToken),
        ),
        path(
            "damaged",
            empty(),
            DAMAGED,
            ExpectedOutcome::Rejected(Reason::DamagedToken),
        ),
        path(
            "damaged",
            pending_store(|| Ok(None)),
            DAMAGED,
            ExpectedOutcome::Rejected(Reason::DamagedToken),
        ),
    ]);
    paths
}

fn store_and_guard_paths() -> Vec<RequestPath> {
    use RejectionReason as Reason;

    let mut paths = vec![
        path(
            "unavailable",
            pending_store(|| {
                Err(StoreError::unavailable(io::Error::other(
                    "connection refused",
                )))
            }),
            SECRET,
            ExpectedOutcome::Rejected(Reason::StoreUnavailable),
        ),
        path(
            "corrupt",
            pending_store(|| Err(StoreError::corrupt("a row without an id"))),
            SECRET,
            ExpectedOutcome::Rejected(Reason::CorruptRecord),
        ),
        path(
            "rate limited",
            pending_store(|| Err(StoreError::rate_limited(Duration::from_secs(3)))),
            SECRET,
            ExpectedOutcome::Rejected(Reason::RateLimited),
        ),
    ];
    let weak = || minted_record().with_scopes(["projects:read"]);
    let guards = [
        (
            "guard passed",
            Some(in_memory(minted_record())),
            ExpectedOutcome::Accepted,
        ),
        (
            "forbidden",
            Some(in_memory(weak())),
            ExpectedOutcome::RejectedByGuard(Reason::InsufficientScope),
        ),
        (
            "forbidden",
            Some(pending_store(move || Ok(Some(weak())))),
            ExpectedOutcome::RejectedByGuard(Reason::InsufficientScope),
        ),
        (
            "missing layer",
            None,
            ExpectedOutcome::RejectedByGuard(Reason::MissingLayer),
        ),
    ];
    for (name, layer, expected) in guards {
        paths.push(RequestPath {
            layer,
            guarded: true,
            ..path(name, in_memory(minted_record()), SECRET, expected)
        });
    }
    let bearer = || vec![("authorization", format!("Bearer {SECRET}"))];
    paths.push(RequestPath {
        guarded: true,
        headers: bearer(),
        ..path(
            "guard behind an identity",
            layer_of_another_format().with_identity(|_| Some(Identity::new("alice"))),
            SECRET,
            ExpectedOutcome::RejectedByGuard(Reason::IdentityInsufficientScope),
        )
    });
    paths.push(RequestPath {
        guarded: true,
        headers: bearer(),
        ..path(
            "guard behind anonymous",
            in_memory(minted_record()).optional(),
            SECRET,
            ExpectedOutcome::RejectedByGuard(Reason::MissingToken),
        )
    });
    paths
}

pub(super) fn all_paths() -> Vec<RequestPath> {
    [credential_paths(), verdict_paths(), store_and_guard_paths()]
        .into_iter()
        .flatten()
        .collect()
}
