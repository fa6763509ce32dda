//! The removal of the last administrator token requires confirmation.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::authority::error_responses::Api;
use crate::authority::service::{TestService, Token, request_with_body};
use crate::http1::HttpRequest;

/// Returns the requests that revoke, disable or restrict the administrator with this ID.
fn removals(service: &TestService, id: &str) -> Vec<(String, Option<Value>)> {
    let one = format!("/service-tokens/{id}");
    let patch = |body: Value| (format!("PATCH {one}"), Some(body));
    vec![
        patch(json!({ "scopes": [] })),
        patch(json!({ "scopes": ["service-tokens:write", "service-tokens:read", "*:*"] })),
        patch(json!({ "expires_in": "1d" })),
        patch(json!({ "expires_at": service.time_in(1_000_000_000) })),
        patch(json!({ "not_before": service.time_in(3600) })),
        (format!("POST {one}/disable"), None),
        (format!("DELETE {one}"), None),
        ("DELETE /service-tokens/self".to_owned(), None),
    ]
}

fn with_query(request: &str, query: &str) -> String {
    let (method, target) = request.split_once(' ').unwrap();
    format!("{method} {target}?{query}")
}

pub(crate) async fn last_administrator_removal_requires_confirmation(service: Arc<TestService>) {
    // These do not count as administrators.
    service
        .create_with_scopes(&["service-tokens:write", "*:*"])
        .await;
    let expired = service.create_with_scopes(&["service-tokens:admin"]).await;
    service.expire(&expired).await;
    let later = json!({ "name": "later", "scopes": ["*"], "not_before": service.time_in(3600) });
    service.create(later).await;
    let before = service.list().await;
    for (request, body) in removals(&service, &service.admin.id) {
        for query in ["", "last_admin=false"] {
            let request = with_query(&request, query);
            let response = service.send_as_admin(&request, body.clone()).await;
            Api::Management.assert_rejected(&response, 409, "last_admin", &request);
        }
    }
    assert_eq!(service.list().await, before);
    // Changes that keep it an administrator need no confirmation.
    let renamed = json!({ "name": "root", "scopes": ["service-tokens:*"], "roles": ["boss"] });
    service.patch(&service.admin.id, renamed).await;
    service
        .patch(&service.admin.id, json!({ "scopes": ["**"] }))
        .await;

    // A confirmed expiry is accepted, and the token is an administrator until then.
    let request = format!("PATCH /service-tokens/{}?last_admin=true", service.admin.id);
    for body in [json!({ "expires_in": "2d" }), json!({ "expires_in": "1d" })] {
        service
            .send_as_admin(&request, Some(body))
            .await
            .assert(200);
    }
    service
        .patch(&service.admin.id, json!({ "expires_at": null }))
        .await;
}

/// Asserts that a removal is rejected without confirmation and succeeds with it.
async fn assert_requires_confirmation(service: Arc<TestService>, index: usize) {
    let (request, body) = removals(&service, &service.admin.id).swap_remove(index);
    service
        .send_as_admin(&request, body.clone())
        .await
        .assert(409);
    let request = with_query(&request, "last_admin=true");
    let response = service.send_as_admin(&request, body).await;
    assert!(
        [200, 204].contains(&response.status),
        "{request}: {response:?}"
    );
    let response = service.send_as_admin("GET /service-tokens", None).await;
    assert!(
        [401, 403].contains(&response.status),
        "{request}: {response:?}"
    );
}

pub(crate) async fn confirmed_update_removes_admin_scope(service: Arc<TestService>) {
    assert_requires_confirmation(service, 0).await;
}

pub(crate) async fn confirmed_update_postpones_last_administrator(service: Arc<TestService>) {
    assert_requires_confirmation(service, 4).await;
}

pub(crate) async fn confirmed_request_disables_last_administrator(service: Arc<TestService>) {
    assert_requires_confirmation(service, 5).await;
}

pub(crate) async fn confirmed_request_revokes_last_administrator(service: Arc<TestService>) {
    assert_requires_confirmation(service, 6).await;
}

pub(crate) async fn last_administrator_revokes_itself_when_confirmed(service: Arc<TestService>) {
    assert_requires_confirmation(service, 7).await;
}

pub(crate) async fn bulk_revocation_never_removes_last_administrator(service: Arc<TestService>) {
    let second = service.create_with_scopes(&["service-tokens:**"]).await;
    service.create_with_scopes(&["builds:read"]).await;
    let before = service.list().await;
    for (filter, expect) in [
        (json!({}), json!(3)),
        (json!({ "state": "active" }), json!(3)),
    ] {
        for query in ["", "?last_admin=true"] {
            let request = format!("POST /service-tokens/revoke{query}");
            let body = json!({ "filter": filter, "expect": expect });
            let response = service.send_as_admin(&request, Some(body)).await;
            Api::Management.assert_rejected(&response, 409, "last_admin", &request);
        }
    }
    assert_eq!(service.list().await, before);
    let revoke = format!("DELETE /service-tokens/{}", second.id);
    service.send_as_admin(&revoke, None).await.assert(204);
    let body = json!({ "filter": { "name": "administrator" }, "expect": 1 });
    let request = "POST /service-tokens/revoke?last_admin=true";
    let response = service.send_as_admin(request, Some(body)).await;
    Api::Management.assert_rejected(&response, 409, "last_admin", request);
}

