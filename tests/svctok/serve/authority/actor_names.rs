//! The actor of a change in `created_by`, in the audit trail and for idempotency keys.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tower_service_token::audit::{AuditEvent, AuditSink};
use tower_service_token::lifecycle::{NewToken, Operator};

use crate::authority::error_responses::Api;
use crate::authority::service::{TestService, Token, request_with_body};
use crate::authority::slow_bodies::Pending;
use crate::http1::{HttpRequest, HttpResponse};

const CREATE: &str = "POST /service-tokens";
const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

fn creation_request(secret: &str) -> HttpRequest {
    let request = request_with_body(secret, CREATE, Some(json!({ "name": "once" })));
    request.with("idempotency-key", KEY)
}

async fn create_once(service: &TestService, secret: &str) -> HttpResponse {
    creation_request(secret).send(service.address).await
}

pub(crate) async fn audit_names_token_actors_by_kind_and_id(service: Arc<TestService>) {
    let first = service.get(&service.admin.id).await;
    let creator = first["created_by"].as_str().unwrap();
    assert!(creator.starts_with("operator:"), "{creator}");
    let writer = service.create_with_scopes(&["service-tokens:write"]).await;
    let created = service.send(&writer.secret, CREATE, Some(json!({ "name": "made" })));
    let created = created.await.assert(201).json();
    let creator = format!("token:{}", writer.id);
    assert_eq!(created["service_token"]["created_by"], creator);
}

pub(crate) async fn idempotency_keys_are_scoped_to_the_caller(service: Arc<TestService>) {
    let [first, second] = [
        service.create_with_scopes(&["service-tokens:write"]).await,
        service.create_with_scopes(&["service-tokens:write"]).await,
    ];
    let by_first = Token::from_response(&create_once(&service, &first.secret).await.assert(201));
    let by_second = Token::from_response(&create_once(&service, &second.secret).await.assert(201));
    assert_ne!(by_first.id, by_second.id);

    // The key belongs to the token of the caller, not to the secret that it presents.
    let rotate = service.send(&first.secret, "POST /service-tokens/self/rotate", None);
    let first = Token::from_response(&rotate.await.assert(200));
    let replayed = create_once(&service, &first.secret).await.assert(200);
    assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
    assert_eq!(replayed.text("/service_token/id"), by_first.id);
    assert_eq!(replayed.json()["token"], Value::Null);
}

pub(crate) async fn rejects_replay_after_caller_loses_authority(service: Arc<TestService>) {
    let [revoked, stripped] = [
        service.create_with_scopes(&["service-tokens:write"]).await,
        service.create_with_scopes(&["service-tokens:write"]).await,
    ];
    let mut pending = Vec::new();
    for caller in [&revoked, &stripped] {
        create_once(&service, &caller.secret).await.assert(201);
        let request = HttpRequest::new("POST", "/service-tokens").with_key(&caller.secret);
        let request = request.with("idempotency-key", KEY);
        let body = r#"{"name":"once"}"#;
        pending.push(Pending::send(&service, &request, "application/json", body).await);
    }
    let request = format!("DELETE /service-tokens/{}", revoked.id);
    service.send_as_admin(&request, None).await.assert(204);
    service.patch(&stripped.id, json!({ "scopes": [] })).await;
    let rejections = [(401, "token_revoked"), (403, "insufficient_scope")];
    let before = service.list().await;
    for (pending, (status, code)) in pending.into_iter().zip(rejections) {
        let response = pending.complete().await;
        Api::Management.assert_rejected(&response, status, code, "slow replay");
    }
    for (caller, (status, code)) in [revoked, stripped].iter().zip(rejections) {
        let response = create_once(&service, &caller.secret).await;
        Api::Management.assert_rejected(&response, status, code, "replay");
    }
    assert_eq!(service.list().await, before);
}

/// An audit sink that records the actor of each event.
#[derive(Default)]
struct Actors(Mutex<Vec<String>>);

impl AuditSink for Actors {
    fn record(&self, event: &AuditEvent) {
        self.0.lock().unwrap().push(event.actor().to_owned());
    }
}

pub(crate) async fn operator_name_cannot_impersonate_token(service: Arc<TestService>) {
    let holder = service.create_with_scopes(&["service-tokens:write"]).await;
    let by_holder = Token::from_response(&create_once(&service, &holder.secret).await.assert(201));
    let actors = Arc::new(Actors::default());
    for name in [holder.id.clone(), format!("token:{}", holder.id)] {
        let tokens = service
            .tokens()
            .clone()
            .acting_for(Operator::new(name.as_str()));
        let tokens = tokens.with_audit_sink(actors.clone());
        let new = NewToken::new("once").with_idempotency_key(KEY);
        let created = tokens.create(new).await.unwrap();
        let creator = format!("operator:{name}");
        assert_eq!(created.record().created_by(), Some(creator.as_str()));
        assert_eq!(actors.0.lock().unwrap().last(), Some(&creator));
        assert_ne!(created.record().id().to_string(), by_holder.id);
    }
    let replayed = create_once(&service, &holder.secret).await.assert(200);
    assert_eq!(replayed.text("/service_token/id"), by_holder.id);
}
