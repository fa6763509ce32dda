//! Expiries at the end of the year 9999 and beyond, in every API.

use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use tests::api_fixture::{ApiFixture, ApiResponse};
use tower_service_token::MemoryStore;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::api::pipeops::PipeOpsApi;
use tower_service_token::api::stackstate::StackStateApi;

/// 9999-12-31T00:00:00Z
const LAST_DAY: i64 = 253_402_214_400_000;
const HALF_DAY: i64 = 43_200_000;
/// The last second that RFC 3339 can represent.
const LAST_SECOND: &str = "9999-12-31T23:59:59Z";

struct Server {
    managed: ApiFixture,
    app: Router,
}

impl Server {
    async fn new() -> Self {
        let store = MemoryStore::new();
        let managed = ApiFixture::new(store.clone(), store).await;
        let (tokens, layer) = (managed.tokens.clone(), managed.layer.clone());
        let stackstate = StackStateApi::new(tokens.clone(), layer.clone());
        let pipeops = PipeOpsApi::new(tokens.clone(), layer.clone());
        let app = Router::new()
            .merge(ManagementApi::new(tokens, layer).into_router())
            .merge(pipeops.into_router())
            .nest("/api", stackstate.into_router());
        Self { managed, app }
    }

    async fn call(&self, call: &str, body: impl Into<Option<Value>>) -> ApiResponse {
        let secret = self.managed.admin.expose_secret();
        let body = body.into().map(|body| body.to_string()).unwrap_or_default();
        let headers = |request: http::request::Builder| {
            let request = if call.contains("/api/v1/") {
                request.header("authorization", format!("Bearer {secret}"))
            } else {
                request.header("x-api-key", secret)
            };
            if body.is_empty() {
                request
            } else {
                request.header("content-type", "application/json")
            }
        };
        ApiResponse::send(&self.app, call, headers, &body).await
    }

    /// Asserts that every API shows the latest possible expiry for the token `name`.
    async fn assert_has_latest_expiry(&self, name: &str) {
        let list = self
            .call(&format!("GET /service-tokens?name={name}"), None)
            .await
            .json();
        let token = &list["service_tokens"][0];
        assert_eq!(token["expires_at"], LAST_SECOND, "{name}");
        let id = token["id"].as_str().unwrap();
        let path = format!("/api/v1/service-account-tokens/{id}");
        let found = self.call(&format!("GET {path}"), None).await.json();
        assert_eq!(found["data"]["token"]["expires_at"], LAST_SECOND, "{name}");
        let list = self.call("GET /api/security/tokens", None).await.json();
        let list = list.as_array().unwrap().iter();
        let mut named = list.filter(|token| token["name"] == name);
        let expiration = &named.next().unwrap()["expiration"];
        assert_eq!(*expiration, LAST_DAY + HALF_DAY, "{name}");
    }
}

#[tokio::test]
async fn expiries_beyond_the_year_9999_are_capped() {
    let server = Server::new().await;
    for (index, member) in [
        json!({ "expires_at": "9999-12-31" }),
        json!({ "expires_at": LAST_SECOND }),
        json!({ "expires_at": "9999-12-31T23:59:59.999999999Z" }),
        json!({ "expires_at": "9999-12-31t23:59:60z" }),
        json!({ "expires_at": "9999-12-31T23:59:59-12:00" }),
        json!({ "expires_in": "9000y" }),
        json!({ "expires_in": "P9999Y" }),
        json!({ "expires_in": "99999y" }),
        json!({ "expires_in": "100000000d" }),
    ]
    .into_iter()
    .enumerate()
    {
        for (api, path) in [
            ("m", "/service-tokens"),
            ("p", "/api/v1/service-account-tokens"),
        ] {
            let name = format!("{api}{index}");
            let mut body = member.clone();
            body["name"] = json!(name);
            let response = server.call(&format!("POST {path}"), body.clone()).await;
            assert_eq!(response.status, 201, "{body}: {response:?}");
            server.assert_has_latest_expiry(&name).await;
        }
    }
    for (index, millis) in [
        LAST_DAY,
        LAST_DAY + 86_399_000,
        LAST_DAY + 86_400_000,
        i64::MAX,
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("s{index}");
        let body = json!({
            "name": name, "roles": [], "dedicatedSubject": "", "expiryDate": millis,
        });
        let response = server.call("POST /api/security/tokens", body).await;
        assert_eq!(response.status, 200, "{millis}: {response:?}");
        assert_eq!(response.json()["expiration"], LAST_DAY + HALF_DAY);
        server.assert_has_latest_expiry(&name).await;
    }
}

