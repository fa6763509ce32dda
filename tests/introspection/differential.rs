//! Introspection at our own `/introspect` endpoint and a direct lookup in its store yield the same
//! principals and the same rejections.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_service_token::api::oauth::OAuthEndpoints;
use tower_service_token::clock::ManualClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::introspection::{ClientAuth, IntrospectionStore};
use tower_service_token::lifecycle::{Expiry, IssuedToken, NewToken};
use tower_service_token::store::sql::SqliteStore;
use tower_service_token::token::{TokenFormat, TokenId};
use tower_service_token::{Principal, ServiceTokenLayer, ServiceTokens};

use crate::protected_service::{SECOND, START, at, clock, send};

/// A store with its OAuth endpoints on loopback, and layers for both ways to check its tokens.
struct Deployment {
    clock: ManualClock,
    tokens: ServiceTokens,
    /// The token of the client that calls `/introspect`.
    client: TokenId,
    direct: ServiceTokenLayer,
    remote: Vec<ServiceTokenLayer>,
    server: JoinHandle<()>,
}

impl Drop for Deployment {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The fields of a principal that must be equal.
#[derive(Debug, PartialEq, Eq)]
struct PrincipalFields {
    id: String,
    name: String,
    subject: Option<String>,
    owner: Option<String>,
    roles: Vec<String>,
    scopes: Vec<String>,
    labels: Vec<(String, String)>,
    /// Rounded down to whole seconds.
    expires_at: Option<SystemTime>,
}

fn sorted<'a>(values: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut sorted: Vec<_> = values.map(str::to_owned).collect();
    sorted.sort_unstable();
    sorted
}

impl From<&Principal> for PrincipalFields {
    fn from(principal: &Principal) -> Self {
        let labels = principal.labels();
        Self {
            id: principal.id().to_string(),
            name: principal.name().to_owned(),
            subject: principal.subject().map(str::to_owned),
            owner: principal.owner().map(str::to_owned),
            roles: sorted(principal.roles().iter()),
            scopes: sorted(principal.scopes().iter()),
            labels: labels
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
            expires_at: principal.expires_at().map(whole_seconds),
        }
    }
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    at(since.as_secs())
}

impl Deployment {
    async fn new() -> Self {
        let clock = clock();
        let store = SqliteStore::in_memory().await.unwrap();
        let tokens = ServiceTokens::new(store.clone()).with_clock(clock.clone());
        let layer = ServiceTokenLayer::new(store).with_clock(clock.clone());
        let endpoints = OAuthEndpoints::new(tokens.clone(), layer.clone())
            .with_issuer("https://tokens.example")
            .with_audience("api")
            .with_failure_limit(None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/introspect", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            axum::serve(listener, endpoints.into_router())
                .await
                .unwrap();
        });
        let new = NewToken::new("introspection client").with_scopes(["introspect"]);
        let client = tokens.create(new).await.unwrap();
        let (id, secret) = (client.record().id(), client.expose_secret());
        let auths = [
            ClientAuth::bearer(secret),
            ClientAuth::basic(id.to_string(), secret),
        ];
        let remote = auths.map(|auth| {
            let store = IntrospectionStore::builder(auth)
                .allow_http_to_loopback()
                .allow_any_visible_ascii()
                .with_ttl(Duration::ZERO)
                .with_timeout(30 * SECOND)
                .with_issuer("https://tokens.example")
                .require_issuer()
                .with_audience("api")
                .with_role_claim("roles")
                .with_labels_claim("labels")
                .with_clock(clock.clone())
                .build(&url);
            ServiceTokenLayer::new(store.unwrap()).with_clock(clock.clone())
        });
        Self {
            direct: layer,
            remote: remote.into(),
            client: id,
            clock,
            tokens,
            server,
        }
    }

    async fn create(&self, new: NewToken) -> IssuedToken {
        self.tokens.create(new).await.unwrap()
    }

    /// Authenticates in both ways, asserts that the results are equal, and returns the result.
    async fn authenticate(&self, token: &str) -> Result<PrincipalFields, StatusCode> {
        let expected = authenticate(&self.direct, token).await;
        for layer in &self.remote {
            assert_eq!(authenticate(layer, token).await, expected);
        }
        expected
    }

    async fn assert_rejected(&self, case: &str, token: &str) {
        let rejected = Err(StatusCode::UNAUTHORIZED);
        assert_eq!(self.authenticate(token).await, rejected, "{case}");
    }
}

async fn authenticate(
    layer: &ServiceTokenLayer,
    token: &str,
) -> Result<PrincipalFields, StatusCode> {
    let response = send(layer, token).await;
    let principal = response.extensions().get::<Principal>();
    principal
        .map(PrincipalFields::from)
        .ok_or(response.status())
}

fn token_with_all_fields(name: &str) -> NewToken {
    NewToken::new(name)
        .with_subject("team-a")
        .with_owner("user:1")
        .with_roles(["deployer", "k8s-troubleshooter"])
        .with_scopes(["projects:write", "logs:*", "**"])
        .with_label("workspace", "w1")
        .with_label("team", "a \"b\" \u{e9}")
        .with_expiry(Expiry::at(at(START + 60)))
}

