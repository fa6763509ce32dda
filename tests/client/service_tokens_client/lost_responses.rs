//! Responses that are lost after the server has processed the call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tower_service_token::client::{ClientErrorKind, ServiceTokensClient};
use tower_service_token::lifecycle::{NewToken, TokenUpdate};
use tower_service_token::registry::TokenFilter;
use tower_service_token::store::TokenStatus;

use super::faulty_server::{FaultyServer, Step, problem};
use super::{HOUR, TestServer};

use Step::{DropResponse, Pass, TruncateResponse};

/// Starts a faulty server with these steps in front of the API.
async fn with_faults(
    steps: impl IntoIterator<Item = Step>,
) -> (TestServer, FaultyServer, ServiceTokensClient) {
    let server = TestServer::new().await;
    let faulty_server = FaultyServer::start(server.app.clone(), steps).await;
    let client = server.builder(faulty_server.address).build().unwrap();
    (server, faulty_server, client)
}

fn unavailable() -> Step {
    Step::Respond(problem(503, r#"{"code":"auth_unavailable"}"#))
}

#[tokio::test]
async fn lost_creations_create_one_valid_token() {
    for steps in [
        vec![DropResponse],
        vec![TruncateResponse],
        vec![DropResponse, TruncateResponse],
        vec![unavailable(), DropResponse],
        vec![DropResponse, unavailable()],
        vec![DropResponse, Pass, DropResponse, TruncateResponse],
        vec![unavailable()],
    ] {
        let shown = format!("{steps:?}");
        let (server, faulty_server, client) = with_faults(steps).await;
        let issued = client.create(NewToken::new("ci")).await.expect(&shown);
        let found = server.find_by_name("ci").await;
        assert_eq!(found.len(), 1, "{shown}");
        assert_eq!(issued.token().id, found[0].id());
        assert!(server.accepts(issued.expose_secret()).await, "{shown}");
        assert_eq!(issued.effective_within(), Duration::ZERO);
        let creations = faulty_server.requests().into_iter();
        let mut keys: Vec<_> = creations
            .filter(|received| received.line == "POST /tokens/service-tokens")
            .map(|received| received.headers["idempotency-key"].clone())
            .collect();
        keys.dedup();
        assert_eq!(keys.len(), 1, "{shown}");
    }
}

#[tokio::test]
async fn each_creation_has_its_own_key() {
    let (server, faulty_server, client) = with_faults([]).await;
    for _ in 0..3 {
        let _ = client.create(NewToken::new("ci")).await.unwrap();
    }
    assert_eq!(server.find_by_name("ci").await.len(), 3);
    let keys: std::collections::HashSet<_> = faulty_server
        .requests()
        .iter()
        .map(|received| {
            received.headers["idempotency-key"]
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(keys.len(), 3);
}

#[tokio::test]
async fn creations_with_the_callers_key_are_not_rotated() {
    let (server, faulty_server, client) = with_faults([Pass, Pass, DropResponse]).await;
    let new_token = |key: &str| NewToken::new("ci").with_idempotency_key(key);
    let issued = client.create(new_token("one")).await.unwrap();
    for key in ["one", "two"] {
        let error = client.create(new_token(key)).await.unwrap_err();
        assert_eq!(error.kind(), ClientErrorKind::AlreadyCreated);
        let token = error.token().expect("the token");
        assert_eq!(token.name, "ci");
        assert_eq!(token.rotated_at, None);
    }
    assert!(server.accepts(issued.expose_secret()).await);
    assert_eq!(server.find_by_name("ci").await.len(), 2);
    let other = NewToken::new("cd").with_idempotency_key("one");
    let error = client.create(other).await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::Conflict);
    assert_eq!(error.code(), Some("idempotency_key_reused"));
    assert_eq!(
        faulty_server.requests()[0].headers["idempotency-key"],
        "one"
    );
}

#[tokio::test]
async fn lost_rotations_without_grace_create_one_valid_secret() {
    for steps in [
        vec![DropResponse],
        vec![TruncateResponse],
        vec![unavailable(), DropResponse],
        vec![DropResponse, Pass, DropResponse],
    ] {
        let shown = format!("{steps:?}");
        let (server, faulty_server, client) = with_faults(steps).await;
        let token = server.tokens.create(NewToken::new("ci")).await.unwrap();
        let id = token.record().id();
        let rotated = client.rotate(id, Duration::ZERO).await.expect(&shown);
        assert!(server.accepts(rotated.expose_secret()).await, "{shown}");
        assert!(!server.accepts(token.expose_secret()).await, "{shown}");
        assert!(faulty_server.lines().len() > 1, "{shown}");
    }
}

/// A second rotation would invalidate the secret that is in use.
#[tokio::test]
async fn lost_rotations_with_grace_keep_the_secret_in_use() {
    for step in [DropResponse, TruncateResponse] {
        let (server, faulty_server, client) = with_faults([step]).await;
        let token = server.tokens.create(NewToken::new("ci")).await.unwrap();
        let id = token.record().id();
        let error = client.rotate(id, HOUR).await.unwrap_err();
        assert_eq!(error.kind(), ClientErrorKind::Unreachable);
        assert!(server.token_info(id).grace_ends_at.is_some());
        assert!(server.accepts(token.expose_secret()).await);
        assert_eq!(faulty_server.requests().len(), 1);
    }
    // The client retries with the caller's own key, because the caller asserts that the server
    // supports it.
    let (server, faulty_server, client) = with_faults([DropResponse]).await;
    let token = server.tokens.create(NewToken::new("ci")).await.unwrap();
    let id = token.record().id();
    let error = client.rotate_once(id, HOUR, "one").await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::AlreadyRotated);
    assert_eq!(error.token(), Some(&server.token_info(id)));
    assert!(server.accepts(token.expose_secret()).await);
    let received = faulty_server.requests();
    assert_eq!(received.len(), 2);
    assert!(
        received
            .iter()
            .all(|it| it.headers["idempotency-key"] == "one")
    );
    let (server, _faulty_server, client) = with_faults([unavailable()]).await;
    let token = server.tokens.create(NewToken::new("ci")).await.unwrap();
    let rotated = client
        .rotate_once(token.record().id(), HOUR, "one")
        .await
        .unwrap();
    assert!(server.accepts(rotated.expose_secret()).await);
    assert!(server.accepts(token.expose_secret()).await);
}

#[tokio::test]
async fn lost_rotations_of_the_own_token_are_recovered() {
    for steps in [
        vec![DropResponse],
        vec![DropResponse, Pass, TruncateResponse],
    ] {
        let server = TestServer::new().await;
        let holder = server.tokens.create(NewToken::new("ci")).await.unwrap();
        let faulty_server = FaultyServer::start(server.app.clone(), steps).await;
        let builder = server.builder(faulty_server.address);
        let client = builder.with_token(holder.expose_secret()).build().unwrap();
        let rotated = client.rotate_own(HOUR).await.unwrap();
        assert!(server.accepts(rotated.expose_secret()).await);
        assert!(server.accepts(holder.expose_secret()).await);
    }
}

#[tokio::test]
async fn rotations_with_the_callers_key_happen_once() {
    let (server, _faulty_server, client) = with_faults([DropResponse]).await;
    let token = server.tokens.create(NewToken::new("ci")).await.unwrap();
    let id = token.record().id();
    for _ in 0..2 {
        let error = client.rotate_once(id, Duration::ZERO, "one").await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ClientErrorKind::AlreadyRotated);
        assert_eq!(error.token().unwrap().revision, Some(2));
    }
    let error = client.rotate_once(id, HOUR, "one").await.unwrap_err();
    assert_eq!(error.code(), Some("idempotency_key_reused"));
    let error = client.rotate_once(id, HOUR, "a b").await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::Invalid);
    let rotated = client.rotate_once(id, HOUR, "two").await.unwrap();
    assert!(server.accepts(rotated.expose_secret()).await);
}

