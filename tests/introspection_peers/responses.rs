//! The outcome of a request for each kind of token.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use test_support::authorization_server::clients::{API, basic};
use test_support::authorization_server::deployment::Deployment;
use test_support::authorization_server::server::{JWT_API, OPAQUE_API, TrackedServer};
use test_support::authorization_server::wait_until;
use tower_service_token::clock::{Clock, ManualClock};
use tower_service_token::introspection::{
    BreakerState, IntrospectionBuilder, IntrospectionErrorKind, IntrospectionStore,
};

use crate::protected_service::ProtectedService;

pub(crate) async fn active_token_yields_its_principal(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let token = server.token().await;
    let response = default_service(&server).authenticate(&token).await;
    let principal = response.principal();
    assert_eq!(principal.subject(), Some("ci"));
    assert_eq!(principal.name(), "ci");
    assert_eq!(
        principal.scopes().iter().collect::<Vec<_>>(),
        ["read", "write"]
    );
    assert!(principal.roles().iter().next().is_none());
    assert!(!principal.is_stale());
    let remaining = principal.expires_at().unwrap();
    let remaining = remaining.duration_since(SystemTime::now()).unwrap();
    assert!((Duration::from_secs(540)..=Duration::from_secs(600)).contains(&remaining));
}

pub(crate) async fn user_token_has_the_user_as_subject(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let token = server.user_token(&[("user", "alice")]).await;
    let response = default_service(&server).authenticate(&token).await;
    assert_eq!(response.principal().subject(), Some("alice"));
    assert_eq!(response.principal().name(), "alice of example");
    assert!(response.principal().scopes().iter().next().is_none());
}

pub(crate) async fn reads_roles_from_the_configured_claim(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let service = service_with(&server, |it| it.with_role_claim("realm_access.roles"));
    let response = service.authenticate(&server.token().await).await;
    let roles: Vec<_> = response.principal().roles().iter().collect();
    assert_eq!(roles, ["operator", "auditor"]);
}

pub(crate) async fn missing_scope_is_forbidden(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let service = default_service(&server);
    let reader = server.token_with(&[("scope", "read")]).await;
    assert_eq!(service.authorize(&reader, &["read"]).await.status(), 200);
    assert_eq!(service.authorize(&reader, &["write"]).await.status(), 403);
    let writer = server.token().await;
    assert_eq!(service.authorize(&writer, &["write"]).await.status(), 200);
}

pub(crate) async fn rejects_a_token_for_another_audience(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let scope = ("scope", "read");
    let with_audience_token = server.token_with(&[scope, ("resource", OPAQUE_API)]).await;
    let without_audience = server.token_with(&[scope]).await;

    let service = service_with(&server, |it| it.with_audience(OPAQUE_API));
    assert_eq!(service.status(&with_audience_token).await, 200);
    assert_eq!(service.status(&without_audience).await, 401);
    let other = service_with(&server, |it| it.with_audience("https://other.example"));
    assert_eq!(other.status(&with_audience_token).await, 401);
}

pub(crate) async fn rejects_a_token_of_another_issuer(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let token = server.token().await;
    let service = service_with(&server, |it| {
        it.with_issuer(server.issuer()).require_issuer()
    });
    assert_eq!(service.status(&token).await, 200);
    let other = service_with(&server, |it| it.with_issuer("https://other.example"));
    assert_eq!(other.status(&token).await, 401);
}

pub(crate) async fn required_issuer_must_be_present(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let token = server.token().await;
    let service = service_with(&server, |it| it.with_issuer(server.issuer()));
    assert_eq!(service.status(&token).await, 200);
    let strict = |it: IntrospectionBuilder| it.with_issuer(server.issuer()).require_issuer();
    assert_eq!(service_with(&server, strict).status(&token).await, 401);
}

pub(crate) async fn rejects_a_key_bound_token(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let thumbprint = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
    // The first is of type `DPoP`, the second of type `Bearer`.
    for kind in ["jkt", "x5t"] {
        let key_bound = [("user", "alice"), (kind, thumbprint)];
        let key_bound = server.user_token(&key_bound).await;
        assert_eq!(
            default_service(&server).status(&key_bound).await,
            401,
            "{kind}"
        );
    }
}

