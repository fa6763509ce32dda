//! Complete lifecycles of created and imported tokens, and unknown IDs.

use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{LifecycleError, NewToken, Page, TokenUpdate, last_day};
use tower_service_token::registry::TokenFilter;
use tower_service_token::store::TokenStatus;
use tower_service_token::token::{TokenFormat, TokenId, TokenShape};

use super::fixture::{ACCEPTED, DAY, HOUR, Store, fixture, rejected, start};

pub async fn creates_lists_and_deletes_a_token(store: Store) {
    let fixture = fixture(store);
    let new = NewToken::new("my-service-token")
        .with_roles(["stackstate-k8s-troubleshooter"])
        .with_expiry("2027-01-31".parse().unwrap());
    let issued = fixture.tokens.create(new).await.unwrap();
    let secret = issued.expose_secret().to_owned();
    let id = issued.record().id();
    assert_eq!(
        TokenFormat::default().inspect(&secret),
        TokenShape::WellFormed(id)
    );
    let principal = fixture.present(&secret).await.unwrap();
    assert_eq!(principal.name(), "my-service-token");
    assert!(principal.roles().contains("stackstate-k8s-troubleshooter"));

    let page = fixture
        .tokens
        .list(TokenFilter::new(), Page::default())
        .await
        .unwrap();
    let [listed] = &page.records[..] else {
        panic!("one token");
    };
    assert_eq!((listed.id(), listed.name()), (id, "my-service-token"));
    assert_eq!(
        last_day(listed.expires_at().unwrap()).as_deref(),
        Some("2027-01-31")
    );
    assert_eq!(
        listed.roles().iter().collect::<Vec<_>>(),
        ["stackstate-k8s-troubleshooter"]
    );
    let debug_output = format!("{page:?} {issued:?} {:?}", listed.hint());
    assert!(!debug_output.contains(&secret[18..]), "{debug_output}");
    assert_eq!(listed.hint(), Some(format!("svctok-{id}_***").as_str()));

    fixture.tokens.revoke(id).await.unwrap();
    assert_eq!(fixture.status(&secret).await, rejected("token_revoked"));
}

pub async fn creates_lists_gets_updates_and_revokes_a_token(store: Store) {
    let fixture = fixture(store);
    let new = NewToken::new("CI/CD Token")
        .with_description("For automated deployments")
        .with_scopes(["projects:write", "deployments:create"])
        .with_expiry("30d".parse().unwrap());
    let issued = fixture.tokens.create(new).await.unwrap();
    let id = issued.record().id();
    assert_eq!(issued.record().expires_at(), Some(start() + 30 * DAY));
    assert_eq!(fixture.names(TokenFilter::new()).await, ["CI/CD Token"]);

    let found = fixture.tokens.get(id).await.unwrap();
    assert_eq!(found.description(), Some("For automated deployments"));
    assert_eq!(found.created_at(), Some(start()));
    assert_eq!(found.created_by(), Some("operator:operator"));

    let update = TokenUpdate::new()
        .with_name("Updated Name")
        .with_description("Updated description");
    let updated = fixture.tokens.update(id, update).await.unwrap().record;
    assert_eq!(updated.name(), "Updated Name");
    assert_eq!(updated.description(), Some("Updated description"));
    assert_eq!(updated.scopes(), found.scopes());
    assert_eq!(
        fixture
            .present(issued.expose_secret())
            .await
            .unwrap()
            .name(),
        "Updated Name"
    );

    fixture.tokens.revoke(id).await.unwrap();
    assert_eq!(
        fixture.status(issued.expose_secret()).await,
        rejected("token_revoked")
    );
    assert_eq!(
        fixture.tokens.get(id).await.unwrap().status(start()),
        TokenStatus::Revoked
    );
}

pub async fn reports_unknown_tokens_as_not_found(store: Store) {
    let fixture = fixture(store);
    let id = TokenId::from_i64(7).unwrap();
    for error in [
        fixture.tokens.get(id).await.unwrap_err(),
        fixture
            .tokens
            .update(id, TokenUpdate::new())
            .await
            .unwrap_err(),
        fixture.tokens.rotate(id, HOUR).await.unwrap_err(),
        fixture.tokens.revoke(id).await.unwrap_err(),
    ] {
        assert!(matches!(error, LifecycleError::NotFound), "{error}");
    }
}

pub async fn accepts_imported_token_and_rotates_it_to_own_format(store: Store) {
    let fixture = fixture(store);
    let digest = TokenDigest::of("hunter2-minted-elsewhere");
    let record = fixture
        .tokens
        .import(NewToken::new("legacy"), digest)
        .await
        .unwrap();
    assert_eq!(fixture.status("hunter2-minted-elsewhere").await, ACCEPTED);
    assert_eq!(record.hint(), None);
    let error = fixture
        .tokens
        .import(NewToken::new("duplicate"), digest)
        .await
        .unwrap_err();
    assert!(matches!(error, LifecycleError::DigestTaken));
    let rotated = fixture.tokens.rotate(record.id(), HOUR).await.unwrap();
    assert!(
        fixture
            .present("hunter2-minted-elsewhere")
            .await
            .unwrap()
            .uses_previous_secret()
    );
    assert_eq!(fixture.status(rotated.expose_secret()).await, ACCEPTED);
    // The digest of the previous secret is still in use.
    let error = fixture
        .tokens
        .import(NewToken::new("duplicate"), digest)
        .await
        .unwrap_err();
    assert!(matches!(error, LifecycleError::DigestTaken));
}