#[tokio::test]
async fn latest_expiry_round_trips() {
    let server = Server::new().await;
    let body = json!({ "name": "x", "expires_at": "9999-12-31" });
    let created = server.call("POST /service-tokens", body).await.json();
    let id = created["service_token"]["id"].as_str().unwrap();
    let tag = async || {
        let found = server
            .call(&format!("GET /service-tokens/{id}"), None)
            .await;
        found.headers["etag"].clone()
    };
    let before = tag().await;
    let patch = json!({ "expires_at": created["service_token"]["expires_at"] });
    let patched = server
        .call(&format!("PATCH /service-tokens/{id}"), patch)
        .await;
    assert_eq!(patched.status, 200, "{patched:?}");
    assert_eq!(tag().await, before);
}

/// Some date libraries cannot represent these times.
#[tokio::test]
async fn times_just_before_the_latest_expiry_are_exact() {
    let server = Server::new().await;
    for (given, shown) in [
        ("9999-12-29", "9999-12-30T00:00:00Z"),
        ("9999-12-30", "9999-12-31T00:00:00Z"),
        ("9999-12-30T22:00:01Z", "9999-12-30T22:00:01Z"),
        ("9999-12-31T12:00:00.5Z", "9999-12-31T12:00:00.5Z"),
        ("9999-12-31T12:00:00+01:00", "9999-12-31T11:00:00Z"),
    ] {
        let body = json!({ "name": "x", "expires_at": given });
        let response = server.call("POST /service-tokens", body).await;
        assert_eq!(response.status, 201, "{given}: {response:?}");
        assert_eq!(
            response.json()["service_token"]["expires_at"],
            shown,
            "{given}"
        );
    }
}

#[tokio::test]
async fn filters_and_not_before_accept_the_latest_time() {
    let server = Server::new().await;
    for (name, expires_at) in [("early", "2199-12-31"), ("last", "9999-12-31")] {
        let body = json!({ "name": name, "expires_at": expires_at });
        server.call("POST /service-tokens", body).await;
    }
    for time in [
        LAST_SECOND,
        "9999-12-31T23:59:60Z",
        "9999-12-31T23:59:59%2B00:00",
    ] {
        let call = format!("GET /service-tokens?expires_before={time}");
        let response = server.call(&call, None).await;
        assert_eq!(response.status, 200, "{time}: {response:?}");
        let list = response.json();
        let tokens = list["service_tokens"].as_array().unwrap().iter();
        let names: Vec<_> = tokens.map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["early"], "{time}");
        let call = format!("GET /service-tokens?last_used_before={time}");
        let list = server.call(&call, None).await.json();
        assert_eq!(list["service_tokens"].as_array().unwrap().len(), 3);
        let body = json!({ "dry_run": true, "filter": { "expires_before": LAST_SECOND } });
        let preview = server
            .call("POST /service-tokens/revoke", body)
            .await
            .json();
        assert_eq!(preview["count"], 1, "{preview}");
    }
    let body = json!({ "name": "x", "not_before": "9999-12-31T00:00:00Z" });
    let response = server.call("POST /service-tokens", body).await;
    assert_eq!(response.status, 201, "{response:?}");
    let shown = response.json()["service_token"]["not_before"].clone();
    assert_eq!(shown, "9999-12-31T00:00:00Z");
}

#[tokio::test]
async fn invalid_expiries_get_the_same_message_in_every_api() {
    let server = Server::new().await;
    for given in [
        "2020-01-01",
        "2027-02-30",
        "9999-12-32",
        "10000-02-30",
        "20271-01-31",
        "12027-01-31T12:00:00Z",
        "20270131-01-01",
        "2027013112:00:00",
        "soon",
    ] {
        let body = json!({ "name": "x", "expires_at": given });
        let problem = server
            .call("POST /service-tokens", body.clone())
            .await
            .json();
        assert_eq!(problem["errors"][0]["pointer"], "/expires_at", "{given}");
        let detail = problem["errors"][0]["detail"].as_str().unwrap().to_owned();
        let path = "POST /api/v1/service-account-tokens";
        let message = server.call(path, body).await.json()["message"].clone();
        assert!(message.as_str().unwrap().ends_with(&detail), "{message}");
    }
    let body = json!({ "name": "x", "expires_at": "2020-01-01" });
    let problem = server.call("POST /service-tokens", body).await.json();
    let detail = problem["errors"][0]["detail"].as_str().unwrap();
    let expected = format!("expiryDate: {detail}");
    for millis in [1, -1, 0, i64::MIN] {
        let body = json!({
            "name": "x", "roles": [], "dedicatedSubject": "", "expiryDate": millis,
        });
        let response = server.call("POST /api/security/tokens", body).await;
        assert_eq!(response.status, 400, "{response:?}");
        assert_eq!(response.json()["message"], expected, "{millis}");
    }
    let invalid_filter = "GET /service-tokens?expires_before=2027-02-30T00:00:00Z";
    let response = server.call(invalid_filter, None).await;
    assert_eq!(response.status, 422, "{response:?}");
    let detail = response.json()["errors"][0]["detail"].clone();
    assert_eq!(detail, "there is no such date or time");
}