pub(crate) async fn rejects_a_revoked_token_within_the_ttl(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let clock = Arc::new(ManualClock::new(SystemTime::now()));
    let service = service_with(&server, |it| it.with_clock(clock.clone())).with_clock(&clock);
    let token = server.token().await;
    assert_eq!(service.status(&token).await, 200);

    server.revoke(&token).await;
    clock.advance(Duration::from_millis(9_999));
    assert_eq!(service.status(&token).await, 200, "cached");
    clock.advance(Duration::from_millis(1));
    assert_eq!(service.status(&token).await, 401);
}

pub(crate) async fn without_a_cache_revocation_is_immediate(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let service = service_with(&server, |it| it.with_ttl(Duration::ZERO));
    let token = server.token().await;
    assert_eq!(service.status(&token).await, 200);
    server.revoke(&token).await;
    assert_eq!(service.status(&token).await, 401);
}

pub(crate) async fn invalidated_token_is_introspected_again(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let store = store(&server, |it| it);
    let service = ProtectedService::new(&store);
    let tokens = [server.token().await, server.token().await];
    for token in &tokens {
        assert_eq!(service.status(token).await, 200);
        server.revoke(token).await;
        assert_eq!(service.status(token).await, 200, "cached");
    }
    assert_eq!(server.calls().await, 2);

    store.clear();
    for token in &tokens {
        assert_eq!(service.status(token).await, 401);
    }
    assert_eq!(server.calls().await, 2);
}

pub(crate) async fn rejects_an_expired_token(deployment: Arc<Deployment>) {
    let server = deployment.start_with(&[("TOKEN_SECONDS", "3")]);
    let with_cache = service_with(&server.tracked(), |it| {
        it.with_ttl(Duration::from_secs(3600))
    });
    let without_cache = service_with(&server.tracked(), |it| it.with_ttl(Duration::ZERO));
    let token = loop {
        let started = Instant::now();
        let token = server.token().await;
        let statuses = [
            with_cache.status(&token).await,
            without_cache.status(&token).await,
        ];
        if statuses == [200, 200] {
            break token;
        }
        // On a slow machine the token may expire before the second request.
        assert!(started.elapsed() >= Duration::from_secs(2), "{statuses:?}");
    };
    // Waits by the system clock, because the test cannot set the clock of the server.
    for service in [with_cache, without_cache] {
        wait_until(async || service.status(&token).await == 401).await;
    }
}

pub(crate) async fn cached_entry_ends_with_the_token(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let clock = Arc::new(ManualClock::new(SystemTime::now()));
    let hour = Duration::from_secs(3600);
    let service = service_with(&server, |it| it.with_ttl(hour).with_clock(clock.clone()));
    let service = service.with_clock(&clock);
    let token = server.token().await;
    let expires_at = service
        .authenticate(&token)
        .await
        .principal()
        .expires_at()
        .unwrap();
    server.logged_requests().await;

    let remaining = expires_at.duration_since(clock.now()).unwrap();
    let millisecond = Duration::from_millis(1);
    clock.advance(remaining.saturating_sub(millisecond));
    assert_eq!(service.status(&token).await, 200);
    assert_eq!(server.calls().await, 0);
    // The token is still active by the clock of the server, but the clock of the store applies.
    clock.advance(millisecond);
    assert_eq!(service.status(&token).await, 401);
}

pub(crate) async fn rejects_an_unknown_token(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let store = store(&server, |it| it);
    let service = ProtectedService::new(&store);
    let unknown = ["unknown", "a.b.c", "svctok_like-~+/==", &"x".repeat(4096)];
    for token in unknown {
        let response = service.authenticate(token).await;
        assert_eq!(response.status(), 401, "{token}");
        assert!(response.response.body().contains("invalid_token"));
    }
    assert_eq!(server.calls().await, 4);
    assert_eq!(service.status("unknown").await, 401);
    assert_eq!(server.calls().await, 0, "cached");
    assert_eq!(store.status().breaker, BreakerState::Closed);
}

pub(crate) async fn malformed_tokens_cause_no_call(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let service = service_with(&server, |it| it.with_max_token_length(100));
    let mistyped = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0m";
    for token in [
        "a&client_id=x",
        "\"quoted\"",
        "=",
        mistyped,
        &"x".repeat(101),
    ] {
        assert_eq!(service.status(token).await, 401, "{token}");
    }
    assert_eq!(server.logged_requests().await, []);
}

