//! Answers that are lost after the call was carried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tower_service_token::client::{ClientErrorKind, ServiceTokensClient};
use tower_service_token::lifecycle::{NewToken, TokenUpdate};
use tower_service_token::store::{TokenFilter, TokenStatus};

use super::front::{Front, Step, problem};
use super::{HOUR, World};

use Step::{Break, Lose, Pass};

/// A world behind a front with these steps.
async fn behind(steps: impl IntoIterator<Item = Step>) -> (World, Front, ServiceTokensClient) {
    let world = World::new().await;
    let front = Front::start(world.app.clone(), steps).await;
    let client = world.builder(front.address).build().unwrap();
    (world, front, client)
}

fn unavailable() -> Step {
    Step::Say(problem(503, r#"{"code":"auth_unavailable"}"#))
}

#[tokio::test]
async fn a_creation_whose_answer_was_lost_makes_one_token_and_its_secret_works() {
    for steps in [
        vec![Lose],
        vec![Break],
        vec![Lose, Break],
        vec![unavailable(), Lose],
        vec![Lose, unavailable()],
        vec![Lose, Pass, Lose, Break],
        vec![unavailable()],
    ] {
        let shown = format!("{steps:?}");
        let (world, front, client) = behind(steps).await;
        let issued = client.create(NewToken::new("ci")).await.expect(&shown);
        let found = world.named("ci").await;
        assert_eq!(found.len(), 1, "{shown}");
        assert_eq!(issued.token().id, found[0].id());
        assert!(world.accepts(issued.expose_secret()).await, "{shown}");
        assert_eq!(issued.effective_within(), Duration::ZERO);
        let creations = front.seen().into_iter();
        let mut keys: Vec<_> = creations
            .filter(|seen| seen.line == "POST /tokens/service-tokens")
            .map(|seen| seen.headers["idempotency-key"].clone())
            .collect();
        keys.dedup();
        assert_eq!(keys.len(), 1, "{shown}");
    }
}

#[tokio::test]
async fn each_creation_has_a_key_of_its_own() {
    let (world, front, client) = behind([]).await;
    for _ in 0..3 {
        let _ = client.create(NewToken::new("ci")).await.unwrap();
    }
    assert_eq!(world.named("ci").await.len(), 3);
    let keys: std::collections::HashSet<_> = front
        .seen()
        .iter()
        .map(|seen| seen.headers["idempotency-key"].to_str().unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 3);
}

#[tokio::test]
async fn a_creation_by_the_callers_key_is_told_rather_than_rotated() {
    let (world, front, client) = behind([Pass, Pass, Lose]).await;
    let wanted = |key: &str| NewToken::new("ci").with_idempotency_key(key);
    let issued = client.create(wanted("one")).await.unwrap();
    for key in ["one", "two"] {
        let error = client.create(wanted(key)).await.unwrap_err();
        assert_eq!(error.kind(), ClientErrorKind::AlreadyCreated);
        let token = error.token().expect("the token");
        assert_eq!(token.name, "ci");
        assert_eq!(token.rotated_at, None);
    }
    assert!(world.accepts(issued.expose_secret()).await);
    assert_eq!(world.named("ci").await.len(), 2);
    let other = NewToken::new("cd").with_idempotency_key("one");
    let error = client.create(other).await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::Conflict);
    assert_eq!(error.code(), Some("idempotency_key_reused"));
    assert_eq!(front.seen()[0].headers["idempotency-key"], "one");
}

#[tokio::test]
async fn calls_that_do_the_same_twice_are_sent_again() {
    let world = World::new().await;
    let token = world.tokens.create(NewToken::new("ci")).await.unwrap();
    let id = token.record().id();
    let filter = || TokenFilter::new().with_name("ci");
    for step in [Lose, Break, unavailable()] {
        let each = || vec![step.clone(), Pass];
        let steps: Vec<_> = (0..6).flat_map(|_| each()).collect();
        let front = Front::start(world.app.clone(), steps).await;
        let client = world.builder(front.address).build().unwrap();
        assert_eq!(client.get(id).await.unwrap().id, id);
        assert_eq!(client.revocable(filter()).await.unwrap().sample, [id]);
        let update = TokenUpdate::new().with_name("ci").with_description("why");
        let changed = client.update(id, update).await.unwrap();
        assert_eq!(changed.token.description.as_deref(), Some("why"));
        let off = client.disable(id).await.unwrap();
        assert_eq!(off.token.state, TokenStatus::Disabled);
        let on = client.enable(id).await.unwrap();
        assert_eq!(on.token.state, TokenStatus::Active);
        let own = world.tokens.create(NewToken::new("own")).await.unwrap();
        client.revoke(own.record().id()).await.unwrap();
        assert_eq!(
            world.shown(own.record().id()).await.state,
            TokenStatus::Revoked
        );
        assert_eq!(front.lines().len(), 12, "{step:?}");
    }
}

#[tokio::test]
async fn calls_that_do_not_are_sent_once_and_say_that_nobody_knows() {
    let world = World::new().await;
    let token = world.tokens.create(NewToken::new("ci")).await.unwrap();
    let id = token.record().id();
    let filter = || TokenFilter::new().with_name("none");
    let update = |revision| TokenUpdate::new().with_name("ci").if_revision(revision);
    for (step, kind) in [
        (Lose, ClientErrorKind::Unreachable),
        (Break, ClientErrorKind::Unreachable),
        (unavailable(), ClientErrorKind::Server),
    ] {
        let front = Front::start(world.app.clone(), vec![step; 10]).await;
        let client = world.builder(front.address).build().unwrap();
        let revision = world.tokens.get(id).await.unwrap().revision();
        let conditional = |revision| client.clone().if_revision(revision);
        let refused = [
            client.rotate(id, HOUR).await.map(drop),
            client.rotate_own(HOUR).await.map(drop),
            client.revoke_where(filter(), 0).await.map(drop),
            client.revoke_where(filter(), None).await.map(drop),
            client.update(id, update(revision)).await.map(drop),
            conditional(revision).rotate(id, HOUR).await.map(drop),
            conditional(revision + 1).disable(id).await.map(drop),
            conditional(revision + 1).enable(id).await.map(drop),
            conditional(revision + 1).revoke(id).await.map(drop),
            conditional(1).revoke_own().await.map(drop),
        ];
        for refused in refused {
            assert_eq!(refused.unwrap_err().kind(), kind);
        }
        assert_eq!(front.lines().len(), 10, "{kind:?}");
    }
}

#[tokio::test]
async fn what_must_not_be_sent_twice_meets_no_connection_that_is_being_closed() {
    let world = World::new().await;
    let id = world.tokens.create(NewToken::new("ci")).await.unwrap();
    let id = id.record().id();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let listener = listener.tap_io(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let app = world.app.clone();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let client = world.builder(address).build().unwrap();
    for _ in 0..3 {
        client.get(id).await.unwrap();
        // Time for the connection to come back.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    let _ = client.rotate(id, HOUR).await.unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_token_that_revoked_itself_is_not_told_that_it_was_refused() {
    let world = World::new().await;
    let holder = world.tokens.create(NewToken::new("ci")).await.unwrap();
    let front = Front::start(world.app.clone(), [Lose]).await;
    let builder = world.builder(front.address);
    let client = builder.with_token(holder.expose_secret()).build().unwrap();
    let revocation = client.revoke_own().await.unwrap();
    assert_eq!(revocation.effective_within, Duration::MAX);
    assert_eq!(front.lines().len(), 2);
    let refused = client.revoke_own().await.unwrap_err();
    assert_eq!(refused.kind(), ClientErrorKind::Unauthenticated);
}

#[tokio::test]
async fn labels_are_replaced_though_another_changes_them_meanwhile() {
    let world = World::new().await;
    let new = NewToken::new("ci").with_label("a", "1");
    let token = world.tokens.create(new).await.unwrap();
    let id = token.record().id();
    // The first look is at a token as it was before.
    let before = serde_json::to_string(&world.shown(id).await).unwrap();
    let headers = [("content-type", "application/json"), ("etag", "\"1\"")];
    let before = Step::Say(super::front::answer(200, &headers, &before));
    let update = TokenUpdate::new().with_label("b", "2");
    world.tokens.update(id, update).await.unwrap();
    let front = Front::start(world.app.clone(), [before]).await;
    let client = world.builder(front.address).build().unwrap();
    let replaced = TokenUpdate::new().without_labels().with_label("c", "3");
    let changed = client.update(id, replaced).await.unwrap();
    let labels: Vec<_> = changed.token.labels.into_iter().collect();
    assert_eq!(labels, [("c".to_owned(), "3".to_owned())]);
    let methods: Vec<_> = front
        .lines()
        .iter()
        .map(|it| it[..4].trim().to_owned())
        .collect();
    assert_eq!(methods, ["GET", "PATC", "GET", "PATC"]);
}

#[tokio::test]
async fn a_creation_is_sent_again_as_often_as_asked_and_no_more() {
    for (retries, sent) in [(0, 1), (1, 2), (3, 4)] {
        let world = World::new().await;
        let front = Front::start(world.app.clone(), vec![unavailable(); 10]).await;
        let builder = world.builder(front.address).with_max_retries(retries);
        let error = builder.build().unwrap().create(NewToken::new("ci")).await;
        assert_eq!(error.unwrap_err().kind(), ClientErrorKind::Server);
        assert_eq!(front.lines().len(), sent);
    }
}
