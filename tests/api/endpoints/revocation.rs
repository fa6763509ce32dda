//! Revocation by the holder of the token (RFC 7009).

use std::sync::Arc;

use axum::body::Body;
use http::Request;
use tower_service_token::api::oauth::OAuthEndpoints;
use tower_service_token::audit::AuditAction;
use tower_service_token::clock::ManualClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{IssuedToken, NewToken, TokenUpdate};
use tower_service_token::store::{CachedStore, TokenState};
use tower_service_token::testing::{Fault, FaultyStore};
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

use crate::endpoints::server::{
    DAMAGED, FORM, HOUR, INACTIVE, INVALID_REQUEST, SECOND, Server, UNKNOWN, insert, start,
};

const EFFECTIVE_WITHIN: &str = "service-token-effective-within";

async fn state(server: &Server, token: &IssuedToken) -> TokenState {
    server
        .tokens
        .get(token.record().id())
        .await
        .unwrap()
        .state()
}

#[tokio::test]
async fn revocation_by_the_holder_is_audited_with_the_holder_as_actor() {
    let (server, _) = Server::with_faulty_store().await;
    let token = server.create(NewToken::new("ci")).await;
    let response = server.revoke(token.expose_secret()).await;
    assert_eq!((response.status.as_u16(), &*response.body), (200, ""));
    assert_eq!(response.header(EFFECTIVE_WITHIN), "0");
    assert_eq!(response.header("cache-control"), "no-store");
    assert_eq!(response.header("pragma"), "no-cache");
    assert_eq!(
        server.introspect(token.expose_secret()).await.body,
        INACTIVE
    );
    assert_eq!(state(&server, &token).await, TokenState::Revoked);

    let id = token.record().id();
    let revoked = server.events.of(AuditAction::Revoked);
    assert_eq!(revoked.len(), 1);
    assert_eq!(revoked[0].token_id(), id);
    assert_eq!(revoked[0].actor(), format!("token:{id}"));
}

#[tokio::test]
async fn effective_within_is_rounded_up() {
    let store = FaultyStore::new(MemoryStore::new());
    let cached = CachedStore::new(store).with_ttl(SECOND * 5 / 2);
    let server = Server::with_store(cached.clone()).await;
    let token = server.create(NewToken::new("ci")).await;
    let response = server.revoke(token.expose_secret()).await;
    assert_eq!(response.header(EFFECTIVE_WITHIN), "3");
    let repeated = server.revoke(token.expose_secret()).await;
    assert_eq!(
        (repeated.status.as_u16(), repeated.header(EFFECTIVE_WITHIN)),
        (200, "3")
    );
    assert_eq!(server.events.of(AuditAction::Revoked).len(), 1);
}

/// White space that people copy along with a token.
const WHITE_SPACE: [(&str, &str); 8] = [
    ("", "\n"),
    ("", "\r\n"),
    ("", " "),
    ("", "\t"),
    (" ", ""),
    ("\t", ""),
    ("\n", "\n\n"),
    ("\r\n \t\x0c", "\x0c\t \r\n"),
];

#[tokio::test]
async fn white_space_around_a_token_is_trimmed() {
    for server in [
        Server::in_memory().await,
        Server::with_faulty_store().await.0,
    ] {
        for (before, after) in WHITE_SPACE {
            let token = server.create(NewToken::new("ci")).await;
            let text = format!("{before}{}{after}", token.expose_secret());
            let active = server.introspect(&text).await.json();
            assert_eq!(active["active"], true, "{text:?}");
            assert_eq!(active["jti"], token.record().id().to_string());
            let response = server.revoke(&text).await;
            assert_eq!(response.status, 200, "{text:?}");
            assert_eq!(response.header(EFFECTIVE_WITHIN), "0", "{text:?}");
            assert_eq!(
                state(&server, &token).await,
                TokenState::Revoked,
                "{text:?}"
            );
            assert_eq!(server.introspect(&text).await.body, INACTIVE);
        }
    }
}

