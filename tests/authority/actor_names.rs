//! Who made a change, in `created_by`, in the audit trail and for idempotency keys.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tower_service_token::lifecycle::NewToken;
use tower_service_token::store::{AuditEvent, AuditSink};

use crate::refusal::Api;
use crate::site::{Site, Token, call_with_body};
use crate::slow_bodies::Pending;
use crate::wire::{Answer, Call};

const CREATE: &str = "POST /service-tokens";
const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

fn creation(secret: &str) -> Call {
    let call = call_with_body(secret, CREATE, Some(json!({ "name": "once" })));
    call.with("idempotency-key", KEY)
}

async fn create_once(site: &Site, secret: &str) -> Answer {
    creation(secret).send(site.address).await
}

pub(crate) async fn a_token_is_named_by_its_kind_and_id(site: Arc<Site>) {
    let first = site.shown(&site.admin.id).await;
    let by = first["created_by"].as_str().unwrap();
    assert!(by.starts_with("operator:"), "{by}");
    let writer = site.holder(&["service-tokens:write"]).await;
    let made = site.call(&writer.secret, CREATE, Some(json!({ "name": "made" })));
    let made = made.await.assert(201).json();
    let by = format!("token:{}", writer.id);
    assert_eq!(made["service_token"]["created_by"], by);
}

pub(crate) async fn idempotency_keys_belong_to_one_caller(site: Arc<Site>) {
    let [first, second] = [
        site.holder(&["service-tokens:write"]).await,
        site.holder(&["service-tokens:write"]).await,
    ];
    let by_first = Token::of(&create_once(&site, &first.secret).await.assert(201));
    let by_second = Token::of(&create_once(&site, &second.secret).await.assert(201));
    assert_ne!(by_first.id, by_second.id);

    // The caller is its token, whichever secret it presents.
    let rotate = site.call(&first.secret, "POST /service-tokens/self/rotate", None);
    let first = Token::of(&rotate.await.assert(200));
    let replayed = create_once(&site, &first.secret).await.assert(200);
    assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
    assert_eq!(replayed.text("/service_token/id"), by_first.id);
    assert_eq!(replayed.json()["token"], Value::Null);
}

pub(crate) async fn a_replay_is_refused_once_the_caller_ended(site: Arc<Site>) {
    let [revoked, stripped] = [
        site.holder(&["service-tokens:write"]).await,
        site.holder(&["service-tokens:write"]).await,
    ];
    let mut pending = Vec::new();
    for caller in [&revoked, &stripped] {
        create_once(&site, &caller.secret).await.assert(201);
        let call = Call::new("POST", "/service-tokens").with_key(&caller.secret);
        let call = call.with("idempotency-key", KEY);
        let body = r#"{"name":"once"}"#;
        pending.push(Pending::send(&site, &call, "application/json", body).await);
    }
    let call = format!("DELETE /service-tokens/{}", revoked.id);
    site.admin(&call, None).await.assert(204);
    site.patch(&stripped.id, json!({ "scopes": [] })).await;
    let refusals = [(401, "token_revoked"), (403, "insufficient_scope")];
    let before = site.listed().await;
    for (pending, (status, code)) in pending.into_iter().zip(refusals) {
        let answer = pending.complete().await;
        Api::Problem.assert_refused(&answer, status, code, "slow replay");
    }
    for (caller, (status, code)) in [revoked, stripped].iter().zip(refusals) {
        let answer = create_once(&site, &caller.secret).await;
        Api::Problem.assert_refused(&answer, status, code, "replay");
    }
    assert_eq!(site.listed().await, before);
}

#[derive(Default)]
struct Actors(Mutex<Vec<String>>);

impl AuditSink for Actors {
    fn record(&self, event: &AuditEvent) {
        self.0.lock().unwrap().push(event.actor().to_owned());
    }
}

pub(crate) async fn an_operator_named_like_a_token_is_not_that_token(site: Arc<Site>) {
    let holder = site.holder(&["service-tokens:write"]).await;
    let by_holder = Token::of(&create_once(&site, &holder.secret).await.assert(201));
    let actors = Arc::new(Actors::default());
    for name in [holder.id.clone(), format!("token:{}", holder.id)] {
        let tokens = site.tokens().clone().acting_as(name.as_str());
        let tokens = tokens.with_audit_sink(actors.clone());
        let new = NewToken::new("once").with_idempotency_key(KEY);
        let made = tokens.create(new).await.unwrap();
        let by = format!("operator:{name}");
        assert_eq!(made.record().created_by(), Some(by.as_str()));
        assert_eq!(actors.0.lock().unwrap().last(), Some(&by));
        assert_ne!(made.record().id().to_string(), by_holder.id);
    }
    let replayed = create_once(&site, &holder.secret).await.assert(200);
    assert_eq!(replayed.text("/service_token/id"), by_holder.id);
}
