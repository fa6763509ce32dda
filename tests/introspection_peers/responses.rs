//! The server's responses, and what callers get.

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
    let answer = plain(&server).authenticate(&token).await;
    let principal = answer.principal();
    assert_eq!(principal.subject(), Some("ci"));
    assert_eq!(principal.name(), "ci");
    assert_eq!(
        principal.scopes().iter().collect::<Vec<_>>(),
        ["read", "write"]
    );
    assert!(principal.roles().iter().next().is_none());
    assert!(!principal.is_stale());
    let left = principal.expires_at().unwrap();
    let left = left.duration_since(SystemTime::now()).unwrap();
    assert!((Duration::from_secs(540)..=Duration::from_secs(600)).contains(&left));
}

pub(crate) async fn user_token_has_the_user_as_subject(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let token = server.users_token(&[("user", "alice")]).await;
    let answer = plain(&server).authenticate(&token).await;
    assert_eq!(answer.principal().subject(), Some("alice"));
    assert_eq!(answer.principal().name(), "alice of example");
    assert!(answer.principal().scopes().iter().next().is_none());
}

pub(crate) async fn reads_roles_from_the_configured_claim(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let service = with(&server, |it| it.with_role_claim("realm_access.roles"));
    let answer = service.authenticate(&server.token().await).await;
    let roles: Vec<_> = answer.principal().roles().iter().collect();
    assert_eq!(roles, ["operator", "auditor"]);
}

pub(crate) async fn missing_scope_is_forbidden(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let service = plain(&server);
    let reader = server.token_with(&[("scope", "read")]).await;
    assert_eq!(service.authorize(&reader, &["read"]).await.status(), 200);
    assert_eq!(service.authorize(&reader, &["write"]).await.status(), 403);
    let writer = server.token().await;
    assert_eq!(service.authorize(&writer, &["write"]).await.status(), 200);
}

pub(crate) async fn rejects_a_token_for_another_audience(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let scope = ("scope", "read");
    let ours = server.token_with(&[scope, ("resource", OPAQUE_API)]).await;
    let anyones = server.token_with(&[scope]).await;

    let service = with(&server, |it| it.with_audience(OPAQUE_API));
    assert_eq!(service.status(&ours).await, 200);
    assert_eq!(service.status(&anyones).await, 401);
    let other = with(&server, |it| it.with_audience("https://other.example"));
    assert_eq!(other.status(&ours).await, 401);
}

pub(crate) async fn rejects_a_token_of_another_issuer(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let token = server.token().await;
    let service = with(&server, |it| {
        it.with_issuer(server.issuer()).require_issuer()
    });
    assert_eq!(service.status(&token).await, 200);
    let other = with(&server, |it| it.with_issuer("https://other.example"));
    assert_eq!(other.status(&token).await, 401);
}

pub(crate) async fn required_issuer_must_be_present(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let token = server.token().await;
    let service = with(&server, |it| it.with_issuer(server.issuer()));
    assert_eq!(service.status(&token).await, 200);
    let strict = |it: IntrospectionBuilder| it.with_issuer(server.issuer()).require_issuer();
    assert_eq!(with(&server, strict).status(&token).await, 401);
}

pub(crate) async fn rejects_a_key_bound_token(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let thumbprint = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
    // The first is of type `DPoP`, the second of type `Bearer`.
    for kind in ["jkt", "x5t"] {
        let bound = [("user", "alice"), (kind, thumbprint)];
        let bound = server.users_token(&bound).await;
        assert_eq!(plain(&server).status(&bound).await, 401, "{kind}");
    }
}

pub(crate) async fn rejects_a_revoked_token_within_the_ttl(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let clock = Arc::new(ManualClock::new(SystemTime::now()));
    let service = with(&server, |it| it.with_clock(clock.clone())).with_clock(&clock);
    let token = server.token().await;
    assert_eq!(service.status(&token).await, 200);

    server.revoke(&token).await;
    clock.advance(Duration::from_millis(9_999));
    assert_eq!(service.status(&token).await, 200, "remembered");
    clock.advance(Duration::from_millis(1));
    assert_eq!(service.status(&token).await, 401);
}

pub(crate) async fn without_a_cache_revocation_is_immediate(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let service = with(&server, |it| it.with_ttl(Duration::ZERO));
    let token = server.token().await;
    assert_eq!(service.status(&token).await, 200);
    server.revoke(&token).await;
    assert_eq!(service.status(&token).await, 401);
}

