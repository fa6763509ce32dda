//! Every way a request can take through the layer and the guards.

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

/// Answers only when asked, and not at once.
struct Asking(Box<dyn Fn() -> Result<Option<TokenRecord>, StoreError> + Send + Sync>);

impl Asking {
    fn new(
        answer: impl Fn() -> Result<Option<TokenRecord>, StoreError> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(answer))
    }
}

#[async_trait]
impl TokenStore for Asking {
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
        // A store that logs what it is asked with.
        tracing::trace!(?credential, "the store was asked");
        (self.0)()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Accepted,
    Anonymous,
    Refused(RejectionReason),
    /// Let through by the layer, refused by the guard behind it.
    Guarded(RejectionReason),
}

pub(super) struct Path {
    pub(super) name: &'static str,
    /// Without one, a guard stands alone.
    pub(super) layer: Option<ServiceTokenLayer>,
    pub(super) guarded: bool,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) end: End,
}

fn path(name: &'static str, layer: ServiceTokenLayer, token: &str, end: End) -> Path {
    Path {
        name,
        layer: Some(layer),
        guarded: false,
        headers: vec![("authorization", format!("ApiKey {token}"))],
        end,
    }
}

fn in_memory(record: TokenRecord) -> ServiceTokenLayer {
    let store = MemoryStore::new();
    store.insert(record).expect("an empty store");
    ServiceTokenLayer::new(store).with_clock(ManualClock::new(now()))
}

fn asking(
    answer: impl Fn() -> Result<Option<TokenRecord>, StoreError> + Send + Sync + 'static,
) -> ServiceTokenLayer {
    ServiceTokenLayer::new(Asking::new(answer)).with_clock(ManualClock::new(now()))
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn intake_paths() -> Vec<Path> {
    use RejectionReason as Why;

    let refused = |name, headers: &[(&'static str, &str)], why| Path {
        name,
        layer: Some(in_memory(minted_record())),
        guarded: false,
        headers: headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        end: End::Refused(why),
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
        Path {
            layer: Some(in_memory(minted_record()).optional()),
            end: End::Anonymous,
            ..refused("optional, none", &[], Why::MissingToken)
        },
        Path {
            layer: Some(in_memory(minted_record()).optional()),
            end: End::Anonymous,
            ..refused(
                "optional, other scheme",
                &[("authorization", &bearer)],
                Why::MissingToken,
            )
        },
        Path {
            layer: Some(in_memory(minted_record()).optional()),
            ..refused(
                "optional, malformed",
                &[("authorization", &junk)],
                Why::MalformedHeader,
            )
        },
        Path {
            layer: Some(in_memory(minted_record()).accept_bearer()),
            end: End::Accepted,
            ..refused("bearer", &[("authorization", &bearer)], Why::MissingToken)
        },
        Path {
            end: End::Accepted,
            ..refused(
                "both headers",
                &[("authorization", &api_key), ("x-api-key", SECRET)],
                Why::MissingToken,
            )
        },
    ]
}

/// A record whose digest shares with the secret's what a store looks it up by.
fn look_alike() -> TokenRecord {
    let mut digest = *TokenDigest::of(SECRET).as_bytes();
    digest[31] ^= 1;
    minted_record().with_digest(TokenDigest::from_bytes(digest))
}

fn verdict_paths() -> Vec<Path> {
    use RejectionReason as Why;

    let second = Duration::from_secs(1);
    let mut paths = Vec::new();
    for (name, record, end) in [
        ("accepted", minted_record(), End::Accepted),
        ("wrong digest", look_alike(), End::Refused(Why::WrongDigest)),
        (
            "revoked",
            minted_record().with_state(TokenState::Revoked),
            End::Refused(Why::RevokedToken),
        ),
        (
            "disabled",
            minted_record().with_state(TokenState::Disabled),
            End::Refused(Why::DisabledToken),
        ),
        (
            "expired",
            minted_record().with_expires_at(now() - second),
            End::Refused(Why::ExpiredToken),
        ),
        (
            "superseded",
            minted_record()
                .with_digest(TokenDigest::of("another"))
                .with_previous_digest((TokenDigest::of(SECRET), now())),
            End::Refused(Why::SupersededToken),
        ),
        (
            "previous secret",
            minted_record()
                .with_digest(TokenDigest::of("another"))
                .with_previous_digest((TokenDigest::of(SECRET), now() + second)),
            End::Accepted,
        ),
        (
            "not yet valid",
            minted_record().with_not_before(now() + second),
            End::Refused(Why::TokenNotYetValid),
        ),
    ] {
        paths.push(path(name, in_memory(record.clone()), SECRET, end));
        let found = move || Ok(Some(record.clone()));
        paths.push(path(name, asking(found), SECRET, end));
    }
    let empty = || ServiceTokenLayer::new(MemoryStore::new());
    let stripped = in_memory(minted_record()).strip_credential();
    paths.extend([
        path("accepted and stripped", stripped, SECRET, End::Accepted),
        path("unknown", empty(), SECRET, End::Refused(Why::UnknownToken)),
        path(
            "unknown",
            asking(|| Ok(None)),
            SECRET,
            End::Refused(Why::UnknownToken),
        ),
        path("damaged", empty(), DAMAGED, End::Refused(Why::DamagedToken)),
        path(
            "damaged",
            asking(|| Ok(None)),
            DAMAGED,
            End::Refused(Why::DamagedToken),
        ),
    ]);
    paths
}

fn store_and_guard_paths() -> Vec<Path> {
    use RejectionReason as Why;

    let mut paths = vec![
        path(
            "unavailable",
            asking(|| Err(StoreError::unavailable(io::Error::other("refused")))),
            SECRET,
            End::Refused(Why::StoreUnavailable),
        ),
        path(
            "corrupt",
            asking(|| Err(StoreError::corrupt("a row without an id"))),
            SECRET,
            End::Refused(Why::CorruptRecord),
        ),
        path(
            "rate limited",
            asking(|| Err(StoreError::rate_limited(Duration::from_secs(3)))),
            SECRET,
            End::Refused(Why::RateLimited),
        ),
    ];
    let weak = || minted_record().with_scopes(["projects:read"]);
    let guards = [
        (
            "guard passed",
            Some(in_memory(minted_record())),
            End::Accepted,
        ),
        (
            "forbidden",
            Some(in_memory(weak())),
            End::Guarded(Why::InsufficientScope),
        ),
        (
            "forbidden",
            Some(asking(move || Ok(Some(weak())))),
            End::Guarded(Why::InsufficientScope),
        ),
        ("missing layer", None, End::Guarded(Why::MissingLayer)),
    ];
    for (name, layer, end) in guards {
        paths.push(Path {
            layer,
            guarded: true,
            ..path(name, in_memory(minted_record()), SECRET, end)
        });
    }
    paths.push(Path {
        guarded: true,
        headers: vec![("authorization", format!("Bearer {SECRET}"))],
        ..path(
            "guard behind anonymous",
            in_memory(minted_record()).optional(),
            SECRET,
            End::Guarded(Why::MissingToken),
        )
    });
    paths
}

pub(super) fn all_paths() -> Vec<Path> {
    [intake_paths(), verdict_paths(), store_and_guard_paths()]
        .into_iter()
        .flatten()
        .collect()
}