pub(crate) async fn token_with_separators_is_sent_as_one_value(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let service = service_with(&server, IntrospectionBuilder::allow_any_visible_ascii);
    // A token that is split at a separator would add form fields, and the server would respond 400.
    let tokens = ["a&client_id=x+/=", "%26client_id=x", "a;b#c?d", "a&token=b"];
    for token in tokens {
        assert_eq!(service.status(token).await, 401, "{token}");
    }
    assert!(
        server
            .logged_requests()
            .await
            .iter()
            .all(|request| request.status == 200)
    );
}

pub(crate) async fn rejects_a_jwt_shaped_token_without_opening_the_breaker(
    deployment: Arc<Deployment>,
) {
    let server = deployment.shared();
    let store = store(&server, |it| it);
    let service = ProtectedService::new(&store);
    for number in 0..20 {
        let forged = format!("eyJhbGciOiJub25lIn0.e30.{number:04}");
        assert_eq!(service.status(&forged).await, 401, "{forged}");
    }
    assert_eq!(server.calls().await, 20);
    assert_eq!(store.status().breaker, BreakerState::Closed);
    assert_eq!(service.status(&server.token().await).await, 200);
}

pub(crate) async fn rejects_a_jwt_if_the_server_responds_400(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let fields = [("scope", "read"), ("resource", JWT_API)];
    let token = server.token_with(&fields).await;
    assert_eq!(default_service(&server).status(&token).await, 401);
    let requests = server.logged_requests().await;
    assert!(
        requests.iter().all(|request| request.status == 400),
        "{requests:?}"
    );
    assert_eq!(requests.len(), 1);
}

pub(crate) async fn token_type_hint_does_not_prevent_lookup(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let token = server.token().await;
    for hint in ["access_token", "refresh_token", "unknown_hint"] {
        let service = service_with(&server, |it| it.with_token_type_hint(hint));
        // RFC 7662 §2.1: a server that does not find the token by the hint extends its search.
        assert_eq!(service.status(&token).await, 200, "{hint}");
    }
}

pub(crate) async fn concurrent_requests_for_one_token_share_one_call(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let service = default_service(&server);
    let token = server.token().await;
    let statuses = join_all((0..1000).map(|_| service.status(&token))).await;
    assert!(statuses.iter().all(|&status| status == 200));
    assert_eq!(server.calls().await, 1);
}

pub(crate) async fn more_tokens_than_permits_are_all_looked_up(deployment: Arc<Deployment>) {
    /// How long a lookup waits for a permit.
    const PERMIT_TIMEOUT: Duration = Duration::from_millis(500);

    let server = deployment.shared();
    let service = service_with(&server, |it| it.with_max_in_flight(4));
    let tokens = join_all((0..20).map(|_| server.token())).await;
    let lookups = tokens.iter().map(async |token| {
        loop {
            let response = service.authenticate(token).await;
            if response.status() == 200 {
                break;
            }
            // On a slow machine the earlier calls may last longer than the permit timeout.
            assert_eq!(response.unavailable(), IntrospectionErrorKind::Overloaded);
            assert!(response.elapsed >= PERMIT_TIMEOUT, "{:?}", response.elapsed);
        }
    });
    join_all(lookups).await;
}

fn default_service(server: &TrackedServer<'_>) -> ProtectedService {
    service_with(server, |it| it)
}

/// Creates a service whose store has these settings.
fn service_with(
    server: &TrackedServer<'_>,
    configure: impl FnOnce(IntrospectionBuilder) -> IntrospectionBuilder,
) -> ProtectedService {
    ProtectedService::new(&store(server, configure))
}

fn store(
    server: &TrackedServer<'_>,
    configure: impl FnOnce(IntrospectionBuilder) -> IntrospectionBuilder,
) -> IntrospectionStore {
    // Longer than any response takes on a busy machine.
    let builder = server
        .builder(basic(API))
        .with_timeout(Duration::from_secs(30));
    let builder = configure(builder);
    builder.build(&server.endpoint()).unwrap()
}
