//! The last administrator token is removed only with confirmation.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::authority::error_responses::Api;
use crate::authority::service::{TestService, Token, call_with_body};
use crate::http1::HttpRequest;

/// The requests that end the administrator with this id, or that limit its time.
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

fn with_query(call: &str, query: &str) -> String {
    let (method, target) = call.split_once(' ').unwrap();
    format!("{method} {target}?{query}")
}

pub(crate) async fn last_administrator_removal_requires_confirmation(service: Arc<TestService>) {
    // These do not count as administrators.
    service.holder(&["service-tokens:write", "*:*"]).await;
    let ended = service.holder(&["service-tokens:admin"]).await;
    service.expire(&ended).await;
    let later = json!({ "name": "later", "scopes": ["*"], "not_before": service.time_in(3600) });
    service.create(later).await;
    let before = service.listed().await;
    for (call, body) in removals(&service, &service.admin.id) {
        for query in ["", "last_admin=false"] {
            let call = with_query(&call, query);
            let answer = service.admin(&call, body.clone()).await;
            Api::Management.assert_refused(&answer, 409, "last_admin", &call);
        }
    }
    assert_eq!(service.listed().await, before);
    // Changes that keep it an administrator need no confirmation.
    let renamed = json!({ "name": "root", "scopes": ["service-tokens:*"], "roles": ["boss"] });
    service.patch(&service.admin.id, renamed).await;
    service
        .patch(&service.admin.id, json!({ "scopes": ["**"] }))
        .await;

    // A confirmed expiry is set, and it stays an administrator until then.
    let call = format!("PATCH /service-tokens/{}?last_admin=true", service.admin.id);
    for body in [json!({ "expires_in": "2d" }), json!({ "expires_in": "1d" })] {
        service.admin(&call, Some(body)).await.assert(200);
    }
    service
        .patch(&service.admin.id, json!({ "expires_at": null }))
        .await;
}

/// Makes the change once with and once without confirmation.
async fn is_ended_once_confirmed(service: Arc<TestService>, at: usize) {
    let (call, body) = removals(&service, &service.admin.id).swap_remove(at);
    service.admin(&call, body.clone()).await.assert(409);
    let call = with_query(&call, "last_admin=true");
    let answer = service.admin(&call, body).await;
    assert!([200, 204].contains(&answer.status), "{call}: {answer:?}");
    let answer = service.admin("GET /service-tokens", None).await;
    assert!([401, 403].contains(&answer.status), "{call}: {answer:?}");
}

pub(crate) async fn confirmed_update_removes_admin_scope(service: Arc<TestService>) {
    is_ended_once_confirmed(service, 0).await;
}

pub(crate) async fn confirmed_update_postpones_last_administrator(service: Arc<TestService>) {
    is_ended_once_confirmed(service, 4).await;
}

pub(crate) async fn confirmed_request_disables_last_administrator(service: Arc<TestService>) {
    is_ended_once_confirmed(service, 5).await;
}

pub(crate) async fn confirmed_request_revokes_last_administrator(service: Arc<TestService>) {
    is_ended_once_confirmed(service, 6).await;
}

pub(crate) async fn last_administrator_revokes_itself_when_confirmed(service: Arc<TestService>) {
    is_ended_once_confirmed(service, 7).await;
}

pub(crate) async fn bulk_revocation_never_removes_last_administrator(service: Arc<TestService>) {
    let second = service.holder(&["service-tokens:**"]).await;
    service.holder(&["builds:read"]).await;
    let before = service.listed().await;
    for (filter, expect) in [
        (json!({}), json!(3)),
        (json!({ "state": "active" }), json!(3)),
    ] {
        for query in ["", "?last_admin=true"] {
            let call = format!("POST /service-tokens/revoke{query}");
            let body = json!({ "filter": filter, "expect": expect });
            let answer = service.admin(&call, Some(body)).await;
            Api::Management.assert_refused(&answer, 409, "last_admin", &call);
        }
    }
    assert_eq!(service.listed().await, before);
    let revoke = format!("DELETE /service-tokens/{}", second.id);
    service.admin(&revoke, None).await.assert(204);
    let body = json!({ "filter": { "name": "administrator" }, "expect": 1 });
    let call = "POST /service-tokens/revoke?last_admin=true";
    let answer = service.admin(call, Some(body)).await;
    Api::Management.assert_refused(&answer, 409, "last_admin", call);
}

