//! Where tickets are read, single use, limits, and the responses.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::executor::block_on;
use http::{HeaderValue, Request, StatusCode};
use tests::capture::captured;
use tests::events::{Events, assert_fields};
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::reject::{GrpcStatus, Rejection, RejectionReason};
use tower_service_token::store::StoreError;
use tower_service_token::streams::{
    InsertTicketError, MemoryTicketStore, RightsDigest, StoredTicket, TicketLayer, TicketLimits,
    TicketStore, Tickets,
};

use super::fixture::{Fixture, code, get, open};

fn with_protocols(protocols: &str) -> Request<String> {
    let request = Request::get("/ws").header("sec-websocket-protocol", protocols);
    request.body(String::new()).unwrap()
}

#[tokio::test]
async fn a_ticket_opens_one_stream() {
    let fixture = Fixture::new().await;
    let ticket = fixture.ticket().await;
    let uri = format!("/events?since=4&ticket={ticket}&x=%20");
    let response = fixture.open(get(&uri)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.body(), "dashboard /events?since=4&x=%20 None");
    assert_eq!(response.headers()["cache-control"], "private");
    let again = fixture.open(get(&uri)).await;
    assert_eq!(again.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(code(&again), "invalid_ticket");
}

#[tokio::test]
async fn a_ticket_is_read_from_websocket_protocols_and_removed() {
    let fixture = Fixture::new().await;
    let ticket = fixture.ticket().await;
    let request = || with_protocols(&format!("chat.v2, {ticket}, chat.v1"));
    let response = fixture.open(request()).await;
    assert_eq!(response.body(), "dashboard /ws Some(\"chat.v2, chat.v1\")");
    assert_eq!(code(&fixture.open(request()).await), "invalid_ticket");
}

#[tokio::test]
async fn unknown_used_and_expired_tickets_get_one_response() {
    let fixture = Fixture::new().await;
    let (used, expired) = (fixture.ticket().await, fixture.ticket().await);
    let accepted = fixture.open_with(&used).await;
    assert_eq!(accepted.status(), StatusCode::OK);
    let late = fixture.ticket().await;
    fixture.clock.advance(Duration::from_millis(29_999));
    assert_eq!(fixture.open_with(&late).await.status(), StatusCode::OK);
    fixture.clock.advance(Duration::from_millis(1));
    let unknown = format!("svcticket-{}", "A".repeat(32));
    let expected = fixture.open_with(&unknown).await;
    assert_eq!(code(&expected), "invalid_ticket");
    let challenge = r#"ApiKey realm="api", error="invalid_token""#;
    assert_eq!(expected.headers()["www-authenticate"], challenge);
    let rejection = expected.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.reason(), RejectionReason::InvalidTicket);
    for ticket in [used, expired] {
        let response = fixture.open_with(&ticket).await;
        assert_eq!(response.status(), expected.status());
        assert_eq!(response.headers(), expected.headers());
        assert_eq!(response.body(), expected.body());
    }
}

