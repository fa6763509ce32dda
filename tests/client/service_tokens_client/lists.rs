//! Pages and bulk revocations select the same tokens as the store does for the same filter.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::client::{ClientErrorKind, ServiceTokensClient};
use tower_service_token::clock::Clock;
use tower_service_token::lifecycle::{Expiry, NewToken, Page};
use tower_service_token::registry::TokenFilter;
use tower_service_token::store::TokenStatus;
use tower_service_token::{ServiceTokenLayer, ServiceTokens};

use super::faulty_server::FaultyServer;
use super::{HOUR, SECOND, TestServer, start};

/// Starts a server with tokens of many kinds, created one second apart.
async fn with_many_tokens() -> (TestServer, ServiceTokensClient) {
    let server = TestServer::new().await;
    let named = |name: &str| NewToken::new(name);
    for new in [
        named("plain"),
        named("a&b=c d+\u{e9}%"),
        named("deployer").with_roles(["deployer", "r\u{f4}le"]),
        named("reader").with_scopes(["projects:read"]),
        named("acting").with_subject("team-a"),
        named("labelled").with_label("env", "a=b&c"),
        named("short").with_expiry(Expiry::after(HOUR)),
        named("expired").with_expiry(Expiry::after(10 * SECOND)),
        named("disabled"),
        named("revoked"),
    ] {
        server.clock.advance(SECOND);
        let _ = server.tokens.create(new).await.unwrap();
    }
    for (name, is_revoked) in [("disabled", false), ("revoked", true)] {
        let id = server.find_by_name(name).await[0].id();
        if is_revoked {
            server.tokens.revoke(id).await.unwrap();
        } else {
            server.tokens.disable(id).await.unwrap();
        }
    }
    server.clock.advance(60 * SECOND);
    let client = server.client().await;
    (server, client)
}

fn filters() -> Vec<TokenFilter> {
    let all = TokenFilter::new;
    vec![
        all(),
        all().with_name("a&b=c d+\u{e9}%"),
        all().with_role("r\u{f4}le"),
        all().with_scope("projects:read"),
        all().with_subject("team-a"),
        all().with_label("env", "a=b&c"),
        all().with_status(TokenStatus::Active),
        all().with_status(TokenStatus::Disabled),
        all().with_status(TokenStatus::Revoked),
        all().with_status(TokenStatus::Expired),
        all().with_expires_before(start() + 2 * HOUR),
        all().with_last_used_before(start() + 5 * SECOND),
        all().with_name("plain").with_role("deployer"),
    ]
}

#[tokio::test]
async fn pages_match_those_of_the_store() {
    let (server, client) = with_many_tokens().await;
    for filter in filters() {
        let (mut page, mut received) = (Page::with_limit(3), 0);
        loop {
            let direct = server.tokens.list(filter.clone(), page).await.unwrap();
            let remote = client.list(filter.clone(), page).await.unwrap();
            let direct_tokens = direct.records.iter().map(|record| {
                let mut token = server.info_of(record);
                token.revision = None;
                token
            });
            assert_eq!(
                remote.tokens,
                direct_tokens.collect::<Vec<_>>(),
                "{filter:?}"
            );
            assert_eq!(remote.next, direct.next);
            received += remote.tokens.len();
            match remote.next {
                Some(next) => page = page.after(next),
                None => break,
            }
        }
        assert!(
            received > 0 || filter.name.as_deref() == Some("plain"),
            "{filter:?}"
        );
    }
}

#[tokio::test]
async fn rejects_invalid_pages() {
    let (_server, client) = with_many_tokens().await;
    for limit in [0, 1_001, usize::MAX] {
        let error = client
            .list(TokenFilter::new(), Page::with_limit(limit))
            .await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ClientErrorKind::Invalid, "{limit}");
        assert_eq!(error.problems()[0].pointer, "/limit");
    }
    let first = client
        .list(TokenFilter::new(), Page::with_limit(1))
        .await
        .unwrap();
    let other = TokenFilter::new().with_expires_before(start());
    let error = client
        .list(other, Page::with_limit(1).after(first.next))
        .await;
    assert_eq!(error.unwrap_err().problems()[0].pointer, "/cursor");
}

