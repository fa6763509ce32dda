//! Updates of fields, expiries and revisions.

use std::time::Duration;

use tower_service_token::lifecycle::{Expiry, LifecycleError, NewToken, TokenUpdate};
use tower_service_token::store::TokenStatus;

use super::fixture::{ACCEPTED, HOUR, Store, fixture, rejected, start};

pub async fn update_sets_and_clears_only_named_fields(store: Store) {
    let fixture = fixture(store);
    let new = NewToken::new("ci")
        .with_description("d")
        .with_subject("team-a")
        .with_roles(["a"])
        .with_scopes(["x:y"])
        .with_label("existing", "1")
        .with_label("removed", "1")
        .with_expiry("30d".parse().unwrap())
        .with_not_before(start() + HOUR);
    let issued = fixture.tokens.create(new).await.unwrap();
    let id = issued.record().id();
    assert_eq!(
        fixture.status(issued.expose_secret()).await,
        rejected("token_not_yet_valid")
    );

    let update = TokenUpdate::new()
        .without_description()
        .without_subject()
        .without_not_before()
        .with_roles(["b"])
        .with_label("new", "2")
        .without_label("removed")
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
        [("existing", "1"), ("new", "2")]
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
    assert_eq!(fixture.status(secret).await, rejected("token_expired"));
    assert_eq!(
        fixture.tokens.get(id).await.unwrap().status(start() + HOUR),
        TokenStatus::Expired
    );
    fixture.tokens.update(id, expire("1h")).await.unwrap();
    assert_eq!(fixture.status(secret).await, ACCEPTED);
    fixture.clock.advance(HOUR);
    assert_eq!(fixture.status(secret).await, rejected("token_expired"));
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
