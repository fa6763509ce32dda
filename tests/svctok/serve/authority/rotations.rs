//! Of several rotations with one secret, exactly one succeeds, and its secret is the valid one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::authority::service::{TestService, Token, request_with_body};
use crate::http1::HttpResponse;

const ROTATE_OWN: &str = "POST /service-tokens/self/rotate";
const CONCURRENCY: usize = 10;

/// Sends the same request ten times concurrently.
async fn send_ten(
    service: &TestService,
    secret: &str,
    request: &str,
    body: &Value,
    etag: &str,
) -> Vec<HttpResponse> {
    let mut requests = JoinSet::new();
    for _ in 0..CONCURRENCY {
        let mut request = request_with_body(secret, request, Some(body.clone()));
        if !etag.is_empty() {
            request = request.with("if-match", etag);
        }
        let address = service.address;
        requests.spawn(async move { request.send(address).await });
    }
    requests.join_all().await
}

/// Returns the secret of the only rotation that succeeded. Asserts that all others have one of these
/// statuses.
#[track_caller]
fn only_success(responses: &[HttpResponse], rejections: &[u16]) -> String {
    let mut statuses = BTreeMap::new();
    for response in responses {
        *statuses.entry(response.status).or_insert(0) += 1;
    }
    assert_eq!(statuses.remove(&200), Some(1), "{responses:?}");
    for status in statuses.keys() {
        assert!(rejections.contains(status), "{responses:?}");
    }
    let rotated = responses.iter().find(|it| it.status == 200).unwrap();
    rotated.text("/token")
}

pub(crate) async fn superseded_secret_cannot_complete_rotation(service: Arc<TestService>) {
    let leaked = service.create_with_scopes(&["builds:read"]).await;
    let request = request_with_body(&leaked.secret, ROTATE_OWN, None);
    let pending =
        crate::authority::slow_bodies::Pending::send(&service, &request, "application/json", "{}")
            .await;
    let owner = service.send(&leaked.secret, ROTATE_OWN, None).await;
    let owner = Token::from_response(&owner.assert(200));
    pending.complete().await.assert(401);
    assert_eq!(service.status_of(&owner.secret).await, 200);
    assert_eq!(service.status_of(&leaked.secret).await, 401);
}

pub(crate) async fn concurrent_self_rotations_allow_one(service: Arc<TestService>) {
    let mut token = service.create_with_scopes(&["builds:read"]).await;
    for _ in 0..5 {
        let old = token.secret.clone();
        let responses = send_ten(&service, &old, ROTATE_OWN, &json!({}), "").await;
        token.secret = only_success(&responses, &[401]);
        assert_eq!(service.status_of(&token.secret).await, 200);
        assert_eq!(service.status_of(&old).await, 401);
    }
}

pub(crate) async fn concurrent_self_rotations_with_grace_allow_one(service: Arc<TestService>) {
    let mut token = service.create_with_scopes(&["builds:read"]).await;
    let grace = json!({ "grace": "1h" });
    for _ in 0..5 {
        let old = token.secret.clone();
        let responses = send_ten(&service, &old, ROTATE_OWN, &grace, "").await;
        token.secret = only_success(&responses, &[409, 428]);
        assert_eq!(service.status_of(&token.secret).await, 200);
        assert_eq!(service.status_of(&old).await, 200);

        // The same applies with the revision that all of them have read.
        let current = service.send(&token.secret, "GET /service-tokens/self", None);
        let current = current.await.assert(200);
        let etag = current.header("etag").unwrap();
        let responses = send_ten(&service, &token.secret, ROTATE_OWN, &grace, etag).await;
        let last = only_success(&responses, &[409, 412]);
        assert_eq!(service.status_of(&last).await, 200);
        assert_eq!(service.status_of(&token.secret).await, 200);
        assert_eq!(service.status_of(&old).await, 401);
        token.secret = last;
    }
}