pub(crate) async fn invalidated_token_is_introspected_again(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let store = store(&server, |it| it);
    let service = ProtectedService::by(&store);
    let tokens = [server.token().await, server.token().await];
    for token in &tokens {
        assert_eq!(service.status(token).await, 200);
        server.revoke(token).await;
        assert_eq!(service.status(token).await, 200, "remembered");
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
    let remembers = with(&server.tracked(), |it| {
        it.with_ttl(Duration::from_secs(3600))
    });
    let forgets = with(&server.tracked(), |it| it.with_ttl(Duration::ZERO));
    let token = loop {
        let begun = Instant::now();
        let token = server.token().await;
        let statuses = [remembers.status(&token).await, forgets.status(&token).await];
        if statuses == [200, 200] {
            break token;
        }
        // The token may have expired only if the machine is slow.
        assert!(begun.elapsed() >= Duration::from_secs(2), "{statuses:?}");
    };
    // By the system clock, because the server's clock cannot be set.
    for service in [remembers, forgets] {
        wait_until(async || service.status(&token).await == 401).await;
    }
}

pub(crate) async fn cached_entry_ends_with_the_token(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let clock = Arc::new(ManualClock::new(SystemTime::now()));
    let hour = Duration::from_secs(3600);
    let service = with(&server, |it| it.with_ttl(hour).with_clock(clock.clone()));
    let service = service.with_clock(&clock);
    let token = server.token().await;
    let expires_at = service
        .authenticate(&token)
        .await
        .principal()
        .expires_at()
        .unwrap();
    server.logged_requests().await;

    let left = expires_at.duration_since(clock.now()).unwrap();
    let moment = Duration::from_millis(1);
    clock.advance(left.saturating_sub(moment));
    assert_eq!(service.status(&token).await, 200);
    assert_eq!(server.calls().await, 0);
    // The token is active by the server's clock, but our clock decides.
    clock.advance(moment);
    assert_eq!(service.status(&token).await, 401);
}

pub(crate) async fn rejects_an_unknown_token(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let store = store(&server, |it| it);
    let service = ProtectedService::by(&store);
    let unknown = ["unknown", "a.b.c", "svctok_like-~+/==", &"x".repeat(4096)];
    for token in unknown {
        let answer = service.authenticate(token).await;
        assert_eq!(answer.status(), 401, "{token}");
        assert!(answer.response.body().contains("invalid_token"));
    }
    assert_eq!(server.calls().await, 4);
    assert_eq!(service.status("unknown").await, 401);
    assert_eq!(server.calls().await, 0, "remembered");
    assert_eq!(store.status().breaker, BreakerState::Closed);
}

pub(crate) async fn malformed_tokens_make_no_call(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let service = with(&server, |it| it.with_max_token_length(100));
    let ours_but_mistyped = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0m";
    for token in [
        "a&client_id=x",
        "\"quoted\"",
        "=",
        ours_but_mistyped,
        &"x".repeat(101),
    ] {
        assert_eq!(service.status(token).await, 401, "{token}");
    }
    assert_eq!(server.logged_requests().await, []);
}

pub(crate) async fn token_with_separators_is_sent_as_one_value(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let service = with(&server, IntrospectionBuilder::allow_any_visible_ascii);
    // Split at a separator, it would name two clients, and this server would respond 400.
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
    let service = ProtectedService::by(&store);
    for number in 0..20 {
        let forged = format!("eyJhbGciOiJub25lIn0.e30.{number:04}");
        assert_eq!(service.status(&forged).await, 401, "{forged}");
    }
    assert_eq!(server.calls().await, 20);
    assert_eq!(store.status().breaker, BreakerState::Closed);
    assert_eq!(service.status(&server.token().await).await, 200);
}

pub(crate) async fn rejects_a_jwt_answered_with_400(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let fields = [("scope", "read"), ("resource", JWT_API)];
    let token = server.token_with(&fields).await;
    assert_eq!(plain(&server).status(&token).await, 401);
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
    for hint in ["access_token", "refresh_token", "never_heard_of"] {
        let service = with(&server, |it| it.with_token_type_hint(hint));
        // RFC 7662 §2.1: a server that does not find the token by the hint extends its search.
        assert_eq!(service.status(&token).await, 200, "{hint}");
    }
}

pub(crate) async fn concurrent_requests_for_one_token_share_one_call(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let service = plain(&server);
    let token = server.token().await;
    let statuses = join_all((0..1000).map(|_| service.status(&token))).await;
    assert!(statuses.iter().all(|&status| status == 200));
    assert_eq!(server.calls().await, 1);
}

pub(crate) async fn more_tokens_than_permits_are_all_looked_up(deployment: Arc<Deployment>) {
    /// How long a lookup waits for a permit.
    const PERMIT_TIMEOUT: Duration = Duration::from_millis(500);

    let server = deployment.shared();
    let service = with(&server, |it| it.with_max_in_flight(4));
    let tokens = join_all((0..20).map(|_| server.token())).await;
    let looked_up = tokens.iter().map(async |token| {
        loop {
            let answer = service.authenticate(token).await;
            if answer.status() == 200 {
                break;
            }
            // A server on a slow machine may not have finished the others by then.
            assert_eq!(answer.unavailable(), IntrospectionErrorKind::Overloaded);
            assert!(answer.took >= PERMIT_TIMEOUT, "{:?}", answer.took);
        }
    });
    join_all(looked_up).await;
}

fn plain(server: &TrackedServer<'_>) -> ProtectedService {
    with(server, |it| it)
}

/// Creates a service whose store has these settings.
fn with(
    server: &TrackedServer<'_>,
    set_up: impl FnOnce(IntrospectionBuilder) -> IntrospectionBuilder,
) -> ProtectedService {
    ProtectedService::by(&store(server, set_up))
}

fn store(
    server: &TrackedServer<'_>,
    set_up: impl FnOnce(IntrospectionBuilder) -> IntrospectionBuilder,
) -> IntrospectionStore {
    // Longer than any response takes on a busy machine.
    let builder = server
        .builder(basic(API))
        .with_timeout(Duration::from_secs(30));
    let builder = set_up(builder);
    builder.build(&server.endpoint()).unwrap()
}
