//! Bulk revocation of many tokens requires their expected number.

use std::sync::Arc;

use serde_json::{Value, json};
use tower_service_token::lifecycle::NewToken;

use crate::authority::error_responses::Api;
use crate::authority::service::TestService;

const REVOKE: &str = "POST /service-tokens/revoke";

/// Previews a revocation by the first administrator.
async fn preview(service: &TestService, filter: &Value) -> Value {
    let body = json!({ "filter": filter, "dry_run": true });
    service
        .send_as_admin(REVOKE, Some(body))
        .await
        .assert(200)
        .json()
}

/// Asserts that the filter needs `expect`, and that nothing is revoked without the right number.
async fn assert_needs_expect(service: &TestService, secret: &str, filter: &Value, count: usize) {
    let before = service.list().await;
    for expect in [None, Some(count - 1), Some(count + 1)] {
        let mut body = json!({ "filter": filter });
        if let Some(expect) = expect {
            body["expect"] = json!(expect);
        }
        let response = service.send(secret, REVOKE, Some(body.clone())).await;
        Api::Management.assert_rejected(&response, 409, "unexpected_count", &body.to_string());
    }
    assert_eq!(service.list().await, before);
}

pub(crate) async fn filter_matching_all_tokens_needs_expect(service: Arc<TestService>) {
    let writer = service.create_with_scopes(&["service-tokens:admin"]).await;
    service.create_with_scopes(&["service-tokens:admin"]).await;
    for (id, _) in service.list().await {
        let body = json!({
            "expires_in": "30d", "labels": { "of": "all" }, "roles": ["any"],
        });
        let request = format!("PATCH /service-tokens/{id}?last_admin=true");
        service
            .send_as_admin(&request, Some(body))
            .await
            .assert(200);
    }
    for filter in [
        json!({}),
        json!({ "state": "active" }),
        json!({ "state": "active", "subject": null }),
        json!({ "name": null, "role": null, "scope": null, "subject": null, "label": null }),
        json!({ "expires_before": "9999-12-30T00:00:00Z" }),
        json!({ "label": "of=all" }),
        json!({ "role": "any" }),
    ] {
        for secret in [&service.admin.secret, &writer.secret] {
            assert_needs_expect(&service, secret, &filter, 3).await;
        }
        let preview = preview(&service, &filter).await;
        assert_eq!(preview["count"], 3, "{filter}");
        assert_eq!(preview["needs_expect"], true, "{filter}");
    }
    // An absent filter matches every token.
    let response = service.send_as_admin(REVOKE, Some(json!({}))).await;
    Api::Management.assert_rejected(&response, 409, "unexpected_count", "no filter");
}

pub(crate) async fn filter_matching_over_half_of_tokens_needs_expect(service: Arc<TestService>) {
    service.create_many("a", 4).await;
    service.create_many("b", 3).await;
    // Tokens that are not valid do not count.
    let revoked = service.create_with_scopes(&[]).await;
    let request = format!("DELETE /service-tokens/{}", revoked.id);
    service.send_as_admin(&request, None).await.assert(204);
    let expired = service.create_with_scopes(&[]).await;
    service.expire(&expired).await;

    // Four of eight valid tokens are not more than half.
    let filter = json!({ "label": "of=a" });
    let half = preview(&service, &filter).await;
    assert_eq!(
        (&half["count"], &half["needs_expect"]),
        (&json!(4), &json!(false))
    );
    let listed = service.list().await;
    let (id, _) = listed.iter().find(|(_, it)| it["name"] == "b-0").unwrap();
    service.patch(id, json!({ "labels": { "of": "a" } })).await;
    assert_needs_expect(&service, &service.admin.secret, &filter, 5).await;
    assert_eq!(preview(&service, &filter).await["needs_expect"], true);
    let body = json!({ "filter": filter, "expect": 5 });
    let revoked = service
        .send_as_admin(REVOKE, Some(body))
        .await
        .assert(200)
        .json();
    assert_eq!(
        (&revoked["revoked"], &revoked["remaining"]),
        (&json!(5), &json!(0))
    );
}

pub(crate) async fn filter_matching_over_100_tokens_needs_expect(service: Arc<TestService>) {
    service.create_many("many", 101).await;
    service.create_many("rest", 102).await;
    let filter = json!({ "label": "of=many" });
    assert_needs_expect(&service, &service.admin.secret, &filter, 101).await;
    let counted = preview(&service, &filter).await;
    assert_eq!(counted["count"], 101);
    assert_eq!(counted["forbidden"], 0);
    let sample = counted["sample"].as_array().unwrap();
    assert_eq!(sample.len(), 100);
    let request = format!("DELETE /service-tokens/{}", sample[0].as_str().unwrap());
    service.send_as_admin(&request, None).await.assert(204);

    assert_eq!(preview(&service, &filter).await["needs_expect"], false);
    let revoked = service
        .send_as_admin(REVOKE, Some(json!({ "filter": filter })))
        .await;
    let revoked = revoked.assert(200).json();
    assert_eq!(
        (&revoked["revoked"], &revoked["remaining"]),
        (&json!(100), &json!(0))
    );
    let repeated = service
        .send_as_admin(REVOKE, Some(json!({ "filter": filter })))
        .await;
    assert_eq!(repeated.assert(200).json()["revoked"], 0);
}

pub(crate) async fn callers_own_token_is_revoked_last(service: Arc<TestService>) {
    let body = json!({
        "name": "writer", "scopes": ["service-tokens:write"], "labels": { "of": "set" },
    });
    let writer = service.create(body).await;
    service.create_many("set", 4).await;
    service.create_many("rest", 9).await;
    let filter = json!({ "label": "of=set" });
    // The filter matches less than half of the tokens, including that of the caller.
    assert_eq!(preview(&service, &filter).await["needs_expect"], false);
    assert_needs_expect(&service, &writer.secret, &filter, 5).await;
    let body = json!({ "filter": filter, "expect": 5 });
    let revoked = service.send(&writer.secret, REVOKE, Some(body)).await;
    let revoked = revoked.assert(200).json();
    assert_eq!(
        (&revoked["revoked"], &revoked["remaining"]),
        (&json!(5), &json!(0))
    );
    let ids = revoked["ids"].as_array().unwrap();
    assert_eq!(ids.len(), 5);
    assert_eq!(ids[4], writer.id);
    assert_eq!(service.status_of(&writer.secret).await, 401);
    let listed = service.list().await;
    for id in ids {
        assert_eq!(listed[id.as_str().unwrap()]["state"], "revoked");
    }
}

pub(crate) async fn filter_matching_100_of_1000_tokens_needs_no_expect(service: Arc<TestService>) {
    // With the administrator, there are 1,000 tokens.
    for number in 0..999 {
        let new = NewToken::new(format!("{number}"));
        let new = new.with_label("of", if number < 100 { "few" } else { "rest" });
        drop(service.tokens().create(new).await.unwrap());
    }
    let filter = json!({ "label": "of=few" });
    assert_eq!(preview(&service, &filter).await["needs_expect"], false);
    let revoked = service
        .send_as_admin(REVOKE, Some(json!({ "filter": filter })))
        .await;
    assert_eq!(revoked.assert(200).json()["revoked"], 100);
    assert_needs_expect(
        &service,
        &service.admin.secret,
        &json!({ "label": "of=rest" }),
        899,
    )
    .await;
}