#[tokio::test]
async fn rejects_unsupported_filters() {
    let (server, client) = with_many_tokens().await;
    let similar = NewToken::new("similar").with_label("a", "b=c");
    let _ = server.tokens.create(similar).await.unwrap();
    let filter = TokenFilter::new().with_label("a=b", "c");
    let error = client.revoke_where(filter.clone(), None).await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::Invalid);
    assert_eq!(error.problems()[0].pointer, "/filter/label");
    assert!(client.preview_revocation(filter.clone()).await.is_err());
    assert!(client.list(filter, Page::default()).await.is_err());
    let status = server.find_by_name("similar").await[0].status(start());
    assert_eq!(status, TokenStatus::Active);
    let long = TokenFilter::new().with_name("x".repeat(100_000));
    let error = client.list(long, Page::default()).await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::Invalid);
}

#[tokio::test]
async fn bulk_revocation_returns_the_revoked_ids() {
    let (server, client) = with_many_tokens().await;
    for filter in filters().into_iter().filter(|filter| !filter.is_empty()) {
        let expected = server
            .tokens
            .preview_revocation(filter.clone())
            .await
            .unwrap();
        let preview = client.preview_revocation(filter.clone()).await.unwrap();
        assert_eq!(preview.count, expected.count, "{filter:?}");
        assert_eq!(preview.sample, expected.sample, "{filter:?}");
        assert_eq!(preview.forbidden, expected.forbidden, "{filter:?}");
        assert_eq!(preview.needs_expect, expected.needs_expect, "{filter:?}");
        let ends_administration = (preview.ends_administration, expected.ends_administration);
        assert_eq!(ends_administration.0, ends_administration.1, "{filter:?}");
    }
    let filter = TokenFilter::new().with_role("deployer");
    let expected = server
        .tokens
        .preview_revocation(filter.clone())
        .await
        .unwrap();
    let expected = expected.sample;
    let error = client.revoke_where(filter.clone(), 2).await.unwrap_err();
    assert_eq!(error.code(), Some("unexpected_count"));
    assert_eq!(error.to_string(), "filter matches 1 token, expected 2");
    let revoked = client.revoke_where(filter.clone(), 1).await.unwrap();
    assert_eq!(revoked.ids, expected);
    assert_eq!(server.token_info(expected[0]).state, TokenStatus::Revoked);
    let repeated = client.revoke_where(filter, None).await.unwrap();
    assert!(repeated.ids.is_empty());
    let error = client.revoke_where(TokenFilter::new(), None).await;
    assert_eq!(error.unwrap_err().code(), Some("unexpected_count"));
}

/// A clock that advances by 16 s with each read.
struct RacingClock(AtomicU32);

impl Clock for RacingClock {
    fn now(&self) -> SystemTime {
        start()
    }

    fn monotonic(&self) -> Duration {
        16 * SECOND * self.0.fetch_add(1, Ordering::Relaxed)
    }
}

#[tokio::test]
async fn bulk_revocation_repeats_with_the_remaining_number() {
    let server = TestServer::new().await;
    let tokens =
        ServiceTokens::new(server.store.clone()).with_clock(RacingClock(AtomicU32::new(0)));
    let layer = ServiceTokenLayer::new(server.store.clone()).with_clock(server.clock.clone());
    let api = ManagementApi::new(tokens, layer).into_router();
    let faulty_server = FaultyServer::start(Router::new().nest("/tokens", api), []).await;
    let client = server.builder(faulty_server.address).build().unwrap();
    for _ in 0..1_100 {
        let _ = server.tokens.create(NewToken::new("ci")).await.unwrap();
    }
    let filter = TokenFilter::new().with_name("ci");
    let mut expect = 1_100;
    for (revoked, remaining) in [(500, 600), (500, 100), (100, 0)] {
        let bulk = client.revoke_where(filter.clone(), expect).await.unwrap();
        assert_eq!((bulk.ids.len(), bulk.remaining), (revoked, remaining));
        expect = remaining;
    }
    assert_eq!(client.preview_revocation(filter).await.unwrap().count, 0);
    assert_eq!(faulty_server.lines().len(), 4);
}

#[tokio::test]
async fn bulk_revocation_skips_revoked_tokens() {
    let (_server, client) = with_many_tokens().await;
    let filter = TokenFilter::new().with_name("plain").without_revoked();
    let count = async |filter: &TokenFilter| {
        let page = client.list(filter.clone(), Page::default()).await;
        page.unwrap().tokens.len()
    };
    assert_eq!(count(&filter).await, 1);
    assert_eq!(
        client
            .preview_revocation(filter.clone())
            .await
            .unwrap()
            .count,
        1
    );
    let bulk = client.revoke_where(filter.clone(), 1).await.unwrap();
    assert_eq!(bulk.ids.len(), 1);
    assert_eq!(count(&filter).await, 0);
    assert_eq!(count(&TokenFilter::new().with_name("plain")).await, 1);
}