#[tokio::test]
async fn retries_idempotent_calls() {
    let server = TestServer::new().await;
    let token = server.tokens.create(NewToken::new("ci")).await.unwrap();
    let id = token.record().id();
    let filter = || TokenFilter::new().with_name("ci");
    for step in [DropResponse, TruncateResponse, unavailable()] {
        let each = || vec![step.clone(), Pass];
        let steps: Vec<_> = (0..6).flat_map(|_| each()).collect();
        let faulty_server = FaultyServer::start(server.app.clone(), steps).await;
        let client = server.builder(faulty_server.address).build().unwrap();
        assert_eq!(client.get(id).await.unwrap().id, id);
        assert_eq!(
            client.preview_revocation(filter()).await.unwrap().sample,
            [id]
        );
        let update = TokenUpdate::new().with_name("ci").with_description("why");
        let changed = client.update(id, update).await.unwrap();
        assert_eq!(changed.token.description.as_deref(), Some("why"));
        let disabled = client.disable(id).await.unwrap();
        assert_eq!(disabled.token.state, TokenStatus::Disabled);
        let enabled = client.enable(id).await.unwrap();
        assert_eq!(enabled.token.state, TokenStatus::Active);
        let own = server.tokens.create(NewToken::new("own")).await.unwrap();
        client.revoke(own.record().id()).await.unwrap();
        assert_eq!(
            server.token_info(own.record().id()).state,
            TokenStatus::Revoked
        );
        assert_eq!(faulty_server.lines().len(), 12, "{step:?}");
    }
}