pub(crate) async fn dialects_never_remove_last_administrator(service: Arc<TestService>) {
    let listed = service.admin("GET /api/security/tokens", None).await;
    let number = listed.assert(200).json()[0]["id"].as_i64().unwrap();
    let pipeops = format!("/api/v1/service-account-tokens/{}", service.admin.id);
    let before = service.listed().await;
    let calls = [
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
    for (api, call, body) in calls {
        for query in ["", "last_admin=true"] {
            let call = with_query(&call, query);
            let body = (!body.is_null()).then(|| body.clone());
            let answer = service.admin(&call, body).await;
            api.assert_refused(&answer, 409, "", &call);
        }
    }
    assert_eq!(service.listed().await, before);
}

pub(crate) async fn revokes_last_administrator_by_its_secret(service: Arc<TestService>) {
    let revoke = HttpRequest::form("/revoke", &service.admin.secret);
    revoke.send(service.address).await.assert(200);
    let answer = service.admin("GET /service-tokens", None).await;
    Api::Management.assert_refused(&answer, 401, "token_revoked", "list");
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
        let answer = service.admin(&with_query(&one, query), None).await;
        assert_eq!(answer.status, status, "{query}: {answer:?}");
    }
    let body = json!({ "scopes": [], "last_admin": true });
    let patch = format!("PATCH /service-tokens/{}", service.admin.id);
    service.admin(&patch, Some(body)).await.assert(422);
    assert_eq!(service.status_of(&service.admin.secret).await, 200);
}

/// Sends a request as soon as the other one is about to be sent.
async fn send(address: SocketAddr, call: HttpRequest, barrier: Arc<Barrier>) -> u16 {
    barrier.wait().await;
    call.send(address).await.status
}

pub(crate) async fn concurrent_removals_of_last_two_administrators_allow_one(
    service: Arc<TestService>,
) {
    const ROUNDS: usize = 20;
    let (second_address, second_node) = service.second_node().await;
    let mut admin = service.admin.clone();
    for round in 0..ROUNDS {
        let heir = json!({ "name": format!("{round}"), "scopes": ["service-tokens:admin"] });
        let heir = service
            .call(&admin.secret, "POST /service-tokens", Some(heir))
            .await;
        let heir = Token::of(&heir.assert(201));
        // In every other round each revokes the other instead of itself.
        let (first, second) = match round % 2 {
            0 => (&admin, &heir),
            _ => (&heir, &admin),
        };
        // An update that sets an expiry revokes no token, and the token could create another.
        let kinds = [0, 5, 6, 1];
        let [of_first, of_second] = [first, second].map(|target| {
            let (call, body) = removals(&service, &target.id).swap_remove(kinds[round % 4]);
            move |secret: &str| call_with_body(secret, &call, body.clone())
        });
        let barrier = Arc::new(Barrier::new(2));
        let (a, b) = tokio::join!(
            tokio::spawn(send(
                service.address,
                of_first(&admin.secret),
                barrier.clone()
            )),
            tokio::spawn(send(second_address, of_second(&heir.secret), barrier)),
        );
        let (a, b) = (a.unwrap(), b.unwrap());
        let is_done = |status| [200, 204].contains(&status);
        assert!(is_done(a) != is_done(b), "round {round}: {a} and {b}");
        let refused = if is_done(a) { b } else { a };
        assert!(
            [401, 403, 409].contains(&refused),
            "round {round}: {a} and {b}"
        );
        // The first request is for the first administrator in even rounds, else for the second.
        if is_done(a) == (round % 2 == 0) {
            admin = heir;
        }
    }
    let listed = service.listed_by(&admin.secret).await;
    let mut admins: Vec<_> = listed
        .values()
        .filter(|it| it["state"] == "active")
        .collect();
    admins.retain(|it| it["scopes"].to_string().contains("service-tokens:admin"));
    assert_eq!(admins.len(), 1);
    drop(second_node);
}
