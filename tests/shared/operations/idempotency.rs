//! Creations with an idempotency key.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tower_service_token::audit::{AuditAction, AuditEvent};
use tower_service_token::clock::{Clock, ManualClock};
use tower_service_token::lifecycle::{
    IssuedToken, LifecycleError, NewToken, Operator, TokenPolicy, TokenUpdate,
};
use tower_service_token::registry::{TokenFilter, Write};
use tower_service_token::store::{TokenRecord, TokenState};

use super::fixture::{DAY, HOUR, Store, fixture, fixture_with, pointers, start};

fn token_with_idempotency_key() -> NewToken {
    NewToken::new("ci")
        .with_description("nightly")
        .with_subject("alice")
        .with_roles(["a", "b"])
        .with_scopes(["x:y", "x:z"])
        .with_label("team", "x")
        .with_not_before(start())
        .with_idempotency_key("8e03978e")
}

/// Returns the record of the earlier creation from the error.
fn expect_already_created(result: Result<IssuedToken, LifecycleError>) -> TokenRecord {
    match result {
        Err(LifecycleError::AlreadyCreated(record)) => *record,
        result => panic!("{result:?}"),
    }
}

pub async fn repeated_creation_creates_no_second_token(store: Store) {
    let strict = TokenPolicy::new().require_unique_names().with_max_tokens(2);
    let fixture = fixture_with(store, strict);
    // The expiry has passed when the creation is repeated.
    let new_token = token_with_idempotency_key().with_expiry("2026-11-23".parse().unwrap());
    let issued = fixture.tokens.create(new_token.clone()).await.unwrap();
    let id = issued.record().id();
    drop(fixture.create("the last allowed token").await);
    fixture.clock.advance(2 * DAY);
    let reordered = new_token.clone().with_roles(["b", "a", "b"]);
    let later_expiry = new_token.clone().with_expiry("30d".parse().unwrap());
    for repeated in [new_token.clone(), reordered, later_expiry] {
        let record = expect_already_created(fixture.tokens.create(repeated).await);
        assert_eq!((record.id(), record.revision()), (id, 1));
        assert_eq!(record.expires_at(), issued.record().expires_at());
        assert_eq!(record.digest(), issued.record().digest());
    }
    assert_eq!(fixture.sink.actions(), [AuditAction::Created; 2]);

    // A caller who lost the secret rotates the token. The key still identifies it.
    let update = TokenUpdate::new().with_expiry("1d".parse().unwrap());
    fixture.tokens.update(id, update).await.unwrap();
    let rotated = fixture.tokens.rotate(id, Duration::ZERO).await.unwrap();
    assert_eq!(fixture.status(rotated.expose_secret()).await.0, 200);
    assert_eq!(fixture.status(issued.expose_secret()).await.0, 401);
    let update = TokenUpdate::new().with_name("cd").with_roles(["c"]);
    fixture.tokens.update(id, update).await.unwrap();
    assert_eq!(
        expect_already_created(fixture.tokens.create(new_token.clone()).await).name(),
        "cd"
    );
    fixture.tokens.revoke(id).await.unwrap();
    let record = expect_already_created(fixture.tokens.create(new_token.clone()).await);
    assert_eq!((record.id(), record.state()), (id, TokenState::Revoked));

    // A purge removes the key together with the record.
    fixture.clock.advance(DAY);
    assert_eq!(fixture.tokens.purge(HOUR).await.unwrap(), [id]);
    let later_expiry = token_with_idempotency_key().with_expiry("30d".parse().unwrap());
    let recreated = fixture.tokens.create(later_expiry).await.unwrap();
    assert_eq!(
        (recreated.record().id(), recreated.record().revision()),
        (id, 1)
    );
    assert_eq!(fixture.status(rotated.expose_secret()).await.0, 401);
}