#[tokio::test]
async fn does_not_retry_other_calls() {
    let server = TestServer::new().await;
    let token = server.tokens.create(NewToken::new("ci")).await.unwrap();
    let id = token.record().id();
    let filter = || TokenFilter::new().with_name("none");
    let update = |revision| TokenUpdate::new().with_name("ci").if_revision(revision);
    for (step, kind) in [
        (DropResponse, ClientErrorKind::Unreachable),
        (TruncateResponse, ClientErrorKind::Unreachable),
        (unavailable(), ClientErrorKind::Server),
    ] {
        let faulty_server = FaultyServer::start(server.app.clone(), vec![step; 10]).await;
        let client = server.builder(faulty_server.address).build().unwrap();
        let revision = server.store.get(id).unwrap().revision();
        let conditional = |revision| client.clone().if_revision(revision);
        let results = [
            client.rotate_own(Duration::ZERO).await.map(drop),
            client.revoke_where(filter(), 0).await.map(drop),
            client.revoke_where(filter(), None).await.map(drop),
            client.update(id, update(revision)).await.map(drop),
            conditional(revision + 1).disable(id).await.map(drop),
            conditional(revision + 1).enable(id).await.map(drop),
            conditional(revision + 1).revoke(id).await.map(drop),
            conditional(1).revoke_own().await.map(drop),
        ];
        for result in results {
            assert_eq!(result.unwrap_err().kind(), kind);
        }
        assert_eq!(faulty_server.lines().len(), 8, "{kind:?}");
    }
}

#[tokio::test]
async fn other_calls_use_new_connections() {
    let server = TestServer::new().await;
    let id = server.tokens.create(NewToken::new("ci")).await.unwrap();
    let id = id.record().id();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let listener = listener.tap_io(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let app = server.app.clone();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let client = server.builder(address).build().unwrap();
    for _ in 0..3 {
        client.get(id).await.unwrap();
        // Lets the connection return to the pool.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    let filter = TokenFilter::new().with_name("none");
    client.revoke_where(filter, 0).await.unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn lost_self_revocations_succeed() {
    let server = TestServer::new().await;
    let holder = server.tokens.create(NewToken::new("ci")).await.unwrap();
    let faulty_server = FaultyServer::start(server.app.clone(), [DropResponse]).await;
    let builder = server.builder(faulty_server.address);
    let client = builder.with_token(holder.expose_secret()).build().unwrap();
    let revocation = client.revoke_own().await.unwrap();
    assert_eq!(revocation.effective_within, Duration::MAX);
    assert_eq!(faulty_server.lines().len(), 2);
    let error = client.revoke_own().await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::Unauthenticated);
}

#[tokio::test]
async fn replaces_labels_despite_concurrent_changes() {
    let server = TestServer::new().await;
    let new = NewToken::new("ci").with_label("a", "1");
    let token = server.tokens.create(new).await.unwrap();
    let id = token.record().id();
    // The first read returns the token before the concurrent change.
    let before = serde_json::to_string(&server.token_info(id)).unwrap();
    let headers = [("content-type", "application/json"), ("etag", "\"1\"")];
    let before = Step::Respond(super::faulty_server::response_bytes(200, &headers, &before));
    let update = TokenUpdate::new().with_label("b", "2");
    server.tokens.update(id, update).await.unwrap();
    let faulty_server = FaultyServer::start(server.app.clone(), [before]).await;
    let client = server.builder(faulty_server.address).build().unwrap();
    let replaced = TokenUpdate::new().without_labels().with_label("c", "3");
    let changed = client.update(id, replaced).await.unwrap();
    let labels: Vec<_> = changed.token.labels.into_iter().collect();
    assert_eq!(labels, [("c".to_owned(), "3".to_owned())]);
    let methods: Vec<_> = faulty_server
        .lines()
        .iter()
        .map(|it| it[..4].trim().to_owned())
        .collect();
    assert_eq!(methods, ["GET", "PATC", "GET", "PATC"]);
}

#[tokio::test]
async fn limits_retries() {
    for (retries, sent) in [(0, 1), (1, 2), (3, 4)] {
        let server = TestServer::new().await;
        let faulty_server = FaultyServer::start(server.app.clone(), vec![unavailable(); 10]).await;
        let builder = server
            .builder(faulty_server.address)
            .with_max_retries(retries);
        let error = builder.build().unwrap().create(NewToken::new("ci")).await;
        assert_eq!(error.unwrap_err().kind(), ClientErrorKind::Server);
        assert_eq!(faulty_server.lines().len(), sent);
    }
}