#[tokio::test]
async fn ambiguous_and_unreadable_tickets_are_400_and_stay_valid() {
    let fixture = Fixture::new().await;
    let ticket = fixture.ticket().await;
    let token = fixture.token.expose_secret();
    let mut requests: Vec<_> = [
        format!("/events?ticket={ticket}&ticket={ticket}"),
        format!("/events?ticket={ticket}x"),
        format!("/events?ticket={token}"),
        "/events?ticket=".to_owned(),
        "/events?ticket".to_owned(),
    ]
    .map(|uri| get(&uri))
    .into();
    requests.push(with_protocols(&ticket));
    requests.push(with_protocols(&format!("chat, {ticket}, {ticket}")));
    requests.push(with_protocols("chat, svcticket-short"));
    let mut twice = with_protocols(&format!("chat, {ticket}"));
    *twice.uri_mut() = format!("/ws?ticket={ticket}").parse().unwrap();
    requests.push(twice);
    let mut unreadable = get("/ws");
    let value = HeaderValue::from_bytes(b"chat, \xff").unwrap();
    unreadable
        .headers_mut()
        .insert("sec-websocket-protocol", value);
    requests.push(unreadable);
    // A token beside a ticket, and a header that may hide one.
    for value in [
        HeaderValue::from_str(token).unwrap(),
        HeaderValue::from_bytes(b"\xff").unwrap(),
    ] {
        let mut request = get(&format!("/events?ticket={ticket}"));
        request.headers_mut().insert("x-api-key", value);
        requests.push(request);
    }
    for request in requests {
        let text = format!("{} {:?}", request.uri(), request.headers());
        let response = fixture.open(request).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{text}");
        assert_eq!(code(&response), "invalid_request", "{text}");
        assert!(response.body().contains("stream ticket"), "{text}");
    }
    assert_eq!(fixture.open_with(&ticket).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn routes_of_streams_also_accept_tokens_in_headers_alone() {
    let fixture = Fixture::new().await;
    let token = fixture.token.expose_secret();
    let mut request = get("/events?since=4");
    let value = HeaderValue::from_str(token).unwrap();
    request.headers_mut().insert("x-api-key", value);
    let response = fixture.open(request).await;
    assert_eq!(response.body(), "dashboard /events?since=4 None");
    assert_eq!(code(&fixture.open(get("/events")).await), "missing_token");
    for protocols in [token.to_owned(), format!("chat, {token}")] {
        let response = fixture.open(with_protocols(&protocols)).await;
        assert_eq!(code(&response), "missing_token");
    }
}

#[tokio::test]
async fn other_routes_and_switched_off_sources_accept_no_tickets() {
    let fixture = Fixture::new().await;
    let ticket = fixture.ticket().await;
    let in_query = || get(&format!("/events?ticket={ticket}"));
    let in_protocols = || with_protocols(&format!("chat, {ticket}"));
    let inner = service_fn(async |_: Request<String>| {
        Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
    });
    for request in [in_query(), in_protocols()] {
        let Ok(response) = fixture.layer().layer(inner).oneshot(request).await;
        assert_eq!(code(&response), "missing_token");
    }
    let layer = || TicketLayer::new(fixture.layer(), fixture.tickets.clone());
    // The inner service would get it, so it is not ignored.
    let response = open(layer().without_query(), in_query()).await;
    assert_eq!(code(&response), "invalid_request");
    let response = open(layer().without_websocket_protocol(), in_protocols()).await;
    assert_eq!(code(&response), "invalid_request");
    let response = open(layer().without_query(), in_protocols()).await;
    assert_eq!(response.status(), StatusCode::OK);
}

/// A ticket that is not taken would reach the inner service, and the logs there.
#[tokio::test]
async fn a_ticket_that_is_not_taken_never_reaches_the_inner_service() {
    let fixture = Fixture::new().await;
    let ticket = fixture.ticket().await;
    let token = fixture.token.expose_secret();
    let layer = || TicketLayer::new(fixture.layer().optional(), fixture.tickets.clone());
    let in_query = |query: &str| get(&format!("/events?{}", query.replace("TICKET", &ticket)));
    let other_case = format!("chat, {}", ticket.replace("svcticket", "SvcTicket"));
    let requests = [
        (layer(), in_query("Ticket=TICKET")),
        (layer(), in_query("x=TICKET")),
        (layer(), in_query("TICKET")),
        (layer(), in_query("ticket=TICKET&%74icket=TICKET")),
        (layer(), in_query("ticket=TICKET&x=TICKET")),
        (layer(), get(&format!("/events/{ticket}"))),
        (layer(), with_protocols(&other_case)),
        (layer().without_query(), in_query("ticket=TICKET")),
        (layer().without_query(), in_query("%74icket=TICKET")),
        (
            layer().without_websocket_protocol(),
            with_protocols(&format!("chat, {ticket}")),
        ),
    ];
    let inner = service_fn(
        async |request: Request<String>| -> Result<_, std::convert::Infallible> {
            panic!("reached: {request:?}")
        },
    );
    for (layer, mut request) in requests {
        // With a valid token, and without.
        let mut with_token = Request::get(request.uri().clone())
            .body(String::new())
            .unwrap();
        *with_token.headers_mut() = request.headers().clone();
        let value = HeaderValue::from_str(token).unwrap();
        with_token.headers_mut().insert("x-api-key", value);
        for request in [&mut with_token, &mut request] {
            let uri = request.uri().clone();
            let request = std::mem::take(request);
            let Ok(response) = layer.layer(inner).oneshot(request).await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{uri}");
            assert_eq!(code(&response), "invalid_request", "{uri}");
            assert!(!response.body().contains("svcticket"), "{uri}");
        }
    }
    // It was not used.
    let encoded = format!("/events?%74icket={ticket}&a=1");
    let response = fixture.open(get(&encoded)).await;
    assert_eq!(response.body(), "dashboard /events?a=1 None");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_concurrent_uses_succeeds() {
    let fixture = Fixture::new().await;
    for _ in 0..20 {
        let ticket = fixture.ticket().await;
        let uses: Vec<_> = (0..16)
            .map(|_| {
                let layer = TicketLayer::new(fixture.layer(), fixture.tickets.clone());
                let request = get(&format!("/events?ticket={ticket}"));
                tokio::spawn(async move { open(layer, request).await.status() })
            })
            .collect();
        let mut accepted = 0;
        for used in uses {
            accepted += usize::from(used.await.unwrap() == StatusCode::OK);
        }
        assert_eq!(accepted, 1);
    }
}

#[tokio::test]
async fn unused_tickets_are_limited_for_each_token_and_in_total() {
    let fixture = Fixture::new().await;
    let other = fixture
        .tokens()
        .create(NewToken::new("other"))
        .await
        .unwrap();
    let other =
        super::fixture::principal_of(&fixture.store, other.expose_secret(), &fixture.clock).await;
    let limits = TicketLimits::new().with_per_token(2).with_total(3);
    let tickets = Tickets::builder(MemoryTicketStore::new().with_limits(limits))
        .with_clock(fixture.clock.clone())
        .build();
    let caller = fixture.principal().await;
    let first = tickets.issue(&caller).await.unwrap();
    tickets.issue(&caller).await.unwrap();
    let rejection = tickets.issue(&caller).await.unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::TooManyTickets);
    assert_eq!(rejection.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(rejection.code(), "rate_limited");
    assert_eq!(rejection.detail(), "too many unused stream tickets");
    assert_eq!(rejection.retry_after(), Some(Duration::from_secs(30)));
    tickets.issue(&other).await.unwrap();
    tickets.issue(&other).await.unwrap_err();
    // A used ticket makes room.
    let layer = TicketLayer::new(fixture.layer(), tickets.clone());
    let used = open(layer, get(&format!("/?ticket={}", first.expose_secret()))).await;
    assert_eq!(used.status(), StatusCode::OK);
    tickets.issue(&caller).await.unwrap();
    tickets.issue(&caller).await.unwrap_err();
    // So does an expired one.
    fixture.clock.advance(Duration::from_secs(30));
    for caller in [&caller, &caller, &other] {
        tickets.issue(caller).await.unwrap();
    }
    tickets.issue(&other).await.unwrap_err();
}

/// A tenant with many tokens leaves room for others.
#[tokio::test]
async fn unused_tickets_are_limited_for_each_owner() {
    let fixture = Fixture::new().await;
    let limits = TicketLimits::new().with_per_owner(20).with_total(100);
    let tickets = Tickets::builder(MemoryTicketStore::new().with_limits(limits))
        .with_clock(fixture.clock.clone())
        .build();
    let mut callers = Vec::new();
    for (number, owner) in (0..9)
        .map(|number| (number, Some("many")))
        .chain([(9, Some("few")), (10, None)])
    {
        let mut new = NewToken::new(format!("token {number}"));
        if let Some(owner) = owner {
            new = new.with_owner(owner);
        }
        let issued = fixture.tokens().create(new).await.unwrap();
        let token = issued.expose_secret();
        callers.push(super::fixture::principal_of(&fixture.store, token, &fixture.clock).await);
    }
    let mut issued = Vec::new();
    for caller in &callers[..9] {
        for _ in 0..16 {
            issued.extend(tickets.issue(caller).await.ok());
        }
    }
    assert_eq!(issued.len(), 20);
    let rejection = tickets.issue(&callers[8]).await.unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::TooManyTickets);
    let source = std::error::Error::source(&rejection).unwrap().to_string();
    let expected = "the tokens of the owner have too many unused stream tickets";
    assert_eq!(source, expected);
    // Other tenants are not affected.
    for caller in &callers[9..] {
        for _ in 0..16 {
            tickets.issue(caller).await.unwrap();
        }
        tickets.issue(caller).await.unwrap_err();
    }
    // Used and expired tickets make room.
    let layer = TicketLayer::new(fixture.layer(), tickets.clone());
    let uri = format!("/?ticket={}", issued[0].expose_secret());
    assert_eq!(open(layer, get(&uri)).await.status(), StatusCode::OK);
    tickets.issue(&callers[8]).await.unwrap();
    tickets.issue(&callers[8]).await.unwrap_err();
    fixture.clock.advance(Duration::from_secs(30));
    for _ in 0..16 {
        tickets.issue(&callers[8]).await.unwrap();
    }
}

/// An [`Arc`] of a store is a store. Its limits apply to all its issuers.
#[tokio::test]
async fn issuers_that_share_a_store_share_its_limits() {
    let fixture = Fixture::new().await;
    let caller = fixture.principal().await;
    let limits = TicketLimits::new().with_per_token(2);
    let store = Arc::new(MemoryTicketStore::new().with_limits(limits));
    let issuers = [(); 2].map(|()| Tickets::new(Arc::clone(&store)));
    for issuer in &issuers {
        issuer.issue(&caller).await.unwrap();
    }
    for issuer in &issuers {
        let rejection = issuer.issue(&caller).await.unwrap_err();
        let source = std::error::Error::source(&rejection).unwrap();
        let error = source.downcast_ref::<InsertTicketError>().unwrap();
        assert!(
            matches!(error, InsertTicketError::TooManyPerToken),
            "{error}"
        );
    }
}

struct FailedTicketStore(fn() -> InsertTicketError);

#[async_trait]
impl TicketStore for FailedTicketStore {
    async fn insert(&self, _: &StoredTicket, _: SystemTime) -> Result<(), InsertTicketError> {
        Err((self.0)())
    }

    async fn take(&self, _: &TokenDigest) -> Result<Option<StoredTicket>, StoreError> {
        Ok(None)
    }
}

#[test]
fn rejections_of_the_issuer_are_logged_and_counted_once() {
    let failures: [(fn() -> InsertTicketError, _, _, _); 5] = [
        (
            || InsertTicketError::TooManyPerToken,
            "too_many_tickets",
            "429",
            "the token has too many unused stream tickets",
        ),
        (
            || InsertTicketError::TooManyPerOwner,
            "too_many_tickets",
            "429",
            "the tokens of the owner have too many unused stream tickets",
        ),
        (
            || InsertTicketError::TooManyInTotal,
            "too_many_tickets",
            "429",
            "all tokens together have too many unused stream tickets",
        ),
        (
            || StoreError::unavailable("down").into(),
            "store_unavailable",
            "503",
            "the token store is unavailable: down",
        ),
        (
            || StoreError::corrupt("a row").into(),
            "corrupt_record",
            "500",
            "the token store has a corrupt record: a row",
        ),
    ];
    for (failure, reason, status, error) in failures {
        let caller = block_on(async { Fixture::new().await.principal().await });
        let tickets = Tickets::new(FailedTicketStore(failure));
        let events = Events::default();
        let (rejection, _, metrics) = captured(|| {
            let _guard = events.start();
            block_on(tickets.issue(&caller)).unwrap_err()
        });
        assert_eq!(rejection.reason().as_str(), reason);
        let id = caller.id().to_string();
        let expected = [
            ("reason", reason),
            ("status", status),
            ("token_id", id.as_str()),
            ("error", error),
        ];
        assert_fields(&events.only(), &expected);
        let counted = format!("service_token_guard_rejections_total{{reason={reason}}}");
        assert_eq!(metrics.matches(&counted).count(), 1, "{metrics}");
    }
}

#[tokio::test]
async fn default_limit_is_16_tickets_for_each_token() {
    let limits = TicketLimits::default();
    assert_eq!((limits.per_token(), limits.per_owner()), (16, 1_000));
    assert_eq!(limits.total(), 10_000);
    let fixture = Fixture::new().await;
    for _ in 0..16 {
        fixture.ticket().await;
    }
    let caller = fixture.principal().await;
    fixture.tickets.issue(&caller).await.unwrap_err();
}

#[tokio::test]
async fn lifetimes_are_whole_seconds_up_to_five_minutes() {
    let fixture = Fixture::new().await;
    let caller = fixture.principal().await;
    for (lifetime, expected) in [(0, 1), (1_999, 1), (60_000, 60), (3_600_000, 300)] {
        let tickets = Tickets::builder(MemoryTicketStore::new())
            .with_lifetime(Duration::from_millis(lifetime))
            .build();
        let ticket = tickets.clone().issue(&caller).await.unwrap();
        assert_eq!(ticket.lifetime(), Duration::from_secs(expected));
    }
    assert_eq!(
        fixture.tickets.issue(&caller).await.unwrap().lifetime(),
        Duration::from_secs(30)
    );
}

/// Fails, or returns a ticket for every digest.
struct BrokenTicketStore(Option<StoredTicket>);

#[async_trait]
impl TicketStore for BrokenTicketStore {
    async fn insert(&self, _: &StoredTicket, _: SystemTime) -> Result<(), InsertTicketError> {
        Err(StoreError::unavailable("down").into())
    }

    async fn take(&self, _: &TokenDigest) -> Result<Option<StoredTicket>, StoreError> {
        let ticket = self.0.clone();
        ticket
            .map(Some)
            .ok_or_else(|| StoreError::unavailable("down"))
    }
}

#[tokio::test]
async fn outages_of_the_ticket_store_are_503() {
    let fixture = Fixture::new().await;
    let ticket = fixture.ticket().await;
    let broken = Tickets::builder(BrokenTicketStore(None))
        .with_clock(fixture.clock.clone())
        .build();
    let rejection = broken.issue(&fixture.principal().await).await.unwrap_err();
    assert_eq!(rejection.code(), "auth_unavailable");
    let layer = TicketLayer::new(fixture.layer(), broken);
    let response = open(layer, get(&format!("/?ticket={ticket}"))).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(code(&response), "auth_unavailable");
}

/// A store that compares badly cannot accept another ticket.
#[tokio::test]
async fn a_ticket_with_another_digest_is_rejected() {
    let fixture = Fixture::new().await;
    let caller = fixture.principal().await;
    let stored = StoredTicket {
        digest: TokenDigest::of("another"),
        token_id: caller.id(),
        token_digest: TokenDigest::of(fixture.token.expose_secret()),
        owner: None,
        rights: RightsDigest::of(&caller),
        expires_at: SystemTime::UNIX_EPOCH + Duration::from_secs(u32::MAX.into()),
    };
    let tickets = Tickets::builder(BrokenTicketStore(Some(stored)))
        .with_clock(fixture.clock.clone())
        .build();
    let ticket = fixture.ticket().await;
    let layer = TicketLayer::new(fixture.layer(), tickets);
    let response = open(layer, get(&format!("/?ticket={ticket}"))).await;
    assert_eq!(code(&response), "invalid_ticket");
}

#[test]
fn tickets_are_in_no_log_metric_or_debug_output() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (ticket, log, metrics) = captured(|| {
        runtime.block_on(async {
            let fixture = Fixture::new().await;
            let ticket = fixture
                .tickets
                .issue(&fixture.principal().await)
                .await
                .unwrap();
            let text = ticket.expose_secret().to_owned();
            let layer = TicketLayer::new(fixture.layer(), fixture.tickets.clone());
            let inner = service_fn(async |request: Request<String>| {
                tracing::info!(?request, "reached");
                Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
            });
            let service = layer.clone().layer(inner);
            tracing::info!("{ticket:?} {layer:?} {service:?} {:?}", fixture.tickets);
            for _ in 0..2 {
                let Ok(_) = service
                    .clone()
                    .oneshot(get(&format!("/?ticket={text}")))
                    .await;
            }
            let Ok(_) = service
                .oneshot(with_protocols(&format!("{text}, chat")))
                .await;
            text
        })
    });
    assert!(log.contains("reached"), "{log}");
    let secret = ticket.strip_prefix("svcticket-").unwrap();
    assert!(!log.contains(secret), "{log}");
    assert!(!metrics.contains(secret), "{metrics}");
    #[cfg(feature = "tracing")]
    assert!(log.contains("invalid_ticket"), "{log}");
    #[cfg(feature = "metrics")]
    assert!(metrics.contains("invalid_ticket"), "{metrics}");
}

/// The wait for a ticket and its token is timed as that for a token is.
#[cfg(feature = "metrics")]
#[test]
fn redemptions_are_timed_as_lookups() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let ((), _, metrics) = captured(|| {
        runtime.block_on(async {
            let fixture = Fixture::new().await;
            let ticket = fixture.ticket().await;
            fixture.open_with(&ticket).await;
            fixture.open_with(&ticket).await;
            fixture.open_with("unreadable").await;
        });
    });
    for (outcome, count) in [
        ("accepted", 1),
        ("invalid_ticket", 1),
        ("malformed_ticket", 0),
    ] {
        let timed = format!("service_token_lookup_seconds{{outcome={outcome}}}");
        assert_eq!(metrics.matches(&timed).count(), count, "{metrics}");
    }
}

#[tokio::test]
async fn grpc_services_get_grpc_rejections() {
    let fixture = Fixture::new().await;
    let tokens = fixture.layer().with_rejection_response(GrpcStatus);
    let inner = service_fn(async |_: Request<String>| {
        Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
    });
    let service = TicketLayer::new(tokens, fixture.tickets.clone()).layer(inner);
    let request = Request::post(format!("/?ticket=svcticket-{}", "A".repeat(32)))
        .header("content-type", "application/grpc");
    let Ok(response) = service.oneshot(request.body(String::new()).unwrap()).await;
    assert_eq!(response.headers()["grpc-status"], "16");
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn a_ticket_is_a_json_response_that_is_not_stored() {
    use axum::response::IntoResponse;

    let fixture = Fixture::new().await;
    let ticket = fixture
        .tickets
        .issue(&fixture.principal().await)
        .await
        .unwrap();
    let text = ticket.expose_secret().to_owned();
    let response = ticket.into_response();
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = axum::body::to_bytes(response.into_body(), 1024)
        .await
        .unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({ "ticket": text, "expires_in": 30 })
    );
}