/// A date expires at the end of that day. The response shows the day's last second, because clients
/// would display midnight as the next day.
#[tokio::test]
async fn pipeops_shows_a_date_as_its_last_second() {
    let server = Server::new().await;
    let path = "/api/v1/service-account-tokens";
    for (given, shown) in [
        ("2027-01-31", "2027-01-31T23:59:59Z"),
        ("2028-02-29", "2028-02-29T23:59:59Z"),
        ("2027-01-31T12:00:00Z", "2027-01-31T12:00:00Z"),
        ("2027-01-31T23:59:59Z", "2027-01-31T23:59:59Z"),
    ] {
        let body = json!({ "name": "x", "expires_at": given });
        let created = server.call(&format!("POST {path}"), body).await.json();
        let token = &created["data"]["token"];
        assert_eq!(token["expires_at"], shown, "{given}");
        let id = token["uuid"].as_str().unwrap();
        let found = server.call(&format!("GET {path}/{id}"), None).await.json();
        assert_eq!(found["data"]["token"]["expires_at"], shown);
        let path = format!("GET /service-tokens/{id}");
        let stored = server.call(&path, None).await.json()["expires_at"].clone();
        let body = json!({ "name": "x", "expires_at": shown });
        let recreated = server
            .call("POST /api/v1/service-account-tokens", body)
            .await;
        let id = recreated.json()["data"]["token"]["uuid"]
            .as_str()
            .unwrap()
            .to_owned();
        let path = format!("GET /service-tokens/{id}");
        assert_eq!(server.call(&path, None).await.json()["expires_at"], stored);
    }
}

#[tokio::test]
async fn expiries_after_9999_become_the_latest_expiry_in_every_api() {
    let server = Server::new().await;
    let late = [
        json!({ "expires_at": "10000-01-01" }),
        json!({ "expires_at": "+275760-12-31" }),
        json!({ "expires_at": "+012345-06-07T08:09:10+11:00" }),
        json!({ "expires_in": "99999999999d" }),
        json!({ "expires_in": "P99999999999D" }),
        json!({ "expires_in": "99999999999999999999d" }),
    ];
    let numbers = ["99999999999", "9223372036854775808", "1e30"];
    let numbers = numbers.map(|text| {
        let number: Value = serde_json::from_str(text).unwrap();
        json!({ "expires_in": number })
    });
    let both = ["/service-tokens", "/api/v1/service-account-tokens"];
    let pipeops = &both[1..];
    let members = late.iter().map(|member| (member, &both[..]));
    let members = members.chain(numbers.iter().map(|member| (member, pipeops)));
    for (index, (member, paths)) in members.enumerate() {
        for (api, path) in paths.iter().enumerate() {
            let name = format!("t{index}-{api}");
            let mut body = member.clone();
            body["name"] = json!(name);
            let response = server.call(&format!("POST {path}"), body.clone()).await;
            assert_eq!(response.status, 201, "{path} {body}: {response:?}");
            server.assert_has_latest_expiry(&name).await;
        }
    }
    for (index, millis) in ["9223372036854775808", "18446744073709551616", "1e300"]
        .into_iter()
        .enumerate()
    {
        let name = format!("s{index}");
        let millis: Value = serde_json::from_str(millis).unwrap();
        let body = json!({
            "name": name, "roles": [], "dedicatedSubject": "", "expiryDate": millis,
        });
        let response = server.call("POST /api/security/tokens", body).await;
        assert_eq!(response.status, 200, "{millis}: {response:?}");
        server.assert_has_latest_expiry(&name).await;
    }
}