pub async fn idempotency_key_identifies_one_token_per_actor(store: Store) {
    let fixture = fixture(store);
    let first = fixture
        .tokens
        .create(token_with_idempotency_key())
        .await
        .unwrap();
    for other in [
        NewToken::new("ci").with_idempotency_key("8e03978e"),
        token_with_idempotency_key().with_description("weekly"),
        token_with_idempotency_key().with_subject("bob"),
        token_with_idempotency_key().with_roles(["a"]),
        token_with_idempotency_key().with_roles(["a, b"]),
        token_with_idempotency_key().with_scopes(["x:y", "x:z", "x:w"]),
        token_with_idempotency_key().with_label("team", "y"),
        token_with_idempotency_key().with_label("env", "dev"),
        token_with_idempotency_key().with_not_before(start() + HOUR),
    ] {
        let error = fixture.tokens.create(other.clone()).await.unwrap_err();
        let is_reused = matches!(error, LifecycleError::IdempotencyKeyReused);
        assert!(is_reused, "{other:?}: {error}");
    }
    let second = fixture
        .tokens
        .create(token_with_idempotency_key().with_idempotency_key("8e03978f"));
    assert_ne!(second.await.unwrap().record().id(), first.record().id());

    // The same key of another actor is a different key, and reveals nothing about the first token.
    let deputy = fixture.tokens.clone().acting_for(Operator::new("deputy"));
    let of_deputy = deputy.create(token_with_idempotency_key()).await.unwrap();
    assert_ne!(of_deputy.record().id(), first.record().id());
    assert_eq!(
        expect_already_created(deputy.create(token_with_idempotency_key()).await).created_by(),
        Some("operator:deputy")
    );
    // A key whose token has another creator reveals nothing either.
    let new_token = token_with_idempotency_key().with_idempotency_key("taken");
    let id = deputy
        .create(new_token.clone())
        .await
        .unwrap()
        .record()
        .id();
    let record = fixture.store.get(id).await.unwrap().unwrap();
    let foreign = record.clone().with_created_by("operator");
    let event = AuditEvent::new(start(), "operator", AuditAction::Updated, id);
    fixture
        .store
        .update(&Write::new(foreign, event))
        .await
        .unwrap();
    let error = deputy.create(new_token).await.unwrap_err();
    assert!(matches!(error, LifecycleError::IdempotencyKeyReused));

    for bad in ["", "a b", "\u{e9}", &"a".repeat(256)] {
        let result = fixture
            .tokens
            .create(token_with_idempotency_key().with_idempotency_key(bad))
            .await;
        assert_eq!(pointers(result.unwrap_err()), ["/idempotency_key"], "{bad}");
    }
    // A rejected creation does not use up the key.
    let key = "after-an-error";
    let invalid = NewToken::new("").with_idempotency_key(key);
    assert_eq!(
        pointers(fixture.tokens.create(invalid).await.unwrap_err()),
        ["/name"]
    );
    drop(
        fixture
            .tokens
            .create(token_with_idempotency_key().with_idempotency_key(key))
            .await
            .unwrap(),
    );
}

const CONCURRENCY: usize = 8;

/// A clock whose readers wait for each other, so that every creation looks for an existing token
/// before any of them creates one.
struct SynchronizedClock {
    clock: ManualClock,
    reads: AtomicUsize,
    all: Barrier,
}

impl SynchronizedClock {
    fn new(clock: ManualClock) -> Self {
        let (reads, all) = (AtomicUsize::new(0), Barrier::new(CONCURRENCY));
        Self { clock, reads, all }
    }
}

impl Clock for SynchronizedClock {
    fn now(&self) -> SystemTime {
        // Each creation reads the clock before and after it queries the store, so all of them have
        // queried the store when the second barrier opens.
        if self.reads.fetch_add(1, Ordering::SeqCst) < 2 * CONCURRENCY {
            self.all.wait();
        }
        self.clock.now()
    }
}

pub async fn concurrent_creations_with_one_key_create_one_token(store: Store) {
    let policies = [
        TokenPolicy::new(),
        TokenPolicy::new().require_unique_names(),
        TokenPolicy::new().with_max_tokens(3),
    ];
    for (round, policy) in policies.into_iter().enumerate() {
        let fixture = fixture_with(store.clone(), policy);
        let new_token =
            NewToken::new(format!("ci {round}")).with_idempotency_key(format!("{round}"));
        let tokens = fixture
            .tokens
            .clone()
            .with_clock(SynchronizedClock::new(fixture.clock.clone()));
        let mut creations = JoinSet::new();
        for _ in 0..CONCURRENCY {
            let (tokens, new_token) = (tokens.clone(), new_token.clone());
            let runtime = Handle::current();
            creations.spawn_blocking(move || runtime.block_on(tokens.create(new_token)));
        }
        let results = creations.join_all().await;
        let (created, repeated): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        let [Ok(created)] = &created[..] else {
            panic!("{created:?}");
        };
        for result in repeated {
            assert_eq!(
                expect_already_created(result).digest(),
                created.record().digest()
            );
        }
        assert_eq!(fixture.status(created.expose_secret()).await.0, 200);
        assert_eq!(fixture.names(TokenFilter::new()).await.len(), round + 1);
        assert_eq!(fixture.sink.actions(), [AuditAction::Created]);
    }
}
