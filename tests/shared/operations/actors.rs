//! Escalation and audit: the permissions and the records of the actor.

use tower_service_token::ServiceTokens;
use tower_service_token::audit::AuditAction;
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{LifecycleError, NewToken, Operator, TokenUpdate};
use tower_service_token::registry::AuthorityError;

use super::fixture::{DAY, Fixture, HOUR, Store, fixture};

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

    // A caller cannot rotate, update or enable a token with roles or scopes that the caller lacks.
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
    // A caller cannot disable or revoke such a token either.
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
    let tokens = fixture.tokens.clone().acting_for(Operator::new("alice"));
    let issued = tokens
        .create(NewToken::new("ci").with_roles(["a"]))
        .await
        .unwrap();
    let id = issued.record().id();
    tokens
        .update(id, TokenUpdate::new().with_name("cd"))
        .await
        .unwrap();
    // An update that changes nothing creates no event.
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
    let debug_output = format!("{events:?}");
    for issued in [&issued, &rotated] {
        assert!(!debug_output.contains(&issued.expose_secret()[18..]));
        let digest = issued.record().digest().to_string();
        assert!(!debug_output.contains(&digest["sha256:".len()..]));
    }
}
