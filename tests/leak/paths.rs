//! Every path of a request through the layer and the guards.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tower_service_token::clock::ManualClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::reject::RejectionReason;
use tower_service_token::store::{Credential, StoreError, TokenRecord, TokenState};
use tower_service_token::{MemoryStore, ServiceTokenLayer, TokenStore};

use super::{DAMAGED, SECRET, minted_record};

/// A store that implements only `find`, and does not return at once.
struct PendingStore(Box<dyn Fn() -> Result<Option<TokenRecord>, StoreError> + Send + Sync>);

impl PendingStore {
    fn new(
        answer: impl Fn() -> Result<Option<TokenRecord>, StoreError> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(answer))
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
        // A store that logs its argument.
        tracing::trace!(?credential, "the store was asked");
        (self.0)()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpectedOutcome {
    Accepted,
    Anonymous,
    Refused(RejectionReason),
    /// The layer accepts the request and the guard behind it rejects it.
    Guarded(RejectionReason),
}

pub(super) struct RequestPath {
    pub(super) name: &'static str,
    /// Without one, a guard has no layer in front.
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
    answer: impl Fn() -> Result<Option<TokenRecord>, StoreError> + Send + Sync + 'static,
) -> ServiceTokenLayer {
    ServiceTokenLayer::new(PendingStore::new(answer)).with_clock(ManualClock::new(now()))
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn credential_paths() -> Vec<RequestPath> {
    use RejectionReason as Why;

    let refused = |name, headers: &[(&'static str, &str)], why| RequestPath {
        name,
        layer: Some(in_memory(minted_record())),
        guarded: false,
        headers: headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        expected: ExpectedOutcome::Refused(why),
    };
    let api_key = format!("ApiKey {SECRET}");
    let junk = format!("ApiKey {SECRET} {SECRET}");
    let bad_scheme = format!("ApiKey:{SECRET}");
    let not_ascii = format!("{SECRET}\u{e9}");
    let long = SECRET.repeat(11);
    let twice = [("x-api-key", SECRET), ("x-api-key", SECRET)];
    let two = [("authorization", &*api_key), ("x-api-key", DAMAGED)];
    let bearer = format!("Bearer {SECRET}");
    vec![
        refused("missing", &[], Why::MissingToken),
        refused(
            "other scheme",
            &[("authorization", &bearer)],
            Why::MissingToken,
        ),
        refused(
            "junk behind",
            &[("authorization", &junk)],
            Why::MalformedHeader,
        ),
        refused(
            "bad scheme",
            &[("authorization", &bad_scheme)],
            Why::MalformedHeader,
        ),
        refused(
            "not ASCII",
            &[("x-api-key", &not_ascii)],
            Why::MalformedHeader,
        ),
        refused("repeated", &twice, Why::RepeatedHeader),
        refused("conflicting", &two, Why::ConflictingTokens),
        refused("too long", &[("x-api-key", &long)], Why::TokenTooLong),
        RequestPath {
            layer: Some(in_memory(minted_record()).optional()),
            expected: ExpectedOutcome::Anonymous,
            ..refused("optional, none", &[], Why::MissingToken)
        },
        RequestPath {
            layer: Some(in_memory(minted_record()).optional()),
            expected: ExpectedOutcome::Anonymous,
            ..refused(
                "optional, other scheme",
                &[("authorization", &bearer)],
                Why::MissingToken,
            )
        },
        RequestPath {
            layer: Some(in_memory(minted_record()).optional()),
            ..refused(
                "optional, malformed",
                &[("authorization", &junk)],
                Why::MalformedHeader,
            )
        },
        RequestPath {
            layer: Some(in_memory(minted_record()).accept_bearer()),
            expected: ExpectedOutcome::Accepted,
            ..refused("bearer", &[("authorization", &bearer)], Why::MissingToken)
        },
        RequestPath {
            expected: ExpectedOutcome::Accepted,
            ..refused(
                "both headers",
                &[("authorization", &api_key), ("x-api-key", SECRET)],
                Why::MissingToken,
            )
        },
    ]
}

/// A record whose digest shares the lookup key with that of the secret.
fn record_with_similar_digest() -> TokenRecord {
    let mut digest = *TokenDigest::of(SECRET).as_bytes();
    digest[31] ^= 1;
    minted_record().with_digest(TokenDigest::from_bytes(digest))
}

fn verdict_paths() -> Vec<RequestPath> {
    use RejectionReason as Why;

    let second = Duration::from_secs(1);
    let mut paths = Vec::new();
    for (name, record, end) in [
        ("accepted", minted_record(), ExpectedOutcome::Accepted),
        (
            "wrong digest",
            record_with_similar_digest(),
            ExpectedOutcome::Refused(Why::WrongDigest),
        ),
        (
            "revoked",
            minted_record().with_state(TokenState::Revoked),
            ExpectedOutcome::Refused(Why::RevokedToken),
        ),
        (
            "disabled",
            minted_record().with_state(TokenState::Disabled),
            ExpectedOutcome::Refused(Why::DisabledToken),
        ),
        (
            "expired",
            minted_record().with_expires_at(now() - second),
            ExpectedOutcome::Refused(Why::ExpiredToken),
        ),
        (
            "superseded",
            minted_record()
                .with_digest(TokenDigest::of("another"))
                .with_previous_digest((TokenDigest::of(SECRET), now())),
            ExpectedOutcome::Refused(Why::SupersededToken),
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
            ExpectedOutcome::Refused(Why::TokenNotYetValid),
        ),
    ] {
        paths.push(path(name, in_memory(record.clone()), SECRET, end));
        let found = move || Ok(Some(record.clone()));
        paths.push(path(name, pending_store(found), SECRET, end));
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
            ExpectedOutcome::Refused(Why::UnknownToken),
        ),
        path(
            "unknown",
            pending_store(|| Ok(None)),
            SECRET,
            ExpectedOutcome::Refused(Why::UnknownToken),
        ),
        path(
            "damaged",
            empty(),
            DAMAGED,
            ExpectedOutcome::Refused(Why::DamagedToken),
        ),
        path(
            "damaged",
            pending_store(|| Ok(None)),
            DAMAGED,
            ExpectedOutcome::Refused(Why::DamagedToken),
        ),
    ]);
    paths
}

fn store_and_guard_paths() -> Vec<RequestPath> {
    use RejectionReason as Why;

    let mut paths = vec![
        path(
            "unavailable",
            pending_store(|| Err(StoreError::unavailable(io::Error::other("refused")))),
            SECRET,
            ExpectedOutcome::Refused(Why::StoreUnavailable),
        ),
        path(
            "corrupt",
            pending_store(|| Err(StoreError::corrupt("a row without an id"))),
            SECRET,
            ExpectedOutcome::Refused(Why::CorruptRecord),
        ),
        path(
            "rate limited",
            pending_store(|| Err(StoreError::rate_limited(Duration::from_secs(3)))),
            SECRET,
            ExpectedOutcome::Refused(Why::RateLimited),
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
            ExpectedOutcome::Guarded(Why::InsufficientScope),
        ),
        (
            "forbidden",
            Some(pending_store(move || Ok(Some(weak())))),
            ExpectedOutcome::Guarded(Why::InsufficientScope),
        ),
        (
            "missing layer",
            None,
            ExpectedOutcome::Guarded(Why::MissingLayer),
        ),
    ];
    for (name, layer, end) in guards {
        paths.push(RequestPath {
            layer,
            guarded: true,
            ..path(name, in_memory(minted_record()), SECRET, end)
        });
    }
    paths.push(RequestPath {
        guarded: true,
        headers: vec![("authorization", format!("Bearer {SECRET}"))],
        ..path(
            "guard behind anonymous",
            in_memory(minted_record()).optional(),
            SECRET,
            ExpectedOutcome::Guarded(Why::MissingToken),
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
