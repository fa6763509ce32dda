//! Tests of the methods of `ServiceTokens` over any empty registry, on a manual clock, and through
//! the layer.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, SystemTime};

use http::{Request, Response, StatusCode};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::audit::{AuditAction, AuditEvent, AuditSink};
use tower_service_token::clock::{Clock, ManualClock};
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{
    Expiry, FieldProblem, IssuedToken, LifecycleError, NewToken, Page, TokenPolicy, TokenUpdate,
    last_day,
};
use tower_service_token::registry::{AuthorityError, TokenFilter, TokenRegistry, Write};
use tower_service_token::reject::Rejection;
use tower_service_token::store::{TokenRecord, TokenState, TokenStatus};
use tower_service_token::token::{TokenFormat, TokenId, TokenShape};
use tower_service_token::{Principal, ServiceTokenLayer, ServiceTokens};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// 2026-11-22T10:30:00Z
fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_343_400)
}

#[derive(Clone, Default)]
struct RecordingSink(Arc<Mutex<Vec<AuditEvent>>>);

impl AuditSink for RecordingSink {
    fn record(&self, event: &AuditEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl RecordingSink {
    fn actions(&self) -> Vec<AuditAction> {
        let events = self.0.lock().unwrap();
        events.iter().map(AuditEvent::action).collect()
    }

    fn last(&self) -> AuditEvent {
        self.0.lock().unwrap().last().unwrap().clone()
    }
}

/// The registry under test.
pub type Store = Arc<dyn TokenRegistry>;

struct Fixture {
    store: Store,
    clock: ManualClock,
    sink: RecordingSink,
    tokens: ServiceTokens,
}

fn fixture(store: Store) -> Fixture {
    fixture_with(store, TokenPolicy::new())
}

fn fixture_with(store: Store, policy: TokenPolicy) -> Fixture {
    let (clock, sink) = (ManualClock::new(start()), RecordingSink::default());
    let tokens = ServiceTokens::new(store.clone())
        .with_clock(clock.clone())
        .with_policy(policy)
        .with_audit_sink(sink.clone());
    Fixture {
        store,
        clock,
        sink,
        tokens,
    }
}

impl Fixture {
    /// The status of a request with this token, and the code of its rejection.
    async fn status(&self, token: &str) -> (StatusCode, Option<&'static str>) {
        let (status, rejection) = match self.present(token).await {
            Ok(_) => (StatusCode::OK, None),
            Err(rejection) => (rejection.status(), Some(rejection.code())),
        };
        (status, rejection)
    }

    async fn present(&self, token: &str) -> Result<Principal, Rejection> {
        let layer = ServiceTokenLayer::new(self.store.clone()).with_clock(self.clock.clone());
        let service = layer.layer(service_fn(return_principal));
        let request = Request::builder().header("x-api-key", token);
        let mut response = service
            .oneshot(request.body(String::new()).unwrap())
            .await
            .unwrap();
        let rejection = response.extensions_mut().remove::<Rejection>();
        match response.extensions_mut().remove::<Principal>() {
            Some(principal) => Ok(principal),
            None => Err(rejection.unwrap()),
        }
    }

    async fn create(&self, name: &str) -> IssuedToken {
        self.tokens.create(NewToken::new(name)).await.unwrap()
    }

    async fn names(&self, filter: TokenFilter) -> Vec<String> {
        let page = self.tokens.list(filter, Page::default()).await.unwrap();
        let names = page.records.iter().map(|record| record.name().to_owned());
        names.collect()
    }
}

/// Returns the principal of the request in the response.
async fn return_principal(request: Request<String>) -> Result<Response<String>, Infallible> {
    let mut response = Response::new(String::new());
    let principal = request.extensions().get::<Principal>().cloned();
    response.extensions_mut().insert(principal.unwrap());
    Ok(response)
}

const REFUSED: (StatusCode, Option<&str>) = (StatusCode::UNAUTHORIZED, Some("invalid_token"));
const ACCEPTED: (StatusCode, Option<&str>) = (StatusCode::OK, None);

fn refused(code: &'static str) -> (StatusCode, Option<&'static str>) {
    (StatusCode::UNAUTHORIZED, Some(code))
}

pub async fn creates_lists_and_deletes_a_token(store: Store) {
    let fixture = fixture(store);
    let new = NewToken::new("my-service-token")
        .with_roles(["stackstate-k8s-troubleshooter"])
        .with_expiry("2027-01-31".parse().unwrap());
    let issued = fixture.tokens.create(new).await.unwrap();
    let secret = issued.expose_secret().to_owned();
    let id = issued.record().id();
    assert_eq!(
        TokenFormat::default().inspect(&secret),
        TokenShape::WellFormed(id)
    );
    let principal = fixture.present(&secret).await.unwrap();
    assert_eq!(principal.name(), "my-service-token");
    assert!(principal.roles().contains("stackstate-k8s-troubleshooter"));

    let page = fixture
        .tokens
        .list(TokenFilter::new(), Page::default())
        .await
        .unwrap();
    let [listed] = &page.records[..] else {
        panic!("one token");
    };
    assert_eq!((listed.id(), listed.name()), (id, "my-service-token"));
    assert_eq!(
        last_day(listed.expires_at().unwrap()).as_deref(),
        Some("2027-01-31")
    );
    assert_eq!(
        listed.roles().iter().collect::<Vec<_>>(),
        ["stackstate-k8s-troubleshooter"]
    );
    let shown = format!("{page:?} {issued:?} {:?}", listed.hint());
    assert!(!shown.contains(&secret[18..]), "{shown}");
    assert_eq!(listed.hint(), Some(format!("svctok-{id}_***").as_str()));

    fixture.tokens.revoke(id).await.unwrap();
    assert_eq!(fixture.status(&secret).await, refused("token_revoked"));
}

pub async fn creates_lists_gets_updates_and_revokes_a_token(store: Store) {
    let fixture = fixture(store);
    let new = NewToken::new("CI/CD Token")
        .with_description("For automated deployments")
        .with_scopes(["projects:write", "deployments:create"])
        .with_expiry("30d".parse().unwrap());
    let issued = fixture.tokens.create(new).await.unwrap();
    let id = issued.record().id();
    assert_eq!(issued.record().expires_at(), Some(start() + 30 * DAY));
    assert_eq!(fixture.names(TokenFilter::new()).await, ["CI/CD Token"]);

    let got = fixture.tokens.get(id).await.unwrap();
    assert_eq!(got.description(), Some("For automated deployments"));
    assert_eq!(got.created_at(), Some(start()));
    assert_eq!(got.created_by(), Some("operator:operator"));

    let update = TokenUpdate::new()
        .with_name("Updated Name")
        .with_description("Updated description");
    let updated = fixture.tokens.update(id, update).await.unwrap().record;
    assert_eq!(updated.name(), "Updated Name");
    assert_eq!(updated.description(), Some("Updated description"));
    assert_eq!(updated.scopes(), got.scopes());
    assert_eq!(
        fixture
            .present(issued.expose_secret())
            .await
            .unwrap()
            .name(),
        "Updated Name"
    );

    fixture.tokens.revoke(id).await.unwrap();
    assert_eq!(
        fixture.status(issued.expose_secret()).await,
        refused("token_revoked")
    );
    assert_eq!(
        fixture.tokens.get(id).await.unwrap().status(start()),
        TokenStatus::Revoked
    );
}

pub async fn update_sets_and_clears_only_named_fields(store: Store) {
    let fixture = fixture(store);
    let new = NewToken::new("ci")
        .with_description("d")
        .with_subject("team-a")
        .with_roles(["a"])
        .with_scopes(["x:y"])
        .with_label("kept", "1")
        .with_label("gone", "1")
        .with_expiry("30d".parse().unwrap())
        .with_not_before(start() + HOUR);
    let issued = fixture.tokens.create(new).await.unwrap();
    let id = issued.record().id();
    assert_eq!(
        fixture.status(issued.expose_secret()).await,
        refused("token_not_yet_valid")
    );

    let update = TokenUpdate::new()
        .without_description()
        .without_subject()
        .without_not_before()
        .with_roles(["b"])
        .with_label("new", "2")
        .without_label("gone")
        .with_expiry(Expiry::NEVER);
    fixture.clock.advance(Duration::from_secs(5));
    let updated = fixture.tokens.update(id, update).await.unwrap().record;
    assert_eq!(updated.description(), None);
    assert_eq!(updated.subject(), None);
    assert_eq!(updated.expires_at(), None);
    assert_eq!(updated.roles().iter().collect::<Vec<_>>(), ["b"]);
    assert_eq!(updated.scopes().iter().collect::<Vec<_>>(), ["x:y"]);
    assert_eq!(
        updated.labels().collect::<Vec<_>>(),
        [("kept", "1"), ("new", "2")]
    );
    assert_eq!(updated.updated_at(), Some(start() + Duration::from_secs(5)));
    assert_eq!(fixture.status(issued.expose_secret()).await, ACCEPTED);

    let fields: Vec<_> = fixture
        .sink
        .last()
        .changes()
        .iter()
        .map(|it| it.field.clone())
        .collect();
    let all = [
        "description",
        "subject",
        "roles",
        "labels",
        "expires_at",
        "not_before",
    ];
    assert_eq!(fields, all);
    let update = TokenUpdate::new().without_labels().with_label("only", "3");
    let updated = fixture.tokens.update(id, update).await.unwrap().record;
    assert_eq!(updated.labels().collect::<Vec<_>>(), [("only", "3")]);
}

pub async fn update_changes_expiry_in_both_directions(store: Store) {
    let fixture = fixture(store);
    let issued = fixture.create("ci").await;
    let (id, secret) = (issued.record().id(), issued.expose_secret());
    let expire = |text: &str| TokenUpdate::new().with_expiry(text.parse().unwrap());
    fixture.tokens.update(id, expire("1h")).await.unwrap();
    fixture.clock.advance(HOUR);
    assert_eq!(fixture.status(secret).await, refused("token_expired"));
    assert_eq!(
        fixture.tokens.get(id).await.unwrap().status(start() + HOUR),
        TokenStatus::Expired
    );
    fixture.tokens.update(id, expire("1h")).await.unwrap();
    assert_eq!(fixture.status(secret).await, ACCEPTED);
    fixture.clock.advance(HOUR);
    assert_eq!(fixture.status(secret).await, refused("token_expired"));
}

pub async fn rejects_update_at_stale_revision(store: Store) {
    let fixture = fixture(store);
    let id = fixture.create("ci").await.record().id();
    let revision = fixture.tokens.get(id).await.unwrap().revision();
    let update = |name: &str| TokenUpdate::new().with_name(name).if_revision(revision);
    let updated = fixture.tokens.update(id, update("first")).await.unwrap();
    assert_ne!(updated.record.revision(), revision);
    let error = fixture
        .tokens
        .update(id, update("second"))
        .await
        .unwrap_err();
    assert!(matches!(error, LifecycleError::RevisionMismatch));
    assert_eq!(fixture.tokens.get(id).await.unwrap().name(), "first");
}

pub async fn rotation_keeps_id_and_accepts_old_secret_until_grace_period_ends(store: Store) {
    let fixture = fixture(store);
    let new = NewToken::new("ci")
        .with_roles(["a"])
        .with_expiry("30d".parse().unwrap());
    let issued = fixture.tokens.create(new).await.unwrap();
    let id = issued.record().id();
    let rotated = fixture.tokens.rotate(id, HOUR).await.unwrap();
    assert_eq!(rotated.record().id(), id);
    assert_eq!(rotated.secret().id(), id);
    assert_ne!(rotated.expose_secret(), issued.expose_secret());
    assert_eq!(rotated.record().rotated_at(), Some(start()));
    assert_eq!(rotated.record().grace_ends_at(), Some(start() + HOUR));
    assert_eq!(
        rotated.record().previous_digest(),
        Some(issued.record().digest())
    );
    assert_eq!(rotated.record().expires_at(), issued.record().expires_at());

    let old = fixture.present(issued.expose_secret()).await.unwrap();
    let new = fixture.present(rotated.expose_secret()).await.unwrap();
    assert!(old.uses_previous_secret() && !new.uses_previous_secret());
    assert_eq!((old.id(), new.id()), (id, id));
    assert!(old.roles().contains("a") && new.roles().contains("a"));

    fixture.clock.advance(HOUR);
    assert_eq!(
        fixture.status(issued.expose_secret()).await,
        refused("token_expired")
    );
    assert_eq!(fixture.status(rotated.expose_secret()).await, ACCEPTED);
}

pub async fn rotation_without_grace_rejects_old_secret_at_once(store: Store) {
    let fixture = fixture(store);
    let issued = fixture.create("ci").await;
    let rotated = fixture
        .tokens
        .rotate(issued.record().id(), Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(fixture.status(issued.expose_secret()).await, REFUSED);
    assert_eq!(fixture.status(rotated.expose_secret()).await, ACCEPTED);
    assert_eq!(rotated.record().grace_ends_at(), None);
}

pub async fn grace_period_is_capped_at_expiry_and_rotation_does_not_extend_it(store: Store) {
    let fixture = fixture(store);
    let new = NewToken::new("ci").with_expiry("2h".parse().unwrap());
    let issued = fixture.tokens.create(new).await.unwrap();
    let id = issued.record().id();
    for grace in [3 * HOUR, Duration::MAX] {
        let rotated = fixture.tokens.rotate(id, grace).await.unwrap();
        assert_eq!(rotated.record().grace_ends_at(), Some(start() + 2 * HOUR));
        assert_eq!(rotated.record().expires_at(), Some(start() + 2 * HOUR));
    }
    fixture.clock.advance(2 * HOUR);
    let error = fixture.tokens.rotate(id, HOUR).await.unwrap_err();
    assert!(matches!(error, LifecycleError::Expired));
}

pub async fn overflowing_grace_period_is_capped(store: Store) {
    let fixture = fixture(store);
    let issued = fixture.create("ci").await;
    let id = issued.record().id();
    let rotated = fixture.tokens.rotate(id, Duration::MAX).await.unwrap();
    for secret in [issued.expose_secret(), rotated.expose_secret()] {
        assert_eq!(fixture.status(secret).await, ACCEPTED);
    }
    let end = rotated.record().grace_ends_at().unwrap();
    assert!(end > start() + 900 * 365 * 24 * HOUR);
}

pub async fn second_rotation_ends_first_grace_period(store: Store) {
    let fixture = fixture(store);
    let first = fixture.create("ci").await;
    let id = first.record().id();
    let second = fixture.tokens.rotate(id, 10 * HOUR).await.unwrap();
    fixture.clock.advance(HOUR);
    let third = fixture.tokens.rotate(id, HOUR).await.unwrap();
    assert_eq!(fixture.status(first.expose_secret()).await, REFUSED);
    assert!(
        fixture
            .present(second.expose_secret())
            .await
            .unwrap()
            .uses_previous_secret()
    );
    assert_eq!(fixture.status(third.expose_secret()).await, ACCEPTED);
    assert_eq!(third.record().grace_ends_at(), Some(start() + 2 * HOUR));
    let fourth = fixture.tokens.rotate(id, Duration::ZERO).await.unwrap();
    for refused in [&first, &second, &third] {
        assert_eq!(fixture.status(refused.expose_secret()).await, REFUSED);
    }
    assert_eq!(fixture.status(fourth.expose_secret()).await, ACCEPTED);
}

pub async fn disabling_and_revoking_apply_to_both_secrets(store: Store) {
    let fixture = fixture(store);
    let issued = fixture.create("ci").await;
    let id = issued.record().id();
    let rotated = fixture.tokens.rotate(id, HOUR).await.unwrap();
    let secrets = [issued.expose_secret(), rotated.expose_secret()];
    fixture.tokens.disable(id).await.unwrap();
    for secret in secrets {
        assert_eq!(fixture.status(secret).await, refused("token_disabled"));
    }
    fixture.tokens.enable(id).await.unwrap();
    for secret in secrets {
        assert_eq!(fixture.status(secret).await, ACCEPTED);
    }
    fixture.tokens.revoke(id).await.unwrap();
    for secret in secrets {
        assert_eq!(fixture.status(secret).await, refused("token_revoked"));
    }
}

pub async fn revocation_is_final_and_idempotent(store: Store) {
    let fixture = fixture(store);
    let issued = fixture.create("ci").await;
    let id = issued.record().id();
    let revoked = fixture.tokens.revoke(id).await.unwrap();
    assert_eq!(revoked.effective_within, fixture.store.effective_within());
    assert_eq!(revoked.record.state(), TokenState::Revoked);
    fixture.tokens.revoke(id).await.unwrap();
    let update = TokenUpdate::new().with_name("x");
    for error in [
        fixture.tokens.update(id, update).await.unwrap_err(),
        fixture.tokens.enable(id).await.unwrap_err(),
        fixture.tokens.disable(id).await.unwrap_err(),
        fixture.tokens.rotate(id, HOUR).await.unwrap_err(),
    ] {
        assert!(matches!(error, LifecycleError::Revoked), "{error}");
    }
    assert_eq!(
        fixture.status(issued.expose_secret()).await,
        refused("token_revoked")
    );
    assert_eq!(
        fixture.sink.actions(),
        [AuditAction::Created, AuditAction::Revoked]
    );
}

pub async fn reports_unknown_tokens_as_not_found(store: Store) {
    let fixture = fixture(store);
    let id = TokenId::from_i64(7).unwrap();
    for error in [
        fixture.tokens.get(id).await.unwrap_err(),
        fixture
            .tokens
            .update(id, TokenUpdate::new())
            .await
            .unwrap_err(),
        fixture.tokens.rotate(id, HOUR).await.unwrap_err(),
        fixture.tokens.revoke(id).await.unwrap_err(),
    ] {
        assert!(matches!(error, LifecycleError::NotFound), "{error}");
    }
}

pub async fn accepts_imported_token_and_rotates_it_to_own_format(store: Store) {
    let fixture = fixture(store);
    let digest = TokenDigest::of("hunter2-minted-elsewhere");
    let record = fixture
        .tokens
        .import(NewToken::new("legacy"), digest)
        .await
        .unwrap();
    assert_eq!(fixture.status("hunter2-minted-elsewhere").await, ACCEPTED);
    assert_eq!(record.hint(), None);
    let error = fixture
        .tokens
        .import(NewToken::new("again"), digest)
        .await
        .unwrap_err();
    assert!(matches!(error, LifecycleError::DigestTaken));
    let rotated = fixture.tokens.rotate(record.id(), HOUR).await.unwrap();
    assert!(
        fixture
            .present("hunter2-minted-elsewhere")
            .await
            .unwrap()
            .uses_previous_secret()
    );
    assert_eq!(fixture.status(rotated.expose_secret()).await, ACCEPTED);
    // The previous digest is taken, too.
    let error = fixture
        .tokens
        .import(NewToken::new("again"), digest)
        .await
        .unwrap_err();
    assert!(matches!(error, LifecycleError::DigestTaken));
}

pub async fn bulk_revocation_requires_expected_count_of_matching_tokens(store: Store) {
    let fixture = fixture(store);
    let mut secrets = Vec::new();
    for (name, role) in [("a", "old"), ("b", "old"), ("c", "new")] {
        let new = NewToken::new(name).with_roles([role]);
        secrets.push(fixture.tokens.create(new).await.unwrap());
    }
    fixture
        .tokens
        .revoke(secrets[0].record().id())
        .await
        .unwrap();
    let old = || TokenFilter::new().with_role("old");
    let preview = fixture.tokens.preview_revocation(old()).await.unwrap();
    assert_eq!(preview.sample, [secrets[1].record().id()]);
    assert_eq!((preview.count, preview.forbidden), (1, 0));
    assert!(!preview.needs_expect);
    let error = fixture.tokens.revoke_where(old(), 2).await.unwrap_err();
    assert!(matches!(
        error,
        LifecycleError::UnexpectedCount {
            expected: Some(2),
            found: 1
        }
    ));
    assert_eq!(fixture.status(secrets[1].expose_secret()).await, ACCEPTED);
    let revoked = fixture.tokens.revoke_where(old(), 1).await.unwrap();
    assert_eq!(revoked.ids, [secrets[1].record().id()]);
    assert_eq!(
        fixture.status(secrets[1].expose_secret()).await,
        refused("token_revoked")
    );
    assert_eq!(fixture.status(secrets[2].expose_secret()).await, ACCEPTED);
    // An empty filter matches all of them, and needs an expected number.
    let error = fixture
        .tokens
        .revoke_where(TokenFilter::new(), None)
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        LifecycleError::UnexpectedCount {
            expected: None,
            found: 1
        }
    ));
    fixture
        .tokens
        .revoke_where(TokenFilter::new(), 1)
        .await
        .unwrap();
    assert_eq!(
        fixture.status(secrets[2].expose_secret()).await,
        refused("token_revoked")
    );
}

pub async fn purge_deletes_tokens_that_ended_before_the_cutoff(store: Store) {
    let fixture = fixture(store);
    let live = fixture.create("live").await;
    let revoked = fixture.create("revoked").await;
    let hour = || NewToken::new("expired").with_expiry("1h".parse().unwrap());
    let expired = fixture.tokens.create(hour()).await.unwrap();
    let disabled = fixture.tokens.create(hour()).await.unwrap();
    fixture
        .tokens
        .disable(disabled.record().id())
        .await
        .unwrap();
    fixture.tokens.revoke(revoked.record().id()).await.unwrap();
    fixture.clock.advance(HOUR);
    assert_eq!(fixture.tokens.purge(DAY).await.unwrap(), []);
    let purged = fixture.tokens.purge(HOUR).await.unwrap();
    assert_eq!(purged, [revoked.record().id()]);
    assert_eq!(fixture.status(revoked.expose_secret()).await, REFUSED);
    fixture.clock.advance(HOUR);
    let mut purged = fixture.tokens.purge(HOUR).await.unwrap();
    purged.sort_unstable();
    let mut gone = [expired.record().id(), disabled.record().id()];
    gone.sort_unstable();
    assert_eq!(purged, gone);
    assert_eq!(fixture.names(TokenFilter::new()).await, ["live"]);
    assert_eq!(fixture.status(live.expose_secret()).await, ACCEPTED);
    assert_eq!(fixture.sink.last().action(), AuditAction::Purged);
}

fn pointers(error: LifecycleError) -> Vec<String> {
    let LifecycleError::Invalid(problems) = error else {
        panic!("{error}");
    };
    let pointers = problems
        .into_iter()
        .map(|it: FieldProblem| it.pointer.into_owned());
    pointers.collect()
}

pub async fn reports_every_invalid_field_and_creates_nothing(store: Store) {
    let fixture = fixture(store);
    let long = "x".repeat(201);
    for (new, pointer) in [
        (NewToken::new(""), "/name"),
        (NewToken::new(" ci"), "/name"),
        (NewToken::new("c\ni"), "/name"),
        (NewToken::new(long.as_str()), "/name"),
        (
            NewToken::new("ci").with_description("x".repeat(2001)),
            "/description",
        ),
        (NewToken::new("ci").with_subject(""), "/subject"),
        (NewToken::new("ci").with_roles(["ok", ""]), "/roles/1"),
        (NewToken::new("ci").with_roles(["a\nadmin"]), "/roles/0"),
        (NewToken::new("ci").with_roles(vec!["r"; 101]), "/roles"),
        (NewToken::new("ci").with_scopes(["two words"]), "/scopes/0"),
        (NewToken::new("ci").with_label("", "v"), "/labels/"),
        (NewToken::new("ci").with_label("a/b", "v\0"), "/labels/a~1b"),
        (
            NewToken::new("ci").with_expiry(Expiry::at(start())),
            "/expires_at",
        ),
        (
            NewToken::new("ci").with_expiry(Expiry::after(Duration::ZERO)),
            "/expires_at",
        ),
        (
            NewToken::new("ci")
                .with_expiry("1h".parse().unwrap())
                .with_not_before(start() + HOUR),
            "/not_before",
        ),
    ] {
        let error = fixture.tokens.create(new.clone()).await.unwrap_err();
        assert!(!error.to_string().contains(&long), "{error}");
        assert_eq!(pointers(error), [pointer], "{new:?}");
    }
    let all_at_once = NewToken::new("").with_roles([""]).with_scopes([""]);
    let error = fixture.tokens.create(all_at_once).await.unwrap_err();
    assert_eq!(pointers(error), ["/name", "/roles/0", "/scopes/0"]);
    assert_eq!(fixture.names(TokenFilter::new()).await, [""; 0]);
    assert_eq!(fixture.sink.actions(), []);

    let id = fixture.create("ci").await.record().id();
    let update = TokenUpdate::new().with_name("").with_roles(["\0"]);
    let error = fixture.tokens.update(id, update).await.unwrap_err();
    assert_eq!(pointers(error), ["/name", "/roles/0"]);
    let update = TokenUpdate::new().with_expiry(Expiry::at(start() - HOUR));
    let error = fixture.tokens.update(id, update).await.unwrap_err();
    assert_eq!(pointers(error), ["/expires_at"]);
}

pub async fn policy_lifetimes_apply_to_every_operation(store: Store) {
    let policy = TokenPolicy::new()
        .with_default_lifetime(10 * DAY)
        .with_max_lifetime(30 * DAY);
    let fixture = fixture_with(store, policy);
    let issued = fixture.create("ci").await;
    let id = issued.record().id();
    assert_eq!(issued.record().expires_at(), Some(start() + 10 * DAY));
    for expiry in [Expiry::NEVER, "31d".parse().unwrap()] {
        let new = NewToken::new("ci").with_expiry(expiry.clone());
        let error = fixture.tokens.create(new.clone()).await.unwrap_err();
        assert_eq!(pointers(error), ["/expires_at"]);
        let error = fixture
            .tokens
            .import(new, TokenDigest::of("x"))
            .await
            .unwrap_err();
        assert_eq!(pointers(error), ["/expires_at"]);
        let update = TokenUpdate::new().with_expiry(expiry);
        let error = fixture.tokens.update(id, update).await.unwrap_err();
        assert_eq!(pointers(error), ["/expires_at"]);
    }
    // The lifetime counts from the creation of the secret, so that updates cannot extend it again
    // and again.
    fixture.clock.advance(5 * DAY);
    let month = || TokenUpdate::new().with_expiry("30d".parse().unwrap());
    let error = fixture.tokens.update(id, month()).await.unwrap_err();
    assert_eq!(pointers(error), ["/expires_at"]);
    drop(fixture.tokens.rotate(id, HOUR).await.unwrap());
    fixture.tokens.update(id, month()).await.unwrap();

    let error = fixture
        .tokens
        .update(id, TokenUpdate::new().with_name(""))
        .await
        .unwrap_err();
    assert_eq!(pointers(error), ["/name"]);
}

pub async fn rotation_caps_expiry_at_new_max_lifetime(store: Store) {
    let fixture = fixture(store);
    let id = fixture.create("ci").await.record().id();
    let stricter = fixture
        .tokens
        .clone()
        .with_policy(TokenPolicy::new().with_max_lifetime(DAY));
    let rotated = stricter.rotate(id, HOUR).await.unwrap();
    assert_eq!(rotated.record().expires_at(), Some(start() + DAY));
}

pub async fn unique_names_and_max_tokens_apply_to_every_operation(store: Store) {
    let policy = TokenPolicy::new()
        .require_unique_names()
        .with_max_tokens(2)
        .with_name_rule(|name| (name != "root").then_some(()).ok_or("reserved".to_owned()));
    let fixture = fixture_with(store, policy);
    let first = fixture.create("first").await.record().id();
    let create = async |name: &str| fixture.tokens.create(NewToken::new(name)).await;
    assert!(matches!(
        create("first").await,
        Err(LifecycleError::NameTaken)
    ));
    assert_eq!(pointers(create("root").await.unwrap_err()), ["/name"]);
    let second = fixture.create("second").await.record().id();
    assert!(matches!(
        create("third").await,
        Err(LifecycleError::TooManyTokens)
    ));
    let rename = |name: &str| TokenUpdate::new().with_name(name);
    let taken = fixture.tokens.update(second, rename("first")).await;
    assert!(matches!(taken, Err(LifecycleError::NameTaken)));
    let error = fixture
        .tokens
        .update(second, rename("root"))
        .await
        .unwrap_err();
    assert_eq!(pointers(error), ["/name"]);
    fixture
        .tokens
        .update(second, rename("second"))
        .await
        .unwrap();
    // A revoked token frees its name and its place.
    fixture.tokens.revoke(first).await.unwrap();
    fixture
        .tokens
        .update(second, rename("first"))
        .await
        .unwrap();
    drop(create("second").await.unwrap());
}

async fn holder(fixture: &Fixture, roles: &[&str], scopes: &[&str]) -> ServiceTokens {
    let new = NewToken::new("minter")
        .with_roles(roles.to_vec())
        .with_scopes(scopes.to_vec());
    let issued = fixture.tokens.create(new).await.unwrap();
    let principal = fixture.present(issued.expose_secret()).await.unwrap();
    fixture.tokens.clone().acting_for(principal)
}

pub async fn rejects_escalation_by_every_operation(store: Store) {
    let fixture = fixture(store);
    let minter = holder(&fixture, &["a"], &["projects:*"]).await;
    let new = |role: &str, scope: &str| NewToken::new("x").with_roles([role]).with_scopes([scope]);
    let denied = |error: LifecycleError| match error {
        LifecycleError::Unauthorized(AuthorityError::EscalationDenied { missing }) => missing,
        error => panic!("{error}"),
    };
    let own = minter.create(new("a", "projects:read")).await.unwrap();
    let id = own.record().id();
    let error = minter.create(new("b", "projects:**")).await.unwrap_err();
    assert_eq!(denied(error), ["b", "projects:**"]);
    let error = minter
        .import(new("b", "projects:read"), TokenDigest::of("x"))
        .await
        .unwrap_err();
    assert_eq!(denied(error), ["b"]);
    let error = minter
        .update(id, TokenUpdate::new().with_roles(["b"]))
        .await
        .unwrap_err();
    assert_eq!(denied(error), ["b"]);

    // A caller cannot give a new secret, a new expiry or a new field to a token with more rights.
    let strong = fixture
        .tokens
        .create(new("b", "*"))
        .await
        .unwrap()
        .record()
        .id();
    assert_eq!(
        denied(minter.rotate(strong, HOUR).await.unwrap_err()),
        ["b", "*"]
    );
    let rename = TokenUpdate::new().with_name("mine");
    assert_eq!(
        denied(minter.update(strong, rename).await.unwrap_err()),
        ["b", "*"]
    );
    let tokens = fixture.tokens.clone().allow_last_admin_removal();
    tokens.disable(strong).await.unwrap();
    assert_eq!(denied(minter.enable(strong).await.unwrap_err()), ["b", "*"]);
    // It cannot end such a token either.
    assert_eq!(denied(minter.revoke(strong).await.unwrap_err()), ["b", "*"]);
    assert_eq!(
        denied(minter.disable(strong).await.unwrap_err()),
        ["b", "*"]
    );

    let admin = holder(&fixture, &[], &["service-tokens:admin"]).await;
    let issued = admin.create(new("b", "*")).await.unwrap();
    let created_by = issued.record().created_by().unwrap();
    assert!(created_by.starts_with("token:"), "{created_by}");
}

pub async fn audits_every_change_with_actor_and_without_secret(store: Store) {
    let fixture = fixture(store);
    let tokens = fixture.tokens.clone().acting_as("alice");
    let issued = tokens
        .create(NewToken::new("ci").with_roles(["a"]))
        .await
        .unwrap();
    let id = issued.record().id();
    tokens
        .update(id, TokenUpdate::new().with_name("cd"))
        .await
        .unwrap();
    // Nothing changed, so there is no event.
    tokens
        .update(id, TokenUpdate::new().with_name("cd"))
        .await
        .unwrap();
    tokens.enable(id).await.unwrap();
    let rotated = tokens.rotate(id, HOUR).await.unwrap();
    tokens.disable(id).await.unwrap();
    tokens.enable(id).await.unwrap();
    tokens.revoke(id).await.unwrap();
    fixture.clock.advance(DAY);
    tokens.purge(DAY).await.unwrap();
    tokens
        .import(NewToken::new("legacy"), TokenDigest::of("x"))
        .await
        .unwrap();
    let expected = [
        AuditAction::Created,
        AuditAction::Updated,
        AuditAction::Rotated,
        AuditAction::Disabled,
        AuditAction::Enabled,
        AuditAction::Revoked,
        AuditAction::Purged,
        AuditAction::Imported,
    ];
    assert_eq!(fixture.sink.actions(), expected);
    let events = fixture.sink.0.lock().unwrap();
    assert!(events.iter().all(|event| event.actor() == "operator:alice"));
    assert!(events[..7].iter().all(|event| event.token_id() == id));
    assert_eq!(events[1].changes().len(), 1);
    assert_eq!(events[1].changes()[0].before.as_deref(), Some("ci"));
    assert_eq!(events[1].changes()[0].after.as_deref(), Some("cd"));
    let told = format!("{events:?}");
    for issued in [&issued, &rotated] {
        assert!(!told.contains(&issued.expose_secret()[18..]));
        let digest = issued.record().digest().to_string();
        assert!(!told.contains(&digest["sha256:".len()..]));
    }
}

pub async fn lists_filtered_pages_in_creation_order(store: Store) {
    let fixture = fixture(store);
    for number in 0..25 {
        let new = NewToken::new(format!("token-{number:02}"))
            .with_roles([if number % 2 == 0 { "even" } else { "odd" }])
            .with_label("third", if number % 3 == 0 { "yes" } else { "no" });
        drop(fixture.tokens.create(new).await.unwrap());
        fixture.clock.advance(Duration::from_secs(1));
    }
    let mut names = Vec::new();
    let mut page = Page::with_limit(10);
    let mut sizes = Vec::new();
    loop {
        let found = fixture.tokens.list(TokenFilter::new(), page).await.unwrap();
        sizes.push(found.records.len());
        names.extend(
            found
                .records
                .iter()
                .map(|it: &TokenRecord| it.name().to_owned()),
        );
        let Some(next) = found.next else { break };
        page = page.after(next.to_string().parse().map(Some).unwrap());
    }
    assert_eq!(sizes, [10, 10, 5]);
    let expected: Vec<_> = (0..25).map(|number| format!("token-{number:02}")).collect();
    assert_eq!(names, expected);

    let filter = TokenFilter::new()
        .with_role("even")
        .with_label("third", "yes");
    let names = fixture.names(filter).await;
    assert_eq!(
        names,
        ["token-00", "token-06", "token-12", "token-18", "token-24"]
    );
    // A cursor of another listing, and invalid page sizes.
    let first = fixture
        .tokens
        .list(TokenFilter::new(), Page::with_limit(1))
        .await
        .unwrap();
    let expiring = TokenFilter::new().with_expires_before(start());
    let error = fixture
        .tokens
        .list(expiring, Page::with_limit(1).after(first.next))
        .await
        .unwrap_err();
    assert_eq!(pointers(error), ["/cursor"]);
    for limit in [0, 1001] {
        let error = fixture
            .tokens
            .list(TokenFilter::new(), Page::with_limit(limit))
            .await
            .unwrap_err();
        assert_eq!(pointers(error), ["/limit"]);
    }
}

/// The pages of a list, 4 tokens each.
struct Pages<'a> {
    fixture: &'a Fixture,
    filter: TokenFilter,
    /// The next page, if there is one.
    next: Option<Page>,
}