pub(crate) async fn dialects_never_remove_last_administrator(service: Arc<TestService>) {
    let listed = service
        .send_as_admin("GET /api/security/tokens", None)
        .await;
    let number = listed.assert(200).json()[0]["id"].as_i64().unwrap();
    let pipeops = format!("/api/v1/service-account-tokens/{}", service.admin.id);
    let before = service.list().await;
    let requests = [
        (Api::PipeOps, format!("DELETE {pipeops}"), Value::Null),
        (
            Api::PipeOps,
            format!("PATCH {pipeops}"),
            json!({ "is_active": false }),
        ),
        (
            Api::PipeOps,
            format!("PATCH {pipeops}"),
            json!({ "permissions": [] }),
        ),
        (
            Api::PipeOps,
            format!("PATCH {pipeops}"),
            json!({ "scopes": ["*:*"], "name": "a" }),
        ),
        (
            Api::PipeOps,
            format!("PATCH {pipeops}"),
            json!({ "expires_in": 1 }),
        ),
        (
            Api::StackState,
            format!("DELETE /api/security/tokens/{number}"),
            Value::Null,
        ),
    ];
    for (api, request, body) in requests {
        for query in ["", "last_admin=true"] {
            let request = with_query(&request, query);
            let body = (!body.is_null()).then(|| body.clone());
            let response = service.send_as_admin(&request, body).await;
            api.assert_rejected(&response, 409, "", &request);
        }
    }
    assert_eq!(service.list().await, before);
}

pub(crate) async fn revokes_last_administrator_by_its_secret(service: Arc<TestService>) {
    let revoke = HttpRequest::form("/revoke", &service.admin.secret);
    revoke.send(service.address).await.assert(200);
    let response = service.send_as_admin("GET /service-tokens", None).await;
    Api::Management.assert_rejected(&response, 401, "token_revoked", "list");
}

pub(crate) async fn rejects_malformed_confirmation(service: Arc<TestService>) {
    let one = format!("DELETE /service-tokens/{}", service.admin.id);
    for (query, status) in [
        ("last_admin=false", 409),
        ("last_admin", 400),
        ("last_admin=", 400),
        ("last_admin=1", 400),
        ("last_admin=TRUE", 400),
        ("last_admin=true&last_admin=true", 400),
        ("last_admin=false&last%5Fadmin=true", 400),
        ("LAST_ADMIN=true", 400),
        ("last-admin=true", 400),
        ("x=last_admin=true", 400),
    ] {
        let response = service.send_as_admin(&with_query(&one, query), None).await;
        assert_eq!(response.status, status, "{query}: {response:?}");
    }
    let body = json!({ "scopes": [], "last_admin": true });
    let patch = format!("PATCH /service-tokens/{}", service.admin.id);
    service.send_as_admin(&patch, Some(body)).await.assert(422);
    assert_eq!(service.status_of(&service.admin.secret).await, 200);
}

/// Sends a request at the same time as the other one.
async fn send(address: SocketAddr, request: HttpRequest, barrier: Arc<Barrier>) -> u16 {
    barrier.wait().await;
    request.send(address).await.status
}

pub(crate) async fn concurrent_removals_of_last_two_administrators_allow_one(
    service: Arc<TestService>,
) {
    const ROUNDS: usize = 20;
    let (second_address, second_node) = service.second_node().await;
    let mut admin = service.admin.clone();
    for round in 0..ROUNDS {
        let successor = json!({ "name": format!("{round}"), "scopes": ["service-tokens:admin"] });
        let successor = service
            .send(&admin.secret, "POST /service-tokens", Some(successor))
            .await;
        let successor = Token::from_response(&successor.assert(201));
        // In odd rounds, each administrator removes the other one instead of itself.
        let (first, second) = match round % 2 {
            0 => (&admin, &successor),
            _ => (&successor, &admin),
        };
        // Updates that set an expiry are left out, because the token could still create another one.
        let indexes = [0, 5, 6, 1];
        let [remove_first, remove_second] = [first, second].map(|target| {
            let (request, body) = removals(&service, &target.id).swap_remove(indexes[round % 4]);
            move |secret: &str| request_with_body(secret, &request, body.clone())
        });
        let barrier = Arc::new(Barrier::new(2));
        let (a, b) = tokio::join!(
            tokio::spawn(send(
                service.address,
                remove_first(&admin.secret),
                barrier.clone()
            )),
            tokio::spawn(send(
                second_address,
                remove_second(&successor.secret),
                barrier
            )),
        );
        let (a, b) = (a.unwrap(), b.unwrap());
        let is_done = |status| [200, 204].contains(&status);
        assert!(is_done(a) != is_done(b), "round {round}: {a} and {b}");
        let rejected = if is_done(a) { b } else { a };
        assert!(
            [401, 403, 409].contains(&rejected),
            "round {round}: {a} and {b}"
        );
        // The first request removes `admin` in even rounds and `successor` in odd rounds.
        if is_done(a) == (round % 2 == 0) {
            admin = successor;
        }
    }
    let listed = service.list_as(&admin.secret).await;
    let mut admins: Vec<_> = listed
        .values()
        .filter(|it| it["state"] == "active")
        .collect();
    admins.retain(|it| it["scopes"].to_string().contains("service-tokens:admin"));
    assert_eq!(admins.len(), 1);
    drop(second_node);
}
