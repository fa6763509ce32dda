//! Two tenants and an operator: no tenant sees, changes or counts the tokens of another.

use serde_json::json;
use tests::api_fixture::ApiResponse;
use tower_service_token::lifecycle::{NewToken, Page};
use tower_service_token::registry::TokenFilter;
use tower_service_token::store::TokenRecord;

use crate::application::{Application, MAX_TOKENS, TestDatabase};
use crate::browser::Browser;

/// Each verb for one token, with a body.
const VERBS: [(&str, &str); 6] = [
    ("GET /{id}", ""),
    ("PATCH /{id}", r#"{"name":"x"}"#),
    ("POST /{id}/rotate", "{}"),
    ("POST /{id}/disable", ""),
    ("POST /{id}/enable", ""),
    ("DELETE /{id}", ""),
];

struct Tenants {
    application: Application,
    alice: Browser,
    bob: Browser,
}

impl Tenants {
    /// Both have a token `ci`, and there is one without an owner.
    async fn new(database: &TestDatabase) -> Self {
        let application = Application::start(database).await;
        let alice = Browser::sign_up(&application, "alice@app.example").await;
        let bob = Browser::sign_up(&application, "bob@app.example").await;
        for tenant in [&alice, &bob] {
            tenant.create("ci").await;
        }
        let unowned = NewToken::new("operations").with_scopes(["projects:read"]);
        drop(application.tokens.create(unowned).await.unwrap());
        Self {
            application,
            alice,
            bob,
        }
    }

    /// Returns the tokens that are not of this tenant.
    async fn foreign(&self, tenant: &Browser) -> Vec<TokenRecord> {
        let tokens = &self.application.tokens;
        let all = tokens.list(TokenFilter::new(), Page::default()).await;
        let owner = format!("user:{}", tenant.id);
        let mut foreign = all.unwrap().records;
        foreign.retain(|record| record.owner() != Some(&*owner));
        foreign
    }
}

#[track_caller]
fn assert_error(response: &ApiResponse, status: u16, code: &str) {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.json()["code"], code);
}

pub(crate) async fn tenants_see_only_their_own_tokens(database: TestDatabase) {
    let tenants = Tenants::new(&database).await;
    let Tenants { alice, bob, .. } = &tenants;
    alice.create("deploy").await;
    assert_eq!(alice.names("").await, ["ci", "deploy"]);
    assert_eq!(bob.names("").await, ["ci"]);
    for (query, expected) in [
        (format!("&owner=user:{}", alice.id), 2),
        (format!("&owner=user:{}", bob.id), 0),
        ("&name=ci".to_owned(), 1),
        ("&name=operations".to_owned(), 0),
        ("&scope=projects:read&without_revoked=true".to_owned(), 2),
        ("&state=active".to_owned(), 2),
    ] {
        assert_eq!(alice.names(&query).await.len(), expected, "{query}");
    }
}

pub(crate) async fn tokens_of_other_tenants_are_not_found(database: TestDatabase) {
    let tenants = Tenants::new(&database).await;
    let foreign = tenants.foreign(&tenants.alice).await;
    assert_eq!(foreign.len(), 2);
    for record in &foreign {
        for (call, body) in VERBS {
            let call = call.replace("{id}", &record.id().to_string());
            let response = tenants.alice.call(&call, body).await;
            assert_error(&response, 404, "not_found");
        }
    }
    let new = json!({ "name": "x", "owner": format!("user:{}", tenants.bob.id) });
    let response = tenants.alice.call("POST ", &new.to_string()).await;
    assert_error(&response, 422, "invalid_fields");
    assert_eq!(response.json()["errors"][0]["pointer"], "/owner");
    let (own, _) = tenants.alice.create("own").await;
    let transfer = json!({ "owner": format!("user:{}", tenants.bob.id) }).to_string();
    let response = tenants
        .alice
        .call(&format!("PATCH /{own}"), &transfer)
        .await;
    assert_error(&response, 422, "invalid_fields");
    for (before, after) in foreign.iter().zip(tenants.foreign(&tenants.alice).await) {
        assert_eq!(before.revision(), after.revision());
    }
    for (call, body) in VERBS {
        let response = tenants.alice.call(&call.replace("{id}", &own), body).await;
        assert!(response.status < 300, "{call}: {response:?}");
    }
}

