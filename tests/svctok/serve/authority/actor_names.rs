//! Who made a change, in `created_by`, in the audit trail and for idempotency keys.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tower_service_token::audit::{AuditEvent, AuditSink};
use tower_service_token::lifecycle::NewToken;

use crate::authority::error_responses::Api;
use crate::authority::service::{TestService, Token, call_with_body};
use crate::authority::slow_bodies::Pending;
use crate::http1::{HttpRequest, HttpResponse};

const CREATE: &str = "POST /service-tokens";
const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

fn creation(secret: &str) -> HttpRequest {
    let call = call_with_body(secret, CREATE, Some(json!({ "name": "once" })));
    call.with("idempotency-key", KEY)
}

async fn create_once(service: &TestService, secret: &str) -> HttpResponse {
    creation(secret).send(service.address).await
}

pub(crate) async fn audit_names_token_actors_by_kind_and_id(service: Arc<TestService>) {
    let first = service.shown(&service.admin.id).await;
    let by = first["created_by"].as_str().unwrap();
    assert!(by.starts_with("operator:"), "{by}");
    let writer = service.holder(&["service-tokens:write"]).await;
    let made = service.call(&writer.secret, CREATE, Some(json!({ "name": "made" })));
    let made = made.await.assert(201).json();
    let by = format!("token:{}", writer.id);
    assert_eq!(made["service_token"]["created_by"], by);
}

pub(crate) async fn idempotency_keys_are_scoped_to_the_caller(service: Arc<TestService>) {
    let [first, second] = [
        service.holder(&["service-tokens:write"]).await,
        service.holder(&["service-tokens:write"]).await,
    ];
    let by_first = Token::of(&create_once(&service, &first.secret).await.assert(201));
    let by_second = Token::of(&create_once(&service, &second.secret).await.assert(201));
    assert_ne!(by_first.id, by_second.id);

    // The caller is its token, whichever secret it presents.
    let rotate = service.call(&first.secret, "POST /service-tokens/self/rotate", None);
    let first = Token::of(&rotate.await.assert(200));
    let replayed = create_once(&service, &first.secret).await.assert(200);
    assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
    assert_eq!(replayed.text("/service_token/id"), by_first.id);
    assert_eq!(replayed.json()["token"], Value::Null);
}

pub(crate) async fn rejects_replay_after_caller_loses_authority(service: Arc<TestService>) {
    let [revoked, stripped] = [
        service.holder(&["service-tokens:write"]).await,
        service.holder(&["service-tokens:write"]).await,
    ];
    let mut pending = Vec::new();
    for caller in [&revoked, &stripped] {
        create_once(&service, &caller.secret).await.assert(201);
        let call = HttpRequest::new("POST", "/service-tokens").with_key(&caller.secret);
        let call = call.with("idempotency-key", KEY);
        let body = r#"{"name":"once"}"#;
        pending.push(Pending::send(&service, &call, "application/json", body).await);
    }
    let call = format!("DELETE /service-tokens/{}", revoked.id);
    service.admin(&call, None).await.assert(204);
    service.patch(&stripped.id, json!({ "scopes": [] })).await;
    let refusals = [(401, "token_revoked"), (403, "insufficient_scope")];
    let before = service.listed().await;
    for (pending, (status, code)) in pending.into_iter().zip(refusals) {
        let answer = pending.complete().await;
        Api::Management.assert_refused(&answer, status, code, "slow replay");
    }
    for (caller, (status, code)) in [revoked, stripped].iter().zip(refusals) {
        let answer = create_once(&service, &caller.secret).await;
        Api::Management.assert_refused(&answer, status, code, "replay");
    }
    assert_eq!(service.listed().await, before);
}

#[derive(Default)]
struct Actors(Mutex<Vec<String>>);

impl AuditSink for Actors {
    fn record(&self, event: &AuditEvent) {
        self.0.lock().unwrap().push(event.actor().to_owned());
    }
}

pub(crate) async fn operator_name_cannot_impersonate_token(service: Arc<TestService>) {
    let holder = service.holder(&["service-tokens:write"]).await;
    let by_holder = Token::of(&create_once(&service, &holder.secret).await.assert(201));
    let actors = Arc::new(Actors::default());
    for name in [holder.id.clone(), format!("token:{}", holder.id)] {
        let tokens = service.tokens().clone().acting_as(name.as_str());
        let tokens = tokens.with_audit_sink(actors.clone());
        let new = NewToken::new("once").with_idempotency_key(KEY);
        let made = tokens.create(new).await.unwrap();
        let by = format!("operator:{name}");
        assert_eq!(made.record().created_by(), Some(by.as_str()));
        assert_eq!(actors.0.lock().unwrap().last(), Some(&by));
        assert_ne!(made.record().id().to_string(), by_holder.id);
    }
    let replayed = create_once(&service, &holder.secret).await.assert(200);
    assert_eq!(replayed.text("/service_token/id"), by_holder.id);
}