#[tokio::test]
async fn text_that_cannot_be_a_token_is_400() {
    for server in [
        Server::in_memory().await,
        Server::with_faulty_store().await.0,
    ] {
        let token = server.create(NewToken::new("ci")).await;
        let secret = token.expose_secret();
        let texts = [
            format!("Bearer {secret}"),
            format!("ApiKey {secret}"),
            format!("\"{secret}\""),
            format!("\"{secret}\"\n"),
            format!("'{secret}'"),
            format!("<{secret}>"),
            format!("{secret},"),
            format!("{secret};"),
            format!("Bearer:{secret}"),
            format!("token={secret}"),
            format!("\u{feff}{secret}"),
            format!("{secret}\u{a0}"),
            format!("{secret}\0"),
            format!("{secret} {secret}"),
            format!("{secret}\n{secret}"),
            format!("{secret}x"),
            format!("x+{secret}"),
            format!("-{secret}"),
            format!("Bearer{secret}"),
            secret.to_ascii_uppercase(),
            secret.replacen("svctok", "Svctok", 1),
            secret[1..].to_owned(),
            secret["svctok-".len()..].to_owned(),
            secret[..secret.len() - 1].to_owned(),
            secret[1..].replace('-', "@"),
            DAMAGED.to_owned(),
            "svctok-".to_owned(),
            " ".to_owned(),
            "\n".to_owned(),
            "a b".to_owned(),
            "t\u{f6}ken".to_owned(),
            "x".repeat(513),
        ];
        for text in texts {
            let response = server.revoke(&text).await;
            assert_eq!(response.status, 400, "{text:?}");
            assert_eq!(response.body, INVALID_REQUEST, "{text:?}");
            assert_eq!(response.header(EFFECTIVE_WITHIN), "", "{text:?}");
            assert_eq!(response.header("cache-control"), "no-store");
            let response = server.introspect(&text).await;
            assert_eq!(response.status, 200, "{text:?}");
            assert_eq!(response.body, INACTIVE, "{text:?}");
        }
        assert_eq!(state(&server, &token).await, TokenState::Active);
        assert!(server.events.of(AuditAction::Revoked).is_empty());
    }
}

/// A token of another system may contain any visible character and may start with this crate's
/// prefix.
#[tokio::test]
async fn imported_tokens_with_unusual_characters_are_revocable() {
    for text in ["p@ss\"w,rd!", "'quoted'", "svctok-aaaaa-bbbb-ccccc-ddddd"] {
        let server = Server::in_memory().await;
        let digest = TokenDigest::of(text);
        let record = server
            .tokens
            .import(NewToken::new("old"), digest)
            .await
            .unwrap();
        for _ in 0..2 {
            let response = server.revoke(&format!("{text}\n")).await;
            assert_eq!(
                (response.status.as_u16(), response.header(EFFECTIVE_WITHIN)),
                (200, "0")
            );
        }
        let record = server.tokens.get(record.id()).await.unwrap();
        assert_eq!(record.state(), TokenState::Revoked, "{text}");
    }
}

#[tokio::test]
async fn unknown_tokens_are_200() {
    for server in [
        Server::in_memory().await,
        Server::with_faulty_store().await.0,
    ] {
        for token in [
            UNKNOWN,
            "abc",
            "some-other-token",
            "eyJhbGciOi.e30.x-_",
            "YQ==",
        ] {
            let response = server.revoke(token).await;
            assert_eq!(
                (response.status.as_u16(), &*response.body),
                (200, ""),
                "{token}"
            );
            assert_eq!(response.header(EFFECTIVE_WITHIN), "", "{token}");
        }
        assert!(server.events.of(AuditAction::Revoked).is_empty());
    }
}

#[tokio::test]
async fn previous_secrets_revoke_during_the_grace_period() {
    for (wait, revoked) in [(SECOND * 3599, true), (HOUR, false)] {
        for expiry in ["never", "30m"] {
            let server = Server::in_memory().await;
            let first = server.create(NewToken::new("ci")).await;
            let id = first.record().id();
            let second = server.tokens.rotate(id, HOUR).await.unwrap();
            if expiry != "never" {
                let update = TokenUpdate::new().with_expiry(expiry.parse().unwrap());
                server.change(&first, update).await;
            }
            server.clock.advance(wait);
            assert_eq!(server.revoke(first.expose_secret()).await.status, 200);
            let is_revoked = state(&server, &second).await == TokenState::Revoked;
            assert_eq!(is_revoked, revoked, "{wait:?} {expiry}");
        }
    }
}

#[tokio::test]
async fn revokes_disabled_and_expired_tokens() {
    let server = Server::in_memory().await;
    let disabled = server.create(NewToken::new("disabled")).await;
    server.tokens.disable(disabled.record().id()).await.unwrap();
    let early = NewToken::new("early").with_not_before(start() + 24 * HOUR);
    let early = server.create(early).await;
    let expired = NewToken::new("expired").with_expiry("1h".parse().unwrap());
    let expired = server.create(expired).await;
    server.clock.advance(2 * HOUR);
    for token in [disabled, early, expired] {
        let response = server.revoke(token.expose_secret()).await;
        assert_eq!(
            (response.status.as_u16(), response.header(EFFECTIVE_WITHIN)),
            (200, "0")
        );
        assert_eq!(state(&server, &token).await, TokenState::Revoked);
    }
}