impl<'a> Pages<'a> {
    fn new(fixture: &'a Fixture, filter: TokenFilter) -> Self {
        let next = Some(Page::with_limit(4));
        Self {
            fixture,
            filter,
            next,
        }
    }

    async fn read(&mut self) -> Option<Vec<TokenRecord>> {
        let page = self.next.take()?;
        let found = self.fixture.tokens.list(self.filter.clone(), page).await;
        let found = found.unwrap();
        self.next = found.next.map(|next| Page::with_limit(4).after(Some(next)));
        Some(found.records)
    }
}

pub async fn paging_under_change_lists_each_remaining_token_once(store: Store) {
    let fixture = fixture(store);
    let mut ids = Vec::new();
    for number in 0..20 {
        let issued = fixture.create(&format!("token-{number:02}")).await;
        ids.push(issued.record().id());
        // Some tokens are created at the same time.
        if number % 3 == 0 {
            fixture.clock.advance(Duration::from_millis(1));
        }
    }
    let tokens = &fixture.tokens;
    let mut pages = Pages::new(&fixture, TokenFilter::new());
    let (mut names, mut count) = (Vec::new(), 0);
    while let Some(records) = pages.read().await {
        count += 1;
        names.extend(records.iter().map(|it| it.name().to_owned()));
        let (first, last) = (records[0].id(), records[records.len() - 1].id());
        // The cursor points to the last token, which changes and then ends.
        let update = TokenUpdate::new().with_roles(["changed"]);
        tokens.update(last, update).await.unwrap();
        drop(tokens.rotate(first, HOUR).await.unwrap());
        tokens.revoke(last).await.unwrap();
        if count == 1 {
            // Of later pages. Tokens of the same time are in the order of their random ids, so 7, 8 or 9
            // may be on the second page, before the purge.
            tokens.disable(ids[6]).await.unwrap();
            tokens.revoke(ids[11]).await.unwrap();
            let update = TokenUpdate::new().with_description("changed");
            tokens.update(ids[12], update).await.unwrap();
        }
        fixture.clock.advance(DAY);
        if count <= 2 {
            drop(fixture.create(&format!("late-{count}")).await);
        }
        if count == 2 {
            // Deletes the tokens that were revoked after the first page.
            tokens.purge(DAY).await.unwrap();
        }
    }
    let late = names.iter().filter(|name| name.starts_with("late-"));
    assert_eq!(late.count(), 2, "{names:?}");
    let expected: Vec<_> = (0..20)
        .filter(|number| *number != 11)
        .map(|number| format!("token-{number:02}"))
        .collect();
    names.retain(|name| name.starts_with("token-"));
    names.sort_unstable();
    assert_eq!(names, expected);
}

