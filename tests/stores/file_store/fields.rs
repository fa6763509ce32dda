//! The fields of a token in a file.

use std::convert::Infallible;

use futures::executor::block_on;
use http::{Request, Response};
use test_support::counting_allocator::Counts;
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::digest::TokenDigest;
use tower_service_token::store::{DenialKind, TokenRecord, TokenState};
use tower_service_token::{Principal, ServiceTokenLayer, TokenStore};

use super::*;

const TOKEN: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";

fn assert_has_every_field(record: &TokenRecord) {
    assert_eq!(record.name(), "ci");
    assert_eq!(*record.digest(), TokenDigest::of(TOKEN));
    assert_eq!(record.id().to_string(), "7Hq2mX9bTe");
    let roles: Vec<_> = record.roles().iter().collect();
    assert_eq!(roles, ["deployer", "release manager"]);
    let scopes: Vec<_> = record.scopes().iter().collect();
    assert_eq!(scopes, ["projects:write", "audit:**"]);
    assert_eq!(record.subject(), Some("team-a"));
    assert_eq!(record.owner(), Some("user:1"));
    assert_eq!(record.description(), Some("nightly build,\nand releases"));
    let labels: Vec<_> = record.labels().collect();
    assert_eq!(labels, [("stage", "prod"), ("workspace", "w1")]);
    assert_eq!(record.expires_at(), Some(at(JANUARY_31 + DAY)));
    assert_eq!(record.not_before(), Some(at(JANUARY_31 - 30 * DAY)));
    assert_eq!(record.state(), TokenState::Disabled);
}

#[test]
fn lists_loaded_records() {
    let folder = Folder::new();
    let path = folder.write("tokens.toml", &toml_with_token("a", ""));
    let store = open_without_polling(&path);
    let digests = || -> Vec<_> { store.records().iter().map(|it| *it.digest()).collect() };
    assert_eq!(digests(), [TokenDigest::of("a")]);
    write(&path, &toml_with_token("b", ""));
    store.reload().unwrap();
    assert_eq!(digests(), [TokenDigest::of("b")]);
}

#[test]
fn parses_every_field_from_toml() {
    let store = store_from_toml(&toml_with_token(
        TOKEN,
        r#"
        name = "ci"
        id = "7Hq2mX9bTe"
        roles = ["deployer", "release manager"]
        scopes = ["projects:write", "audit:**"]
        subject = "team-a"
        owner = "user:1"
        description = "nightly build,\nand releases"
        labels = { workspace = "w1", stage = "prod" }
        expires_at = "2027-01-31"
        not_before = "2027-01-01T00:00:00Z"
        state = "disabled"
        "#,
    ));
    assert_has_every_field(&find(&store, TOKEN).unwrap());
}

#[test]
fn parses_every_field_from_json() {
    let text = serde_json::json!({"tokens": [{
        "name": "ci",
        "digest": TokenDigest::of(TOKEN).to_string(),
        "id": "7Hq2mX9bTe",
        "roles": ["deployer", "release manager"],
        "scopes": ["projects:write", "audit:**"],
        "subject": "team-a",
        "owner": "user:1",
        "description": "nightly build,\nand releases",
        "labels": {"workspace": "w1", "stage": "prod"},
        "expires_at": "2027-01-31",
        "not_before": "2027-01-01T00:00:00Z",
        "state": "disabled",
    }]});
    let folder = Folder::new();
    let store = open_without_polling(&folder.write("tokens.json", &text.to_string()));
    assert_has_every_field(&find(&store, TOKEN).unwrap());
}

#[test]
fn entry_with_only_digest_has_no_limits_and_no_permissions() {
    let record = find(&store_from_toml(&toml_with_token(TOKEN, "")), TOKEN).unwrap();
    assert_eq!(record.state(), TokenState::Active);
    assert_eq!((record.name(), record.subject()), ("", None));
    assert!(record.roles().is_empty() && record.scopes().is_empty());
    assert_eq!((record.expires_at(), record.not_before()), (None, None));
    assert_eq!(record.description(), None);
    assert_eq!(record.labels().count(), 0);
}

#[test]
fn derived_id_is_stable_and_reveals_no_digest_bytes() {
    let id = || {
        find(&store_from_toml(&toml_with_token(TOKEN, "")), TOKEN)
            .unwrap()
            .id()
    };
    assert_eq!(id(), id());
    let other = find(&store_from_toml(&toml_with_token("other", "")), "other").unwrap();
    assert_ne!(other.id(), id());

    // The documented computation of a derived id.
    let digest = TokenDigest::of(TOKEN);
    let digest_of_digest = TokenDigest::of(&digest.to_string());
    let number = |digest: TokenDigest| {
        let bytes = digest.as_bytes()[..8].try_into().unwrap();
        i64::try_from(u64::from_be_bytes(bytes) % 62_u64.pow(10)).unwrap()
    };
    assert_eq!(id().as_i64(), number(digest_of_digest));
    assert_ne!(id().as_i64(), number(digest));
}

#[test]
fn accepts_uppercase_digest() {
    let text = toml_with_token(TOKEN, "").replace("sha256:", "");
    let text = text
        .to_uppercase()
        .replace("[[TOKENS]]\nDIGEST", "[[tokens]]\ndigest");
    let store = store_from_toml(&text.replace("= \"", "= \"sha256:"));
    assert!(find(&store, TOKEN).is_some());
}