#[tokio::test]
async fn filters_and_not_before_accept_years_after_9999() {
    let server = Server::new().await;
    let body = json!({ "name": "early", "expires_at": "2199-12-31" });
    server.call("POST /service-tokens", body).await;
    for time in ["10000-01-01", "10000-01-01T00:00:00Z"] {
        let call = format!("GET /service-tokens?expires_before={time}");
        let response = server.call(&call, None).await;
        assert_eq!(response.status, 200, "{time}: {response:?}");
        let list = response.json();
        assert_eq!(list["service_tokens"].as_array().unwrap().len(), 1);
        let body = json!({ "name": "x", "not_before": time });
        let response = server.call("POST /service-tokens", body).await;
        assert_eq!(response.status, 201, "{response:?}");
        let id = response.json()["service_token"]["id"].clone();
        let call = format!("DELETE /service-tokens/{}", id.as_str().unwrap());
        assert_eq!(server.call(&call, None).await.status, 204);
        let purged = server.managed.tokens.purge(Duration::ZERO).await;
        assert_eq!(purged.unwrap().len(), 1);
    }
    let response = server
        .call("GET /service-tokens?expires_before=%2B10001-02-29", None)
        .await;
    assert_eq!(response.status, 422, "{response:?}");
    let detail = response.json()["errors"][0]["detail"].clone();
    assert_eq!(detail, "there is no such date or time");
}

/// A mistyped year in a filter would match every token.
#[tokio::test]
async fn bulk_filters_reject_years_after_9999() {
    let server = Server::new().await;
    for member in ["last_used_before", "expires_before"] {
        for (time, detail) in [
            ("10000-01-01", "the year must not be after 9999"),
            ("+010000-01-01T00:00:00Z", "the year must not be after 9999"),
            (
                "20260-01-01",
                "not a date such as 2027-01-31 or a time such as 2027-01-31T12:00:00Z",
            ),
        ] {
            for dry_run in [true, false] {
                let body = json!({ "dry_run": dry_run, "filter": { member: time } });
                let response = server.call("POST /service-tokens/revoke", body).await;
                assert_eq!(response.status, 422, "{time}: {response:?}");
                let error = response.json()["errors"][0].clone();
                assert_eq!(error["pointer"], format!("/filter/{member}"));
                assert_eq!(error["detail"], detail);
            }
        }
    }
    let body = json!({
        "dry_run": true, "filter": { "last_used_before": "9999-12-31T23:59:59Z" },
    });
    let response = server.call("POST /service-tokens/revoke", body).await;
    assert_eq!(response.status, 200, "{response:?}");
}

#[tokio::test]
async fn invalid_durations_get_the_same_message_in_every_api() {
    let server = Server::new().await;
    for (given, expected) in [
        (
            "-99999999999d",
            "the time until expiry must not be negative",
        ),
        ("-30d", "the time until expiry must not be negative"),
        (
            "99999999999d ago",
            "the time until expiry must not be negative",
        ),
        ("0d", "the time until expiry must not be zero"),
        (
            "99999999999",
            "an expiry is a date such as 2027-01-31, a time such as 2027-01-31T12:00:00Z, or a \
             duration such as 30d or P30D",
        ),
    ] {
        let body = json!({ "name": "x", "expires_in": given });
        let problem = server.call("POST /service-tokens", body.clone()).await;
        assert_eq!(problem.status, 422, "{problem:?}");
        assert_eq!(problem.json()["errors"][0]["detail"], expected, "{given}");
        let path = "POST /api/v1/service-account-tokens";
        let response = server.call(path, body).await;
        assert_eq!(response.status, 422, "{response:?}");
        let message = format!("/expires_in: {expected}");
        assert_eq!(response.json()["message"], message, "{given}");
    }
}

/// Creates a token and returns the call that rotates it.
async fn rotation_path(server: &Server) -> String {
    let body = json!({ "name": "x", "expires_at": "2199-12-31" });
    let created = server.call("POST /service-tokens", body).await.json();
    let id = created["service_token"]["id"].as_str().unwrap();
    format!("POST /service-tokens/{id}/rotate")
}

#[tokio::test]
async fn grace_periods_out_of_range_end_with_the_token() {
    let server = Server::new().await;
    let path = rotation_path(&server).await;
    for grace in ["99999999999d", "P99999999999D", "99999999999999999999h"] {
        let response = server.call(&path, json!({ "grace": grace })).await;
        assert_eq!(response.status, 200, "{grace}: {response:?}");
        let end = response.json()["grace_ends_at"].clone();
        assert_eq!(end, "2200-01-01T00:00:00Z", "{grace}");
    }
}

#[tokio::test]
async fn invalid_grace_periods_get_one_message() {
    let server = Server::new().await;
    let path = rotation_path(&server).await;
    for grace in ["soon", "1y", "99999999999y", "-1h", "-99999999999d", "1"] {
        let response = server.call(&path, json!({ "grace": grace })).await;
        assert_eq!(response.status, 422, "{grace}: {response:?}");
        let error = &response.json()["errors"][0];
        assert_eq!(error["pointer"], "/grace");
        let detail = "not a duration of zero or more in weeks, days or shorter units, such as 1h \
                      or PT1H";
        assert_eq!(error["detail"], detail, "{grace}");
    }
}