pub async fn paging_a_filter_skips_no_token_when_listed_ones_leave_it(store: Store) {
    let fixture = fixture(store);
    for number in 0..12 {
        drop(fixture.create(&format!("token-{number:02}")).await);
        fixture.clock.advance(Duration::from_secs(1));
    }
    let filter = TokenFilter::new().with_status(TokenStatus::Active);
    let mut pages = Pages::new(&fixture, filter.clone());
    let mut names = Vec::new();
    // Each page is revoked before the next is read, as a script does that deletes what it lists.
    while let Some(records) = pages.read().await {
        for record in records {
            names.push(record.name().to_owned());
            fixture.tokens.revoke(record.id()).await.unwrap();
        }
    }
    let expected: Vec<_> = (0..12).map(|number| format!("token-{number:02}")).collect();
    assert_eq!(names, expected);
    assert_eq!(fixture.names(filter).await, Vec::<String>::new());
}

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

/// The record of the earlier creation that the error returns.
fn expect_already_created(answer: Result<IssuedToken, LifecycleError>) -> TokenRecord {
    match answer {
        Err(LifecycleError::AlreadyCreated(record)) => *record,
        answer => panic!("{answer:?}"),
    }
}

pub async fn repeated_creation_creates_no_second_token(store: Store) {
    let strict = TokenPolicy::new().require_unique_names().with_max_tokens(2);
    let fixture = fixture_with(store, strict);
    // This time is past when the creation is repeated.
    let wanted = token_with_idempotency_key().with_expiry("2026-11-23".parse().unwrap());
    let issued = fixture.tokens.create(wanted.clone()).await.unwrap();
    let id = issued.record().id();
    drop(fixture.create("the last there may be").await);
    fixture.clock.advance(2 * DAY);
    let reordered = wanted.clone().with_roles(["b", "a", "b"]);
    let lasting = wanted.clone().with_expiry("30d".parse().unwrap());
    for again in [wanted.clone(), reordered, lasting] {
        let record = expect_already_created(fixture.tokens.create(again).await);
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
        expect_already_created(fixture.tokens.create(wanted.clone()).await).name(),
        "cd"
    );
    fixture.tokens.revoke(id).await.unwrap();
    let record = expect_already_created(fixture.tokens.create(wanted.clone()).await);
    assert_eq!((record.id(), record.state()), (id, TokenState::Revoked));

    // The key is forgotten together with the record, not before.
    fixture.clock.advance(DAY);
    assert_eq!(fixture.tokens.purge(HOUR).await.unwrap(), [id]);
    let lasting = token_with_idempotency_key().with_expiry("30d".parse().unwrap());
    let anew = fixture.tokens.create(lasting).await.unwrap();
    assert_eq!((anew.record().id(), anew.record().revision()), (id, 1));
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
        let refused = fixture.tokens.create(other.clone()).await.unwrap_err();
        let is_reused = matches!(refused, LifecycleError::IdempotencyKeyReused);
        assert!(is_reused, "{other:?}: {refused}");
    }
    let others = fixture
        .tokens
        .create(token_with_idempotency_key().with_idempotency_key("8e03978f"));
    assert_ne!(others.await.unwrap().record().id(), first.record().id());

    // Another actor's key with the same text is another key, and reveals nothing about this one.
    let deputy = fixture.tokens.clone().acting_as("deputy");
    let theirs = deputy.create(token_with_idempotency_key()).await.unwrap();
    assert_ne!(theirs.record().id(), first.record().id());
    assert_eq!(
        expect_already_created(deputy.create(token_with_idempotency_key()).await).created_by(),
        Some("operator:deputy")
    );
    // A key that meets another actor's token reveals nothing either.
    let meant = token_with_idempotency_key().with_idempotency_key("taken");
    let id = deputy.create(meant.clone()).await.unwrap().record().id();
    let record = fixture.store.get(id).await.unwrap().unwrap();
    let foreign = record.clone().with_created_by("operator");
    let event = AuditEvent::new(start(), "operator", AuditAction::Updated, id);
    fixture
        .store
        .update(&Write::new(foreign, event))
        .await
        .unwrap();
    let refused = deputy.create(meant).await.unwrap_err();
    assert!(matches!(refused, LifecycleError::IdempotencyKeyReused));

    for bad in ["", "a b", "\u{e9}", &"a".repeat(256)] {
        let refused = fixture
            .tokens
            .create(token_with_idempotency_key().with_idempotency_key(bad))
            .await;
        assert_eq!(
            pointers(refused.unwrap_err()),
            ["/idempotency_key"],
            "{bad}"
        );
    }
    // A refused creation leaves the key free.
    let key = "after a mistake".replace(' ', "-");
    let refused = NewToken::new("").with_idempotency_key(key.as_str());
    assert_eq!(
        pointers(fixture.tokens.create(refused).await.unwrap_err()),
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

/// A clock whose readers wait for each other, so that all find no such token before one creates it.
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
        // At the first read nothing has queried the store, at the second all have.
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
        let wanted = NewToken::new(format!("ci {round}")).with_idempotency_key(format!("{round}"));
        let tokens = fixture
            .tokens
            .clone()
            .with_clock(SynchronizedClock::new(fixture.clock.clone()));
        let mut creations = JoinSet::new();
        for _ in 0..CONCURRENCY {
            let (tokens, wanted) = (tokens.clone(), wanted.clone());
            let runtime = Handle::current();
            creations.spawn_blocking(move || runtime.block_on(tokens.create(wanted)));
        }
        let answers = creations.join_all().await;
        let (created, again): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        let [Ok(created)] = &created[..] else {
            panic!("{created:?}");
        };
        for answer in again {
            assert_eq!(
                expect_already_created(answer).digest(),
                created.record().digest()
            );
        }
        assert_eq!(fixture.status(created.expose_secret()).await.0, 200);
        assert_eq!(fixture.names(TokenFilter::new()).await.len(), round + 1);
        assert_eq!(fixture.sink.actions(), [AuditAction::Created]);
    }
}