#[tokio::test]
async fn previews_report_whether_the_last_admin_is_removed() {
    let server = TestServer::new().await;
    let client = server.client().await;
    let filter = TokenFilter::new().with_name("admin");
    assert!(
        client
            .preview_revocation(filter.clone())
            .await
            .unwrap()
            .ends_administration
    );
    let error = client.revoke_where(filter.clone(), 1).await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::LastAdmin);
    let spare = NewToken::new("spare").with_scopes(["service-tokens:admin"]);
    let _ = server.tokens.create(spare).await.unwrap();
    assert!(
        !client
            .preview_revocation(filter)
            .await
            .unwrap()
            .ends_administration
    );
}

#[tokio::test]
async fn previews_count_forbidden_tokens() {
    let server = TestServer::new().await;
    let scopes = ["service-tokens:read", "service-tokens:write"];
    let writer = NewToken::new("writer").with_scopes(scopes);
    let writer = server.tokens.create(writer).await.unwrap();
    for roles in [vec![], vec!["root"]] {
        let new = NewToken::new("ci").with_roles(roles);
        let _ = server.tokens.create(new).await.unwrap();
    }
    let client = server.client_as(writer.expose_secret()).await;
    let filter = TokenFilter::new().with_name("ci");
    let preview = client.preview_revocation(filter.clone()).await.unwrap();
    assert_eq!((preview.count, preview.forbidden), (2, 1));
    let error = client.revoke_where(filter, 2).await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::EscalationDenied);
    let message = "the caller may not revoke 1 of 2 matching tokens";
    assert_eq!(error.to_string(), message);
    assert_eq!(error.forbidden(), Some(1));
    assert!(error.missing().is_empty());
}

/// A writer may not list tokens, so a dry run must not list them either.
#[tokio::test]
async fn previews_of_writers_hide_forbidden_tokens() {
    let server = TestServer::new().await;
    let writer = NewToken::new("writer").with_scopes(["service-tokens:write"]);
    let writer = server.tokens.create(writer).await.unwrap();
    let filter = TokenFilter::new().with_name("ci");
    let client = server.client_as(writer.expose_secret()).await;
    let mut covered = Vec::new();
    for roles in [vec![], vec!["root"], vec!["root"], vec![]] {
        let new = NewToken::new("ci").with_roles(roles.clone());
        let created = server.tokens.create(new).await.unwrap();
        if roles.is_empty() {
            covered.push(created.record().id());
        }
    }
    let admin = NewToken::new("ci").with_scopes(["service-tokens:admin"]);
    let _ = server.tokens.create(admin).await.unwrap();
    let preview = client.preview_revocation(filter.clone()).await.unwrap();
    assert_eq!((preview.count, preview.forbidden), (2, 1));
    preview
        .sample
        .iter()
        .for_each(|id| assert!(covered.contains(id), "{id}"));
    assert!(!preview.ends_administration);
    let error = client.revoke_where(filter, 5).await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::EscalationDenied);
    let message = "the caller may not revoke 1 of 3 matching tokens";
    assert_eq!(error.to_string(), message);
    assert_eq!(error.forbidden(), Some(1));
    let unknown = TokenFilter::new().with_name("none");
    let preview = client.preview_revocation(unknown).await.unwrap();
    assert_eq!((preview.count, preview.forbidden), (0, 0));
}

#[tokio::test]
async fn reads_full_pages_of_the_largest_tokens() {
    let server = TestServer::new().await;
    let wide = |text: &str| text.repeat(200);
    let names = |count: usize, text: &'static str| {
        (0..count).map(move |index| format!("{index:03}{}", text.repeat(197)))
    };
    let longest = (0..50).fold(NewToken::new(wide("\u{1F512}")), |new, index| {
        let key = format!("{index:02}{}", "\u{1F512}".repeat(98));
        new.with_label(key, wide("\u{1F512}"))
    });
    let longest = longest
        .with_description("\n".repeat(2_000))
        .with_subject(wide("\u{1F512}"))
        .with_roles(names(100, "\u{1F512}"))
        .with_scopes(names(100, "s"));
    for _ in 0..8 {
        let _ = server.tokens.create(longest.clone()).await.unwrap();
    }
    let client = server.client().await;
    let filter = TokenFilter::new().with_name(wide("\u{1F512}"));
    let page = client.list(filter, Page::with_limit(8)).await.unwrap();
    assert_eq!(page.tokens.len(), 8);
    let length = serde_json::to_vec(&page.tokens[0]).unwrap().len();
    assert!((150 * 1024..192 * 1024).contains(&length), "{length}");
}