#[tokio::test]
async fn valid_token_yields_the_same_principal_locally_and_by_introspection() {
    let deployment = Deployment::new().await;
    let token = deployment
        .create(token_with_all_fields("ci \u{1F680}"))
        .await;
    let principal = deployment
        .authenticate(token.expose_secret())
        .await
        .unwrap();
    assert_eq!(principal.subject.as_deref(), Some("team-a"));
    assert_eq!(principal.owner.as_deref(), Some("user:1"));
    assert_eq!(principal.roles, ["deployer", "k8s-troubleshooter"]);
    assert_eq!(principal.scopes.len(), 3);
    assert_eq!(principal.labels.len(), 2);
    assert_eq!(principal.expires_at, Some(at(START + 60)));

    let plain = deployment.create(NewToken::new("plain")).await;
    let principal = deployment
        .authenticate(plain.expose_secret())
        .await
        .unwrap();
    assert_eq!((principal.subject, principal.expires_at), (None, None));
    assert_eq!(principal.id, plain.record().id().to_string());

    // An imported token with characters that need encoding.
    let imported = "p%a&s=s+\"w/o\\r;d#?<>";
    let digest = TokenDigest::of(imported);
    deployment
        .tokens
        .import(token_with_all_fields("imported"), digest)
        .await
        .unwrap();
    assert_eq!(
        deployment.authenticate(imported).await.unwrap().name,
        "imported"
    );
}

#[tokio::test]
async fn validity_period_is_equal_locally_and_by_introspection() {
    let deployment = Deployment::new().await;
    let new = token_with_all_fields("timed").with_not_before(at(START + 10));
    let token = deployment.create(new).await;
    let token = token.expose_secret();
    for (second, is_valid) in [(0, false), (9, false), (10, true), (59, true), (60, false)] {
        deployment.clock.set(at(START + second));
        assert_eq!(
            deployment.authenticate(token).await.is_ok(),
            is_valid,
            "{second}"
        );
    }
}

#[tokio::test]
async fn invalid_token_is_rejected_locally_and_by_introspection() {
    let deployment = Deployment::new().await;
    let revoked = deployment.create(token_with_all_fields("revoked")).await;
    let disabled = deployment.create(token_with_all_fields("disabled")).await;
    for token in [&revoked, &disabled] {
        assert!(deployment.authenticate(token.expose_secret()).await.is_ok());
    }
    let tokens = deployment.tokens.clone().allow_last_admin_removal();
    tokens.revoke(revoked.record().id()).await.unwrap();
    tokens.disable(disabled.record().id()).await.unwrap();
    deployment
        .assert_rejected("revoked", revoked.expose_secret())
        .await;
    deployment
        .assert_rejected("disabled", disabled.expose_secret())
        .await;
    deployment
        .tokens
        .enable(disabled.record().id())
        .await
        .unwrap();
    assert!(
        deployment
            .authenticate(disabled.expose_secret())
            .await
            .is_ok()
    );

    let unknown = TokenFormat::default().mint().unwrap();
    deployment
        .assert_rejected("unknown", unknown.expose_secret())
        .await;
    deployment
        .assert_rejected("other format", "not-a-token")
        .await;
    let valid = deployment.create(token_with_all_fields("valid")).await;
    let mut damaged = valid.expose_secret().to_owned();
    let last = if damaged.ends_with('0') { "1" } else { "0" };
    damaged.replace_range(damaged.len() - 1.., last);
    deployment.assert_rejected("damaged", &damaged).await;
}

#[tokio::test]
async fn grace_period_is_equal_locally_and_by_introspection() {
    let deployment = Deployment::new().await;
    let old = deployment.create(token_with_all_fields("rotated")).await;
    let grace = 20 * SECOND;
    let new = deployment
        .tokens
        .rotate(old.record().id(), grace)
        .await
        .unwrap();
    let current = deployment.authenticate(new.expose_secret()).await.unwrap();
    assert_eq!(current.expires_at, Some(at(START + 60)));

    let direct = authenticate(&deployment.direct, old.expose_secret())
        .await
        .unwrap();
    assert_eq!(direct, current);
    for layer in &deployment.remote {
        let introspected = authenticate(layer, old.expose_secret()).await.unwrap();
        // Introspection reports the end of the grace period as the expiry.
        let expires_at = Some(at(START + 20));
        let current = authenticate(layer, new.expose_secret()).await.unwrap();
        assert_eq!(
            introspected,
            PrincipalFields {
                expires_at,
                ..current
            }
        );
    }
    deployment.clock.set(at(START + 20));
    deployment
        .assert_rejected("after the grace period", old.expose_secret())
        .await;
    assert_eq!(
        deployment.authenticate(new.expose_secret()).await.unwrap(),
        current
    );
}

#[tokio::test]
async fn client_without_introspection_rights_gets_503() {
    let deployment = Deployment::new().await;
    let token = deployment.create(token_with_all_fields("ci")).await;
    deployment.tokens.revoke(deployment.client).await.unwrap();
    assert!(
        authenticate(&deployment.direct, token.expose_secret())
            .await
            .is_ok()
    );
    for layer in &deployment.remote {
        let rejected = authenticate(layer, token.expose_secret()).await;
        assert_eq!(rejected, Err(StatusCode::SERVICE_UNAVAILABLE));
    }
}
