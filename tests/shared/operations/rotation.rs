//! Rotation of secrets and grace periods.

use std::time::Duration;

use tower_service_token::audit::{AuditAction, AuditEvent};
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{LifecycleError, NewToken, TokenPolicy};
use tower_service_token::registry::Write;
use tower_service_token::token::TokenFormat;

use super::fixture::{ACCEPTED, DAY, HOUR, REJECTED, Store, fixture, rejected, start};

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
        rejected("token_expired")
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
    assert_eq!(fixture.status(issued.expose_secret()).await, REJECTED);
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
    assert_eq!(fixture.status(first.expose_secret()).await, REJECTED);
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
    for rotated_out in [&first, &second, &third] {
        assert_eq!(fixture.status(rotated_out.expose_secret()).await, REJECTED);
    }
    assert_eq!(fixture.status(fourth.expose_secret()).await, ACCEPTED);
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

/// A process of an earlier release does not know the rotation key, and keeps it when it rotates the
/// token.
pub async fn key_of_a_replaced_secret_is_not_a_replay(store: Store) {
    let fixture = fixture(store);
    let tokens = &fixture.tokens;
    let id = fixture.create("ci").await.record().id();
    let replace_secret = async || {
        let secret = TokenFormat::default().mint_with_id(id).unwrap();
        let record = fixture.store.get(id).await.unwrap().unwrap();
        let digest = TokenDigest::of(secret.expose_secret());
        let rotated = record.clone().with_digest(digest);
        assert!(rotated.rotation_key().is_some());
        let event = AuditEvent::new(start(), "operator", AuditAction::Rotated, id);
        let write = Write::new(rotated, event);
        fixture.store.update(&write).await.unwrap();
    };
    let key = "8e03978e-40d5-43dd-bc93-6894a57f9324";
    for grace in [HOUR, HOUR, Duration::ZERO] {
        let rotated = tokens.rotate_once(id, grace, key).await.unwrap();
        assert_eq!(fixture.status(rotated.expose_secret()).await, ACCEPTED);
        let repeated = tokens.rotate_once(id, grace, key).await.unwrap_err();
        assert!(matches!(repeated, LifecycleError::AlreadyRotated(_)));
        let reused = tokens.rotate_once(id, 2 * HOUR, key).await.unwrap_err();
        assert!(matches!(reused, LifecycleError::IdempotencyKeyReused));
        replace_secret().await;
    }
}
