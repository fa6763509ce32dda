//! Of several rotations with one secret, one succeeds, and its secret is the one that works.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::authority::service::{TestService, Token, call_with_body};
use crate::http1::HttpResponse;

const ROTATE_OWN: &str = "POST /service-tokens/self/rotate";
const AT_A_TIME: usize = 10;

/// Sends the same request ten times at the same time.
async fn send_ten(
    service: &TestService,
    secret: &str,
    call: &str,
    body: &Value,
    etag: &str,
) -> Vec<HttpResponse> {
    let mut requests = JoinSet::new();
    for _ in 0..AT_A_TIME {
        let mut call = call_with_body(secret, call, Some(body.clone()));
        if !etag.is_empty() {
            call = call.with("if-match", etag);
        }
        let address = service.address;
        requests.spawn(async move { call.send(address).await });
    }
    requests.join_all().await
}

/// The secret of the only rotation that succeeded. All others have one of these statuses.
#[track_caller]
fn only_success(answers: &[HttpResponse], refusals: &[u16]) -> String {
    let mut statuses = BTreeMap::new();
    for answer in answers {
        *statuses.entry(answer.status).or_insert(0) += 1;
    }
    assert_eq!(statuses.remove(&200), Some(1), "{answers:?}");
    for status in statuses.keys() {
        assert!(refusals.contains(status), "{answers:?}");
    }
    let rotated = answers.iter().find(|it| it.status == 200).unwrap();
    rotated.text("/token")
}

pub(crate) async fn superseded_secret_cannot_complete_rotation(service: Arc<TestService>) {
    let leaked = service.holder(&["builds:read"]).await;
    let call = call_with_body(&leaked.secret, ROTATE_OWN, None);
    let pending =
        crate::authority::slow_bodies::Pending::send(&service, &call, "application/json", "{}")
            .await;
    let owner = service.call(&leaked.secret, ROTATE_OWN, None).await;
    let owner = Token::of(&owner.assert(200));
    pending.complete().await.assert(401);
    assert_eq!(service.status_of(&owner.secret).await, 200);
    assert_eq!(service.status_of(&leaked.secret).await, 401);
}

pub(crate) async fn concurrent_self_rotations_allow_one(service: Arc<TestService>) {
    let mut token = service.holder(&["builds:read"]).await;
    for _ in 0..5 {
        let old = token.secret.clone();
        let answers = send_ten(&service, &old, ROTATE_OWN, &json!({}), "").await;
        token.secret = only_success(&answers, &[401]);
        assert_eq!(service.status_of(&token.secret).await, 200);
        assert_eq!(service.status_of(&old).await, 401);
    }
}

pub(crate) async fn concurrent_self_rotations_with_grace_allow_one(service: Arc<TestService>) {
    let mut token = service.holder(&["builds:read"]).await;
    let grace = json!({ "grace": "1h" });
    for _ in 0..5 {
        let old = token.secret.clone();
        let answers = send_ten(&service, &old, ROTATE_OWN, &grace, "").await;
        token.secret = only_success(&answers, &[409, 428]);
        assert_eq!(service.status_of(&token.secret).await, 200);
        assert_eq!(service.status_of(&old).await, 200);

        // The same with the revision that all of them read.
        let own = service.call(&token.secret, "GET /service-tokens/self", None);
        let own = own.await.assert(200);
        let etag = own.header("etag").unwrap();
        let answers = send_ten(&service, &token.secret, ROTATE_OWN, &grace, etag).await;
        let last = only_success(&answers, &[409, 412]);
        assert_eq!(service.status_of(&last).await, 200);
        assert_eq!(service.status_of(&token.secret).await, 200);
        assert_eq!(service.status_of(&old).await, 401);
        token.secret = last;
    }
}

pub(crate) async fn concurrent_administrator_rotations_leave_one_valid_secret(
    service: Arc<TestService>,
) {
    let token = service.holder(&["builds:read"]).await;
    let call = format!("POST /service-tokens/{}/rotate", token.id);
    for _ in 0..5 {
        let answers = send_ten(&service, &service.admin.secret, &call, &json!({}), "").await;
        let mut works = 0;
        for answer in &answers {
            assert!([200, 409].contains(&answer.status), "{answer:?}");
            if answer.status == 200 {
                let status = service.status_of(&answer.text("/token")).await;
                works += u32::from(status == 200);
            }
        }
        assert_eq!(works, 1, "{answers:?}");
        assert_eq!(service.status_of(&token.secret).await, 401);
    }
}

pub(crate) async fn previous_secret_rotates_only_at_current_revision(service: Arc<TestService>) {
    let grace = json!({ "grace": "1h" });
    let created = service.holder(&["service-tokens:write"]).await;
    let rotated = service.call(&created.secret, ROTATE_OWN, Some(grace.clone()));
    let rotated = Token::of(&rotated.await.assert(200));
    let by_id = format!("POST /service-tokens/{}/rotate", created.id);

    let shown = service.call(&created.secret, "GET /service-tokens/self", None);
    let shown = shown.await.assert(200);
    let etag = shown.header("etag").unwrap();
    let before = service.listed().await;
    for call in [ROTATE_OWN, &by_id] {
        for (condition, status) in [
            ("", 428),
            ("*", 428),
            ("\"1\"", 412),
            ("W/\"2\"", 412),
            ("\"1\", \"2\", \"3\"", 428),
        ] {
            let mut call = call_with_body(&created.secret, call, Some(json!({})));
            if !condition.is_empty() {
                call = call.with("if-match", condition);
            }
            let answer = call.send(service.address).await.assert(status);
            let codes = [(428, "precondition_required"), (412, "precondition_failed")];
            assert!(codes.contains(&(status, answer.json()["code"].as_str().unwrap())));
        }
    }
    assert_eq!(service.listed().await, before);
    assert_eq!(service.status_of(&rotated.secret).await, 200);

    let call = call_with_body(&created.secret, ROTATE_OWN, Some(json!({})));
    let recovered = call.with("if-match", etag).send(service.address).await;
    let recovered = Token::of(&recovered.assert(200));
    assert_eq!(service.status_of(&recovered.secret).await, 200);
    // Without a grace period, neither the presented secret nor the lost one works.
    assert_eq!(service.status_of(&created.secret).await, 401);
    assert_eq!(service.status_of(&rotated.secret).await, 401);
}

pub(crate) async fn recovery_rotation_ends_lost_secret_and_keeps_presented_one(
    service: Arc<TestService>,
) {
    let created = service.holder(&["service-tokens:write"]).await;
    let rotate = async |grace: &str, etag: Option<&str>| {
        let body = Some(json!({ "grace": grace }));
        let mut call = call_with_body(&created.secret, ROTATE_OWN, body);
        if let Some(etag) = etag {
            call = call.with("if-match", etag);
        }
        call.send(service.address).await.assert(200)
    };
    let first = rotate("1h", None).await;
    let (mut lost, grace_end) = (Token::of(&first), first.json()["grace_ends_at"].clone());
    // Each time the response is lost. A longer grace does not extend the current one.
    for _ in 0..3 {
        let shown = service.call(&created.secret, "GET /service-tokens/self", None);
        let shown = shown.await.assert(200);
        let again = rotate("30d", shown.header("etag")).await;
        assert_eq!(again.json()["grace_ends_at"], grace_end);
        assert_eq!(service.status_of(&lost.secret).await, 401);
        assert_eq!(service.status_of(&created.secret).await, 200);
        lost = Token::of(&again);
        assert_eq!(service.status_of(&lost.secret).await, 200);
    }
}