pub(crate) async fn concurrent_administrator_rotations_leave_one_valid_secret(
    service: Arc<TestService>,
) {
    let token = service.create_with_scopes(&["builds:read"]).await;
    let request = format!("POST /service-tokens/{}/rotate", token.id);
    for _ in 0..5 {
        let responses = send_ten(&service, &service.admin.secret, &request, &json!({}), "").await;
        let mut valid = 0;
        for response in &responses {
            assert!([200, 409].contains(&response.status), "{response:?}");
            if response.status == 200 {
                let status = service.status_of(&response.text("/token")).await;
                valid += u32::from(status == 200);
            }
        }
        assert_eq!(valid, 1, "{responses:?}");
        assert_eq!(service.status_of(&token.secret).await, 401);
    }
}

pub(crate) async fn previous_secret_rotates_only_at_current_revision(service: Arc<TestService>) {
    let grace = json!({ "grace": "1h" });
    let created = service.create_with_scopes(&["service-tokens:write"]).await;
    let rotated = service.send(&created.secret, ROTATE_OWN, Some(grace.clone()));
    let rotated = Token::from_response(&rotated.await.assert(200));
    let by_id = format!("POST /service-tokens/{}/rotate", created.id);

    let current = service.send(&created.secret, "GET /service-tokens/self", None);
    let current = current.await.assert(200);
    let etag = current.header("etag").unwrap();
    let before = service.list().await;
    for request in [ROTATE_OWN, &by_id] {
        for (condition, status) in [
            ("", 428),
            ("*", 428),
            ("\"1\"", 412),
            ("W/\"2\"", 412),
            ("\"1\", \"2\", \"3\"", 428),
        ] {
            let mut request = request_with_body(&created.secret, request, Some(json!({})));
            if !condition.is_empty() {
                request = request.with("if-match", condition);
            }
            let response = request.send(service.address).await.assert(status);
            let codes = [(428, "precondition_required"), (412, "precondition_failed")];
            assert!(codes.contains(&(status, response.json()["code"].as_str().unwrap())));
        }
    }
    assert_eq!(service.list().await, before);
    assert_eq!(service.status_of(&rotated.secret).await, 200);

    let request = request_with_body(&created.secret, ROTATE_OWN, Some(json!({})));
    let recovered = request.with("if-match", etag).send(service.address).await;
    let recovered = Token::from_response(&recovered.assert(200));
    assert_eq!(service.status_of(&recovered.secret).await, 200);
    // Without a grace period, neither the presented secret nor the lost one is valid.
    assert_eq!(service.status_of(&created.secret).await, 401);
    assert_eq!(service.status_of(&rotated.secret).await, 401);
}

pub(crate) async fn recovery_rotation_invalidates_lost_secret_and_keeps_presented_one(
    service: Arc<TestService>,
) {
    let created = service.create_with_scopes(&["service-tokens:write"]).await;
    let rotate = async |grace: &str, etag: Option<&str>| {
        let body = Some(json!({ "grace": grace }));
        let mut request = request_with_body(&created.secret, ROTATE_OWN, body);
        if let Some(etag) = etag {
            request = request.with("if-match", etag);
        }
        request.send(service.address).await.assert(200)
    };
    let first = rotate("1h", None).await;
    let (mut lost, grace_end) = (
        Token::from_response(&first),
        first.json()["grace_ends_at"].clone(),
    );
    // Each response is lost. A longer grace period does not extend the current one.
    for _ in 0..3 {
        let current = service.send(&created.secret, "GET /service-tokens/self", None);
        let current = current.await.assert(200);
        let next = rotate("30d", current.header("etag")).await;
        assert_eq!(next.json()["grace_ends_at"], grace_end);
        assert_eq!(service.status_of(&lost.secret).await, 401);
        assert_eq!(service.status_of(&created.secret).await, 200);
        lost = Token::from_response(&next);
        assert_eq!(service.status_of(&lost.secret).await, 200);
    }
}
