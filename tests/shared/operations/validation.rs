//! Field rules and policies.

use std::time::Duration;

use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{Expiry, LifecycleError, NewToken, TokenPolicy, TokenUpdate};
use tower_service_token::registry::TokenFilter;

use super::fixture::{DAY, HOUR, Store, fixture, fixture_with, pointers, start};

pub async fn reports_every_invalid_field_and_creates_nothing(store: Store) {
    let fixture = fixture(store);
    let long = "x".repeat(201);
    for (new, pointer) in [
        (NewToken::new(""), "/name"),
        (NewToken::new(" ci"), "/name"),
        (NewToken::new("c\ni"), "/name"),
        (NewToken::new(long.as_str()), "/name"),
        (
            NewToken::new("ci").with_description("x".repeat(2001)),
            "/description",
        ),
        (NewToken::new("ci").with_subject(""), "/subject"),
        (NewToken::new("ci").with_roles(["ok", ""]), "/roles/1"),
        (NewToken::new("ci").with_roles(["a\nadmin"]), "/roles/0"),
        (NewToken::new("ci").with_roles(vec!["r"; 101]), "/roles"),
        (NewToken::new("ci").with_scopes(["two words"]), "/scopes/0"),
        (NewToken::new("ci").with_label("", "v"), "/labels/"),
        (NewToken::new("ci").with_label("a/b", "v\0"), "/labels/a~1b"),
        (
            NewToken::new("ci").with_expiry(Expiry::at(start())),
            "/expires_at",
        ),
        (
            NewToken::new("ci").with_expiry(Expiry::after(Duration::ZERO)),
            "/expires_at",
        ),
        (
            NewToken::new("ci")
                .with_expiry("1h".parse().unwrap())
                .with_not_before(start() + HOUR),
            "/not_before",
        ),
    ] {
        let error = fixture.tokens.create(new.clone()).await.unwrap_err();
        assert!(!error.to_string().contains(&long), "{error}");
        assert_eq!(pointers(error), [pointer], "{new:?}");
    }
    let all_at_once = NewToken::new("").with_roles([""]).with_scopes([""]);
    let error = fixture.tokens.create(all_at_once).await.unwrap_err();
    assert_eq!(pointers(error), ["/name", "/roles/0", "/scopes/0"]);
    assert_eq!(fixture.names(TokenFilter::new()).await, [""; 0]);
    assert_eq!(fixture.sink.actions(), []);

    let id = fixture.create("ci").await.record().id();
    let update = TokenUpdate::new().with_name("").with_roles(["\0"]);
    let error = fixture.tokens.update(id, update).await.unwrap_err();
    assert_eq!(pointers(error), ["/name", "/roles/0"]);
    let update = TokenUpdate::new().with_expiry(Expiry::at(start() - HOUR));
    let error = fixture.tokens.update(id, update).await.unwrap_err();
    assert_eq!(pointers(error), ["/expires_at"]);
}

pub async fn policy_lifetimes_apply_to_every_operation(store: Store) {
    let policy = TokenPolicy::new()
        .with_default_lifetime(10 * DAY)
        .with_max_lifetime(30 * DAY);
    let fixture = fixture_with(store, policy);
    let issued = fixture.create("ci").await;
    let id = issued.record().id();
    assert_eq!(issued.record().expires_at(), Some(start() + 10 * DAY));
    for expiry in [Expiry::NEVER, "31d".parse().unwrap()] {
        let new = NewToken::new("ci").with_expiry(expiry.clone());
        let error = fixture.tokens.create(new.clone()).await.unwrap_err();
        assert_eq!(pointers(error), ["/expires_at"]);
        let error = fixture
            .tokens
            .import(new, TokenDigest::of("x"))
            .await
            .unwrap_err();
        assert_eq!(pointers(error), ["/expires_at"]);
        let update = TokenUpdate::new().with_expiry(expiry);
        let error = fixture.tokens.update(id, update).await.unwrap_err();
        assert_eq!(pointers(error), ["/expires_at"]);
    }
    // The maximum lifetime starts at the creation of the secret, so that repeated updates cannot
    // extend it.
    fixture.clock.advance(5 * DAY);
    let month = || TokenUpdate::new().with_expiry("30d".parse().unwrap());
    let error = fixture.tokens.update(id, month()).await.unwrap_err();
    assert_eq!(pointers(error), ["/expires_at"]);
    drop(fixture.tokens.rotate(id, HOUR).await.unwrap());
    fixture.tokens.update(id, month()).await.unwrap();

    let error = fixture
        .tokens
        .update(id, TokenUpdate::new().with_name(""))
        .await
        .unwrap_err();
    assert_eq!(pointers(error), ["/name"]);
}

pub async fn unique_names_and_max_tokens_apply_to_every_operation(store: Store) {
    let policy = TokenPolicy::new()
        .require_unique_names()
        .with_max_tokens(2)
        .with_name_rule(|name| (name != "root").then_some(()).ok_or("reserved".to_owned()));
    let fixture = fixture_with(store, policy);
    let first = fixture.create("first").await.record().id();
    let create = async |name: &str| fixture.tokens.create(NewToken::new(name)).await;
    assert!(matches!(
        create("first").await,
        Err(LifecycleError::NameTaken)
    ));
    assert_eq!(pointers(create("root").await.unwrap_err()), ["/name"]);
    let second = fixture.create("second").await.record().id();
    assert!(matches!(
        create("third").await,
        Err(LifecycleError::TooManyTokens)
    ));
    let rename = |name: &str| TokenUpdate::new().with_name(name);
    let taken = fixture.tokens.update(second, rename("first")).await;
    assert!(matches!(taken, Err(LifecycleError::NameTaken)));
    let error = fixture
        .tokens
        .update(second, rename("root"))
        .await
        .unwrap_err();
    assert_eq!(pointers(error), ["/name"]);
    fixture
        .tokens
        .update(second, rename("second"))
        .await
        .unwrap();
    // A revoked token does not count towards unique names or the maximum number of tokens.
    fixture.tokens.revoke(first).await.unwrap();
    fixture
        .tokens
        .update(second, rename("first"))
        .await
        .unwrap();
    drop(create("second").await.unwrap());
}
