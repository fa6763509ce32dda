//! Disabling, revocation, bulk revocation and purges.

use tower_service_token::audit::AuditAction;
use tower_service_token::lifecycle::{LifecycleError, NewToken, TokenUpdate};
use tower_service_token::registry::TokenFilter;
use tower_service_token::store::TokenState;

use super::fixture::{ACCEPTED, DAY, HOUR, REJECTED, Store, fixture, rejected};

pub async fn disabling_and_revoking_apply_to_both_secrets(store: Store) {
    let fixture = fixture(store);
    let issued = fixture.create("ci").await;
    let id = issued.record().id();
    let rotated = fixture.tokens.rotate(id, HOUR).await.unwrap();
    let secrets = [issued.expose_secret(), rotated.expose_secret()];
    fixture.tokens.disable(id).await.unwrap();
    for secret in secrets {
        assert_eq!(fixture.status(secret).await, rejected("token_disabled"));
    }
    fixture.tokens.enable(id).await.unwrap();
    for secret in secrets {
        assert_eq!(fixture.status(secret).await, ACCEPTED);
    }
    fixture.tokens.revoke(id).await.unwrap();
    for secret in secrets {
        assert_eq!(fixture.status(secret).await, rejected("token_revoked"));
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
        rejected("token_revoked")
    );
    assert_eq!(
        fixture.sink.actions(),
        [AuditAction::Created, AuditAction::Revoked]
    );
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
        rejected("token_revoked")
    );
    assert_eq!(fixture.status(secrets[2].expose_secret()).await, ACCEPTED);
    // An empty filter matches all tokens and requires an expected count.
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
        rejected("token_revoked")
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
    assert_eq!(fixture.status(revoked.expose_secret()).await, REJECTED);
    fixture.clock.advance(HOUR);
    let mut purged = fixture.tokens.purge(HOUR).await.unwrap();
    purged.sort_unstable();
    let mut expected = [expired.record().id(), disabled.record().id()];
    expected.sort_unstable();
    assert_eq!(purged, expected);
    assert_eq!(fixture.names(TokenFilter::new()).await, ["live"]);
    assert_eq!(fixture.status(live.expose_secret()).await, ACCEPTED);
    assert_eq!(fixture.sink.last().action(), AuditAction::Purged);
}
