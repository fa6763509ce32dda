//! Requests to the server, and tokens that are rejected without a call.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::Value;
use tower_service_token::introspection::{
    ClientAuth, IntrospectionBuilder, IntrospectionStore, PrivateKeyJwt,
};
use tower_service_token::token::TokenFormat;

use crate::protected_service::{
    Accepted, CLIENT_ID, CLIENT_SECRET, ENDPOINT, MILLISECOND, ProtectedService, Rejected, clock,
};
use crate::upstream::{MockResponse, Upstream};

/// Checks that these tokens are rejected without a call.
async fn assert_rejected_without_call<T: AsRef<str>>(
    tokens: impl IntoIterator<Item = T>,
    configure: impl Fn(IntrospectionBuilder) -> IntrospectionBuilder,
) {
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::with(&upstream, &clock(), configure);
    for token in tokens {
        let token = token.as_ref();
        assert!(service.find(token).await.unwrap().is_none(), "{token}");
        assert!(!service.find_cached(token).is_found(), "{token}");
    }
    assert_eq!(upstream.calls(), 0);
    assert_eq!(service.authenticate("abcd").await, Accepted);
    assert_eq!(upstream.calls(), 1);
}

trait IsFound {
    fn is_found(&self) -> bool;
}

impl IsFound for tower_service_token::store::Cached {
    fn is_found(&self) -> bool {
        matches!(self, Self::Found(_))
    }
}

fn default_settings(builder: IntrospectionBuilder) -> IntrospectionBuilder {
    builder
}