#[test]
fn rejects_tokens_missing_from_file() {
    let store = store_from_toml(&toml_with_token(TOKEN, ""));
    assert_eq!(
        verdict_for(&store, "other", at(0)),
        Err(DenialKind::Unknown)
    );
    let empty_store = store_from_toml("tokens = []\n");
    assert_eq!(empty_store.status().tokens(), 0);
    assert_eq!(
        verdict_for(&empty_store, TOKEN, at(0)),
        Err(DenialKind::Unknown)
    );
}

#[test]
fn finds_each_of_many_tokens_by_digest() {
    let tokens: Vec<_> = (0..2_000).map(|number| format!("token-{number}")).collect();
    let entries = tokens
        .iter()
        .map(|token| toml_with_token(token, &format!("name = \"{token}\"")));
    let store = store_from_toml(&entries.collect::<String>());
    assert_eq!(store.status().tokens(), tokens.len());
    for token in &tokens {
        assert_eq!(find(&store, token).unwrap().name(), token);
        assert!(find(&store, &format!("{token}x")).is_none());
    }
}

#[test]
fn find_returns_the_same_as_find_cached() {
    let store = store_from_toml(&toml_with_token(TOKEN, "name = \"ci\""));
    for (token, expected) in [(TOKEN, Some("ci")), ("other", None)] {
        let credential = Credential::new(PresentedToken::new(token).unwrap());
        let record = block_on(store.find(&credential)).unwrap();
        assert_eq!(record.as_ref().map(TokenRecord::name), expected);
    }
}

#[test]
fn find_cached_does_not_allocate() {
    let store = store_from_toml(&toml_with_token(TOKEN, "name = \"ci\""));
    let credential = Credential::new(PresentedToken::new(TOKEN).unwrap());
    let unknown = Credential::new(PresentedToken::new("other").unwrap());
    // The first lookup of a thread allocates, because it registers a reader.
    assert!(matches!(store.find_cached(&credential), Cached::Found(_)));
    let before = Counts::of_this_thread().allocations;
    for _ in 0..100 {
        assert!(matches!(store.find_cached(&credential), Cached::Found(_)));
        assert!(matches!(store.find_cached(&unknown), Cached::NotFound));
    }
    assert_eq!(Counts::of_this_thread().allocations, before);
}

#[test]
fn expiry_date_is_valid_through_end_of_day() {
    let end = JANUARY_31 + DAY;
    for text in [
        "expires_at = \"2027-01-31\"",
        "expires_at = 2027-01-31",
        "expires_at = \"2027-02-01T00:00:00Z\"",
        "expires_at = 2027-02-01T02:00:00+02:00",
        "expires_at = 2027-02-01 00:00:00Z",
        "expires_at = \"2027-01-31T19:00:00.000-05:00\"",
    ] {
        let store = store_from_toml(&toml_with_token(TOKEN, text));
        let last = at(end) - Duration::from_millis(1);
        assert_eq!(verdict_for(&store, TOKEN, last), Ok(()), "{text}");
        let outcome = verdict_for(&store, TOKEN, at(end));
        assert_eq!(outcome, Err(DenialKind::Expired), "{text}");
    }
}

#[test]
fn not_before_date_starts_at_beginning_of_day() {
    for text in [
        "not_before = \"2027-01-31\"",
        "not_before = 2027-01-31",
        "not_before = 2027-01-31T00:00:00Z",
    ] {
        let store = store_from_toml(&toml_with_token(TOKEN, text));
        let before = at(JANUARY_31) - Duration::from_millis(1);
        let outcome = verdict_for(&store, TOKEN, before);
        assert_eq!(outcome, Err(DenialKind::NotYetValid), "{text}");
        assert_eq!(verdict_for(&store, TOKEN, at(JANUARY_31)), Ok(()), "{text}");
    }
}

#[test]
fn rejects_disabled_and_revoked_tokens_in_file() {
    for (state, expected) in [
        ("active", Ok(())),
        ("disabled", Err(DenialKind::Disabled)),
        ("revoked", Err(DenialKind::Revoked)),
    ] {
        let store = store_from_toml(&toml_with_token(TOKEN, &format!("state = \"{state}\"")));
        assert_eq!(verdict_for(&store, TOKEN, at(0)), expected, "{state}");
    }
}

#[tokio::test]
async fn layer_accepts_only_tokens_in_file() {
    let fields = "name = \"ci\"\nexpires_at = \"2027-01-31\"";
    let store = store_from_toml(&toml_with_token(TOKEN, fields));
    let inner = service_fn(async |request: Request<()>| {
        let name = request.extensions().get::<Principal>().unwrap().name();
        Ok::<_, Infallible>(Response::new(name.to_owned()))
    });
    for (token, now, expected) in [
        (TOKEN, JANUARY_31, 200),
        (TOKEN, JANUARY_31 + DAY, 401),
        ("other", JANUARY_31, 401),
    ] {
        let layer = ServiceTokenLayer::new(store.clone()).with_clock(ManualClock::new(at(now)));
        let request = Request::get("/")
            .header("x-api-key", token)
            .body(())
            .unwrap();
        let response = layer.layer(inner).oneshot(request).await.unwrap();
        assert_eq!(response.status(), expected, "{token} at {now}");
        if expected == 200 {
            assert_eq!(response.body(), "ci");
        }
    }
}
