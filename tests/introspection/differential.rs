//! The same tokens, introspected over HTTP at our own `/introspect` and looked up in its store,
//! give the same principals and the same rejections.

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

/// A store, its endpoints on loopback, and the two ways to check its tokens.
struct Pair {
    clock: ManualClock,
    tokens: ServiceTokens,
    /// The client that introspects.
    service: TokenId,
    direct: ServiceTokenLayer,
    introspecting: Vec<ServiceTokenLayer>,
    server: JoinHandle<()>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Everything that a handler sees of its caller, except how the store found it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    id: String,
    name: String,
    subject: Option<String>,
    owner: Option<String>,
    roles: Vec<String>,
    scopes: Vec<String>,
    labels: Vec<(String, String)>,
    /// In whole seconds.
    expires_at: Option<SystemTime>,
}

fn texts<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut texts: Vec<_> = texts.map(str::to_owned).collect();
    texts.sort_unstable();
    texts
}

impl From<&Principal> for Seen {
    fn from(principal: &Principal) -> Self {
        let labels = principal.labels();
        Self {
            id: principal.id().to_string(),
            name: principal.name().to_owned(),
            subject: principal.subject().map(str::to_owned),
            owner: principal.owner().map(str::to_owned),
            roles: texts(principal.roles().iter()),
            scopes: texts(principal.scopes().iter()),
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

impl Pair {
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
        let new = NewToken::new("the service").with_scopes(["introspect"]);
        let service = tokens.create(new).await.unwrap();
        let (id, secret) = (service.record().id(), service.expose_secret());
        let auths = [
            ClientAuth::bearer(secret),
            ClientAuth::basic(id.to_string(), secret),
        ];
        let introspecting = auths.map(|auth| {
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
            introspecting: introspecting.into(),
            service: id,
            clock,
            tokens,
            server,
        }
    }

    async fn create(&self, new: NewToken) -> IssuedToken {
        self.tokens.create(new).await.unwrap()
    }

    /// Returns the caller with this token, or the status of the rejection, which must be the same both ways.
    async fn seen(&self, token: &str) -> Result<Seen, StatusCode> {
        let expected = seen(&self.direct, token).await;
        for layer in &self.introspecting {
            assert_eq!(seen(layer, token).await, expected);
        }
        expected
    }

    async fn assert_refused(&self, what: &str, token: &str) {
        let refused = Err(StatusCode::UNAUTHORIZED);
        assert_eq!(self.seen(token).await, refused, "{what}");
    }
}

async fn seen(layer: &ServiceTokenLayer, token: &str) -> Result<Seen, StatusCode> {
    let response = send(layer, token).await;
    let principal = response.extensions().get::<Principal>();
    principal.map(Seen::from).ok_or(response.status())
}

fn full(name: &str) -> NewToken {
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
    let pair = Pair::new().await;
    let token = pair.create(full("ci \u{1F680}")).await;
    let seen = pair.seen(token.expose_secret()).await.unwrap();
    assert_eq!(seen.subject.as_deref(), Some("team-a"));
    assert_eq!(seen.owner.as_deref(), Some("user:1"));
    assert_eq!(seen.roles, ["deployer", "k8s-troubleshooter"]);
    assert_eq!(seen.scopes.len(), 3);
    assert_eq!(seen.labels.len(), 2);
    assert_eq!(seen.expires_at, Some(at(START + 60)));

    let plain = pair.create(NewToken::new("plain")).await;
    let seen = pair.seen(plain.expose_secret()).await.unwrap();
    assert_eq!((seen.subject, seen.expires_at), (None, None));
    assert_eq!(seen.id, plain.record().id().to_string());

    // Imported, with characters that need encoding.
    let foreign = "p%a&s=s+\"w/o\\r;d#?<>";
    let digest = TokenDigest::of(foreign);
    pair.tokens.import(full("foreign"), digest).await.unwrap();
    assert_eq!(pair.seen(foreign).await.unwrap().name, "foreign");
}

#[tokio::test]
async fn validity_period_is_equal_locally_and_by_introspection() {
    let pair = Pair::new().await;
    let new = full("timed").with_not_before(at(START + 10));
    let token = pair.create(new).await;
    let token = token.expose_secret();
    for (second, is_good) in [(0, false), (9, false), (10, true), (59, true), (60, false)] {
        pair.clock.set(at(START + second));
        assert_eq!(pair.seen(token).await.is_ok(), is_good, "{second}");
    }
}

#[tokio::test]
async fn invalid_token_is_rejected_locally_and_by_introspection() {
    let pair = Pair::new().await;
    let revoked = pair.create(full("revoked")).await;
    let disabled = pair.create(full("disabled")).await;
    for token in [&revoked, &disabled] {
        assert!(pair.seen(token.expose_secret()).await.is_ok());
    }
    let tokens = pair.tokens.clone().allow_last_admin_removal();
    tokens.revoke(revoked.record().id()).await.unwrap();
    tokens.disable(disabled.record().id()).await.unwrap();
    pair.assert_refused("revoked", revoked.expose_secret())
        .await;
    pair.assert_refused("disabled", disabled.expose_secret())
        .await;
    pair.tokens.enable(disabled.record().id()).await.unwrap();
    assert!(pair.seen(disabled.expose_secret()).await.is_ok());

    let unknown = TokenFormat::default().mint().unwrap();
    pair.assert_refused("unknown", unknown.expose_secret())
        .await;
    pair.assert_refused("foreign", "nobody-knows-this").await;
    let good = pair.create(full("good")).await;
    let mut damaged = good.expose_secret().to_owned();
    let last = if damaged.ends_with('0') { "1" } else { "0" };
    damaged.replace_range(damaged.len() - 1.., last);
    pair.assert_refused("damaged", &damaged).await;
}

#[tokio::test]
async fn grace_period_is_equal_locally_and_by_introspection() {
    let pair = Pair::new().await;
    let old = pair.create(full("rotated")).await;
    let grace = 20 * SECOND;
    let new = pair.tokens.rotate(old.record().id(), grace).await.unwrap();
    let current = pair.seen(new.expose_secret()).await.unwrap();
    assert_eq!(current.expires_at, Some(at(START + 60)));

    let direct = seen(&pair.direct, old.expose_secret()).await.unwrap();
    assert_eq!(direct, current);
    for layer in &pair.introspecting {
        let introspected = seen(layer, old.expose_secret()).await.unwrap();
        // A remote service gets the end of the grace period as the expiry.
        let expires_at = Some(at(START + 20));
        let current = seen(layer, new.expose_secret()).await.unwrap();
        assert_eq!(
            introspected,
            Seen {
                expires_at,
                ..current
            }
        );
    }
    pair.clock.set(at(START + 20));
    pair.assert_refused("past its grace", old.expose_secret())
        .await;
    assert_eq!(pair.seen(new.expose_secret()).await.unwrap(), current);
}

#[tokio::test]
async fn client_without_introspection_rights_gets_503() {
    let pair = Pair::new().await;
    let token = pair.create(full("ci")).await;
    pair.tokens.revoke(pair.service).await.unwrap();
    assert!(seen(&pair.direct, token.expose_secret()).await.is_ok());
    for layer in &pair.introspecting {
        let refused = seen(layer, token.expose_secret()).await;
        assert_eq!(refused, Err(StatusCode::SERVICE_UNAVAILABLE));
    }
}