#[tokio::test(start_paused = true)]
async fn rejects_non_b64tokens_without_a_call() {
    let invalid_bytes = (0x21..=0x7e_u8)
        .map(char::from)
        .filter(|byte| !byte.is_ascii_alphanumeric() && !"-._~+/=".contains(*byte));
    let tokens = invalid_bytes.map(|byte| format!("a{byte}b"));
    assert_rejected_without_call(tokens, default_settings).await;
    assert_rejected_without_call(
        ["=", "==", "=a", "a=b", "a==b", "a=="].iter().take(5),
        default_settings,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn sends_b64tokens_unchanged() {
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::new(&upstream, &clock());
    for token in [
        "a",
        "a=",
        "a==",
        "-._~+/",
        "x+/x==",
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._~+/=",
        "eyJhbGciOiJub25lIn0.e30.",
    ] {
        assert_eq!(service.authenticate(token).await, Accepted, "{token}");
        assert_eq!(upstream.last_call().token(), token);
    }
    assert_eq!(upstream.calls(), 7);
}

#[tokio::test(start_paused = true)]
async fn allow_any_visible_ascii_sends_the_token_as_one_value() {
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::with(&upstream, &clock(), |builder| {
        builder.allow_any_visible_ascii()
    });
    let every_byte: String = (0x21..=0x7e_u8).map(char::from).collect();
    for token in ["a&client_id=x+/=", "a%26b", "a;b", "a=b", "\"", &every_byte] {
        assert_eq!(service.authenticate(token).await, Accepted, "{token}");
        let call = upstream.last_call();
        assert_eq!(call.form, [("token".to_owned(), token.to_owned())]);
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_overlong_tokens_without_a_call() {
    assert_rejected_without_call(["a".repeat(4097), "a".repeat(1 << 20)], default_settings).await;
    assert_rejected_without_call(["aaaaaaaaa"], |builder| builder.with_max_token_length(8)).await;
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::new(&upstream, &clock());
    assert!(service.find(&"a".repeat(4096)).await.unwrap().is_some());
    let service = ProtectedService::with(&upstream, &clock(), |builder| {
        builder.with_max_token_length(8)
    });
    assert!(service.find("aaaaaaaa").await.unwrap().is_some());
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn rejects_bad_checksums_without_a_call() {
    let format = TokenFormat::new("acme_").unwrap();
    let token = format.mint().unwrap();
    let text = token.expose_secret();
    let (start, last) = text.split_at(text.len() - 1);
    let other = if last == "0" { "1" } else { "0" };
    let damaged = format!("{start}{other}");
    let configure = |builder: IntrospectionBuilder| builder.with_token_format(format.clone());
    assert_rejected_without_call([damaged.clone()], configure).await;
    // Intact tokens need a call, and so does every token if no format is set.
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::with(&upstream, &clock(), configure);
    assert!(service.find(text).await.unwrap().is_some());
    let service = ProtectedService::new(&upstream, &clock());
    assert!(service.find(&damaged).await.unwrap().is_some());
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn rejects_filtered_tokens_without_a_call() {
    let configure = |builder: IntrospectionBuilder| {
        builder.with_token_filter(|token| token.expose_secret().len() == 4)
    };
    assert_rejected_without_call(["x", "looong", "eyJhbGciOiJub25lIn0.e30."], configure).await;
}

#[tokio::test(start_paused = true)]
async fn request_form_contains_only_the_token() {
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::new(&upstream, &clock());
    assert_eq!(service.authenticate("x+/=").await, Accepted);
    let call = upstream.last_call();
    assert_eq!(call.uri, ENDPOINT);
    assert_eq!(call.headers[ACCEPT], "application/json");
    let form = "application/x-www-form-urlencoded";
    assert_eq!(call.headers[CONTENT_TYPE], form);
    assert_eq!(call.form, [("token".to_owned(), "x+/=".to_owned())]);
    let basic = STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}"));
    assert_eq!(call.headers[AUTHORIZATION], format!("Basic {basic}"));
    assert!(call.headers[AUTHORIZATION].is_sensitive());
}

#[tokio::test(start_paused = true)]
async fn sends_the_token_type_hint_only_if_configured() {
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::with(&upstream, &clock(), |builder| {
        builder.with_token_type_hint("access_token")
    });
    assert_eq!(service.authenticate("token").await, Accepted);
    let call = upstream.last_call();
    assert_eq!(call.field("token_type_hint"), Some("access_token"));
    assert_eq!(call.token(), "token");
}

/// Generates a key in PEM.
fn es256_key() -> String {
    let random = ring::rand::SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let body = STANDARD.encode(key.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}

#[tokio::test(start_paused = true)]
async fn every_attempt_signs_a_new_jti() {
    const AUDIENCE: &str = "https://auth.example";
    let assertions = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let upstream = Upstream::new({
        let assertions = assertions.clone();
        move |call| {
            let assertion = call.field("client_assertion").unwrap();
            assertions.lock().unwrap().push(assertion.to_owned());
            match call.number % 3 {
                0 => MockResponse::status(503),
                1 => MockResponse::inactive(),
                _ => MockResponse::active(),
            }
        }
    });
    let key = PrivateKeyJwt::es256(CLIENT_ID, &es256_key()).unwrap();
    let auth = ClientAuth::private_key_jwt(key.with_audience(AUDIENCE));
    let clock = clock();
    let store = IntrospectionStore::builder(auth)
        .with_transport(upstream.clone())
        .with_clock(clock.clone())
        .build(ENDPOINT)
        .unwrap();
    let service = ProtectedService::with_store(store, clock.clone());
    for number in 0..4 {
        let expected = if number % 2 == 0 { Rejected } else { Accepted };
        assert_eq!(
            service.authenticate(&format!("token-{number}")).await,
            expected
        );
        clock.advance(MILLISECOND);
    }
    assert_eq!(upstream.calls(), 6);
    let call = upstream.last_call();
    assert!(!call.headers.contains_key(AUTHORIZATION));
    let jwt_bearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    assert_eq!(call.field("client_assertion_type"), Some(jwt_bearer));

    let assertions = assertions.lock().unwrap();
    let mut ids = HashSet::new();
    for assertion in assertions.iter() {
        let claims = assertion.split('.').nth(1).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["iss"], CLIENT_ID);
        assert_eq!(claims["sub"], CLIENT_ID);
        assert_eq!(claims["aud"], AUDIENCE);
        let jti = claims["jti"].as_str().unwrap();
        assert!(jti.len() >= 16, "{jti}");
        ids.insert(jti.to_owned());
    }
    assert_eq!(ids.len(), 6, "{ids:?}");
}