pub(crate) async fn bulk_revocations_count_and_revoke_only_own_tokens(database: TestDatabase) {
    let tenants = Tenants::new(&database).await;
    tenants.bob.create("deploy").await;
    let preview = tenants
        .alice
        .call("POST /revoke", r#"{"dry_run":true}"#)
        .await
        .json();
    assert_eq!(preview["count"], 1);
    assert_eq!(preview["sample"].as_array().unwrap().len(), 1);
    let response = tenants.alice.call("POST /revoke", r#"{"expect":4}"#).await;
    assert_error(&response, 409, "unexpected_count");
    assert_eq!(response.json()["found"], 1);
    let revoked = tenants.alice.call("POST /revoke", r#"{"expect":1}"#).await;
    assert_eq!(revoked.json()["revoked"], 1, "{revoked:?}");
    assert_eq!(tenants.alice.names("&without_revoked=true").await, [""; 0]);
    assert_eq!(
        tenants.bob.names("&without_revoked=true").await,
        ["ci", "deploy"]
    );
    for record in tenants.foreign(&tenants.alice).await {
        assert_eq!(record.revision(), 1, "{record:?}");
    }
}

pub(crate) async fn names_and_limits_are_per_tenant(database: TestDatabase) {
    let tenants = Tenants::new(&database).await;
    let Tenants { alice, bob, .. } = &tenants;
    let response = alice.call("POST ", r#"{"name":"ci"}"#).await;
    assert_error(&response, 409, "name_taken");
    for number in 1..MAX_TOKENS {
        alice.create(&format!("deploy-{number}")).await;
    }
    let response = alice.call("POST ", r#"{"name":"one-too-many"}"#).await;
    assert_error(&response, 409, "too_many_tokens");
    bob.create("deploy-1").await;
    let (id, _) = bob.create("operations").await;
    assert_eq!(alice.names("").await.len() as u64, MAX_TOKENS);
    assert_eq!(bob.call(&format!("DELETE /{id}"), "").await.status, 204);
    bob.create("operations").await;
}

pub(crate) async fn tokens_work_at_the_protected_route_until_they_end(database: TestDatabase) {
    let tenants = Tenants::new(&database).await;
    let Tenants {
        application, alice, ..
    } = &tenants;
    let projects = async |token: &str| {
        let present = |it: http::request::Builder| it.header("x-api-key", token);
        ApiResponse::send(&application.router, "GET /projects", present, "").await
    };
    let (id, first) = alice.create("deploy").await;
    let response = projects(&first).await;
    assert_eq!(
        (response.status, response.body),
        (200, format!("user:{}", alice.id))
    );
    let rotated = alice.call(&format!("POST /{id}/rotate"), "").await.json();
    let second = rotated["token"].as_str().unwrap();
    assert_eq!(projects(&first).await.status, 401);
    assert_eq!(projects(second).await.status, 200);
    let audited = rotated["service_token"]["created_by"].clone();
    assert_eq!(audited, format!("owner:user:{}", alice.id));

    // The token is no session.
    let present = |it: http::request::Builder| it.header("x-api-key", second);
    for call in [
        "GET /account/service-tokens",
        "POST /account/service-tokens",
    ] {
        let response = ApiResponse::send(&application.router, call, present, "").await;
        assert_eq!(response.status, 401, "{call}");
    }
    assert_eq!(alice.call(&format!("DELETE /{id}"), "").await.status, 204);
    assert_eq!(projects(second).await.status, 401);
}