#[tokio::test]
async fn uncommitted_revocations_are_503() {
    let (server, store) = Server::with_faulty_store().await;
    let token = server.create(NewToken::new("ci")).await;
    for fault in [Fault::Error, Fault::LostResponse] {
        store.inject(fault);
        let response = server.revoke(token.expose_secret()).await;
        response.assert_problem(503, "change_failed");
        assert_eq!(response.header("retry-after"), "1");
        assert_eq!(response.header(EFFECTIVE_WITHIN), "");
    }
    store.clear_fault();
    assert_eq!(state(&server, &token).await, TokenState::Active);
}

#[tokio::test]
async fn failures_after_the_lookup_are_503() {
    // The layer looks the token up in one store; the registry that revokes it fails.
    let (server, registry) = Server::with_faulty_store().await;
    let token = server.create(NewToken::new("ci")).await;
    let lookups = MemoryStore::new();
    lookups.insert(token.record().clone()).unwrap();
    let endpoints = OAuthEndpoints::new(server.tokens.clone(), ServiceTokenLayer::new(lookups));
    let app = endpoints.into_router();
    let server = Server { app, ..server };
    registry.inject(Fault::Error);
    let response = server.revoke(token.expose_secret()).await;
    response.assert_problem(503, "change_failed");
    registry.clear_fault();
    assert_eq!(
        server
            .revoke(token.expose_secret())
            .await
            .header(EFFECTIVE_WITHIN),
        "0"
    );
}

#[tokio::test]
async fn tokens_of_other_stores_are_unsupported() {
    let other_store = MemoryStore::new();
    let token = insert(&other_store, |record| record);
    let tokens = ServiceTokens::new(MemoryStore::new());
    let layer = ServiceTokenLayer::new(other_store.clone());
    let app = OAuthEndpoints::new(tokens, layer).into_router();
    let server = Server {
        app,
        ..Server::in_memory().await
    };
    let response = server.revoke(&token).await;
    assert_eq!(response.status, 400);
    assert_eq!(response.body, r#"{"error":"unsupported_token_type"}"#);
    assert_eq!(response.header("cache-control"), "no-store");
    let id = token["svctok-".len()..][..10].parse().unwrap();
    other_store.revoke(id).unwrap();
    assert_eq!(server.revoke(&token).await.status, 200);
}

#[tokio::test]
async fn rejects_malformed_revocation_forms() {
    let server = Server::in_memory().await;
    let token = server.caller.expose_secret();
    for (content_type, body, status) in [
        (FORM, String::new(), 400),
        (FORM, "token=".to_owned(), 400),
        (FORM, format!("token={token}&token={token}"), 400),
        ("application/json", format!("token={token}"), 400),
        (FORM, format!("token={}", "x".repeat(64 * 1024)), 413),
    ] {
        let request = Request::post("/revoke").header("content-type", content_type);
        let response = server.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(response.status, status);
        assert_eq!(response.body, INVALID_REQUEST);
    }
    assert_eq!(state(&server, &server.caller).await, TokenState::Active);
}

#[tokio::test]
async fn ignores_tokens_in_headers() {
    let server = Server::in_memory().await;
    let token = server.create(NewToken::new("ci")).await;
    let request = Request::post("/revoke")
        .header("content-type", FORM)
        .header("x-api-key", server.caller.expose_secret());
    let body = format!(
        "token={}&token_type_hint=refresh_token",
        token.expose_secret()
    );
    let response = server.send(request.body(Body::from(body)).unwrap()).await;
    assert_eq!(response.status, 200);
    assert_eq!(state(&server, &token).await, TokenState::Revoked);
    assert_eq!(state(&server, &server.caller).await, TokenState::Active);
}

/// The layer's store still holds the old secret as the current one, like a stale cache.
#[tokio::test]
async fn secrets_valid_only_in_a_cache_revoke_nothing() {
    let store = FaultyStore::new(MemoryStore::new());
    let clock = ManualClock::new(start());
    let tokens = ServiceTokens::new(store.clone()).with_clock(clock.clone());
    let first = tokens.create(NewToken::new("ci")).await.unwrap();
    let stale = MemoryStore::new();
    stale.insert(first.record().clone()).unwrap();
    let layer = ServiceTokenLayer::new(stale).with_clock(clock);
    let second = tokens
        .rotate(first.record().id(), std::time::Duration::ZERO)
        .await
        .unwrap();
    let app = OAuthEndpoints::new(tokens.clone(), layer).into_router();
    let server = Server {
        app,
        tokens,
        caller: Arc::new(first),
        ..Server::in_memory().await
    };
    let response = server.revoke(server.caller.expose_secret()).await;
    assert_eq!(
        (response.status.as_u16(), response.header(EFFECTIVE_WITHIN)),
        (200, "")
    );
    assert_eq!(state(&server, &second).await, TokenState::Active);
}