/// Passes the name of each test to a macro.
#[macro_export]
macro_rules! every_test {
    ($then:ident) => {
        $then! {
            creates_lists_and_deletes_a_token,
            creates_lists_gets_updates_and_revokes_a_token,
            update_sets_and_clears_only_named_fields,
            update_changes_expiry_in_both_directions,
            rejects_update_at_stale_revision,
            rotation_keeps_id_and_accepts_old_secret_until_grace_period_ends,
            rotation_without_grace_rejects_old_secret_at_once,
            grace_period_is_capped_at_expiry_and_rotation_does_not_extend_it,
            overflowing_grace_period_is_capped,
            second_rotation_ends_first_grace_period,
            disabling_and_revoking_apply_to_both_secrets,
            revocation_is_final_and_idempotent,
            reports_unknown_tokens_as_not_found,
            accepts_imported_token_and_rotates_it_to_own_format,
            bulk_revocation_requires_expected_count_of_matching_tokens,
            purge_deletes_tokens_that_ended_before_the_cutoff,
            reports_every_invalid_field_and_creates_nothing,
            policy_lifetimes_apply_to_every_operation,
            rotation_caps_expiry_at_new_max_lifetime,
            unique_names_and_max_tokens_apply_to_every_operation,
            rejects_escalation_by_every_operation,
            audits_every_change_with_actor_and_without_secret,
            lists_filtered_pages_in_creation_order,
            paging_under_change_lists_each_remaining_token_once,
            paging_a_filter_skips_no_token_when_listed_ones_leave_it,
            repeated_creation_creates_no_second_token,
            idempotency_key_identifies_one_token_per_actor,
            concurrent_creations_with_one_key_create_one_token,
        }
    };
}
pub use crate::every_test;
