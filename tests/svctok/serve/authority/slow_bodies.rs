//! A caller loses its rights after the head of its request is checked and before the body is complete.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::authority::error_responses::Api;
use crate::authority::service::{TestService, Token};
use crate::http1::{self, HttpRequest, HttpResponse};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// A request whose head the service has checked and whose body it waits for.
pub(crate) struct Pending {
    stream: TcpStream,
    body: String,
}

impl Pending {
    /// Sends the head and returns after the service has requested the body, which it does only after it
    /// has authenticated the caller.
    pub(crate) async fn send(
        service: &TestService,
        request: &HttpRequest,
        media_type: &str,
        body: &str,
    ) -> Self {
        let head = request.clone().with("content-type", media_type);
        let head = head.with("content-length", &body.len().to_string());
        let head = head.with("expect", "100-continue").bytes();
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        let interim = http1::exchange(&mut stream, &head).await.unwrap();
        interim.assert(100);
        Self {
            stream,
            body: body.to_owned(),
        }
    }

    pub(crate) async fn complete(mut self) -> HttpResponse {
        self.stream.write_all(self.body.as_bytes()).await.unwrap();
        http1::read_response(&mut self.stream).await.unwrap()
    }
}

/// A change to the caller while its request is pending.
#[derive(Clone, Copy, Debug, PartialEq)]
enum CallerChange {
    Revoked,
    Disabled,
    Rotated,
    Expired,
    /// The caller loses `service-tokens:write`.
    WithoutWrite,
    /// The caller loses a role and a scope that the request needs.
    Narrowed,
}

use CallerChange::{Disabled, Expired, Narrowed, Revoked, Rotated, WithoutWrite};

impl CallerChange {
    const ALL: [Self; 6] = [Revoked, Disabled, Rotated, Expired, WithoutWrite, Narrowed];

    fn rejection(self) -> (u16, &'static str) {
        match self {
            Revoked => (401, "token_revoked"),
            Disabled => (401, "token_disabled"),
            Rotated => (401, "invalid_token"),
            Expired => (401, "token_expired"),
            WithoutWrite => (403, "insufficient_scope"),
            Narrowed => (403, "escalation_denied"),
        }
    }

    async fn apply(self, service: &TestService, caller: &Token) {
        let id = &caller.id;
        let request = |verb: &str| format!("POST /service-tokens/{id}/{verb}");
        match self {
            Revoked => {
                let request = format!("DELETE /service-tokens/{id}");
                drop(service.send_as_admin(&request, None).await.assert(204));
            }
            Disabled => drop(
                service
                    .send_as_admin(&request("disable"), None)
                    .await
                    .assert(200),
            ),
            Rotated => drop(
                service
                    .send_as_admin(&request("rotate"), None)
                    .await
                    .assert(200),
            ),
            Expired => service.expire(caller).await,
            WithoutWrite => drop(
                service
                    .patch(id, json!({ "scopes": ["builds:read"] }))
                    .await,
            ),
            Narrowed => {
                let body = json!({ "roles": [], "scopes": ["service-tokens:write"] });
                drop(service.patch(id, body).await);
            }
        }
    }
}

/// A change that a writer may make while it has the role and the scope of the target.
struct Change {
    api: Api,
    request: fn(&Token) -> String,
    body: fn(&Token) -> Value,
}

const CHANGES: [Change; 7] = [
    Change {
        api: Api::Management,
        request: |_| "POST /service-tokens".to_owned(),
        body: |_| json!({ "name": "made", "roles": ["deployer"], "scopes": ["builds:read"] }),
    },
    Change {
        api: Api::Management,
        request: |target| format!("PATCH /service-tokens/{}", target.id),
        body: |_| json!({ "description": "changed" }),
    },
    Change {
        api: Api::Management,
        request: |target| format!("POST /service-tokens/{}/rotate", target.id),
        body: |_| json!({ "grace": "1h" }),
    },
    Change {
        api: Api::Management,
        request: |_| "POST /service-tokens/revoke".to_owned(),
        body: |_| json!({ "filter": { "name": "target" }, "expect": 1 }),
    },
    Change {
        api: Api::PipeOps,
        request: |_| "POST /api/v1/service-account-tokens".to_owned(),
        body: |_| json!({ "name": "made", "permissions": ["builds:read"] }),
    },
    Change {
        api: Api::PipeOps,
        request: |target| format!("PATCH /api/v1/service-account-tokens/{}", target.id),
        body: |_| json!({ "is_active": false }),
    },
    Change {
        api: Api::StackState,
        request: |_| "POST /api/security/tokens".to_owned(),
        body: |_| json!({ "name": "made", "roles": ["deployer"], "dedicatedSubject": "" }),
    },
];

/// Sends the head of a request and returns after the caller is authenticated.
async fn send_head(service: &TestService, caller: &Token, request: &str, body: &Value) -> Pending {
    let (method, target) = request.split_once(' ').unwrap();
    let request = HttpRequest::new(method, target).with_key(&caller.secret);
    Pending::send(service, &request, JSON, &body.to_string()).await
}

/// Completes the request. Asserts that it is rejected and changes nothing.
async fn assert_unchanged(
    service: &TestService,
    pending: Pending,
    caller_change: CallerChange,
    api: Api,
    context: &str,
) {
    let before = service.list().await;
    let response = pending.complete().await;
    let (status, code) = caller_change.rejection();
    api.assert_rejected(&response, status, code, context);
    assert_eq!(service.list().await, before, "{context}");
}

pub(crate) async fn rejects_change_if_caller_loses_authority_while_body_arrives(
    service: Arc<TestService>,
) {
    let rights = json!({
        "name": "writer",
        "roles": ["deployer"],
        "scopes": ["service-tokens:write", "builds:read"],
    });
    let target = service
        .create(json!({ "name": "target", "roles": ["deployer"], "scopes": ["builds:read"] }))
        .await;
    for change in &CHANGES {
        let (request, body) = ((change.request)(&target), (change.body)(&target));
        for caller_change in CallerChange::ALL {
            let caller = service.create(rights.clone()).await;
            let pending = send_head(&service, &caller, &request, &body).await;
            caller_change.apply(&service, &caller).await;
            let context = format!("{request}, {caller_change:?}");
            assert_unchanged(&service, pending, caller_change, change.api, &context).await;
        }
    }
    assert_eq!(service.status_of(&target.secret).await, 200);
    // The same requests succeed for a caller that keeps its rights.
    for change in &CHANGES {
        let target = service.create(rights.clone()).await;
        service
            .patch(&target.id, json!({ "name": target.id }))
            .await;
        let caller = service.create(rights.clone()).await;
        let mut body = (change.body)(&target);
        if body["filter"].is_object() {
            body["filter"] = json!({ "name": target.id });
        }
        let request = (change.request)(&target);
        let response = send_head(&service, &caller, &request, &body)
            .await
            .complete()
            .await;
        assert!(
            [200, 201].contains(&response.status),
            "{request}: {response:?}"
        );
    }
}

pub(crate) async fn rejects_creating_administrator_after_caller_loses_authority(
    service: Arc<TestService>,
) {
    let body = json!({ "name": "heir", "scopes": ["service-tokens:admin"] });
    for caller_change in CallerChange::ALL {
        let caller = service
            .create_with_scopes(&["service-tokens:admin", "builds:read"])
            .await;
        let pending = send_head(&service, &caller, "POST /service-tokens", &body).await;
        caller_change.apply(&service, &caller).await;
        let context = format!("{caller_change:?}");
        assert_unchanged(&service, pending, caller_change, Api::Management, &context).await;
    }
}

pub(crate) async fn rotating_the_callers_own_token_needs_no_scope(service: Arc<TestService>) {
    let request = "POST /service-tokens/self/rotate";
    for caller_change in CallerChange::ALL {
        let caller = service.create_with_scopes(&["service-tokens:write"]).await;
        let pending = send_head(&service, &caller, request, &json!({ "grace": "1h" })).await;
        caller_change.apply(&service, &caller).await;
        if [WithoutWrite, Narrowed].contains(&caller_change) {
            let rotated = Token::from_response(&pending.complete().await.assert(200));
            assert_eq!(service.status_of(&rotated.secret).await, 200);
        } else {
            let context = format!("{caller_change:?}");
            assert_unchanged(&service, pending, caller_change, Api::Management, &context).await;
        }
    }
}

pub(crate) async fn rejects_introspection_after_caller_loses_authority(service: Arc<TestService>) {
    let subject = service.create_with_scopes(&["builds:read"]).await;
    let form = format!("token={}", subject.secret);
    let schemes: [fn(&Token) -> String; 3] = [
        |caller| format!("ApiKey {}", caller.secret),
        |caller| format!("Bearer {}", caller.secret),
        |caller| {
            let pair = format!("{}:{}", caller.id, caller.secret);
            format!("Basic {}", BASE64_STANDARD.encode(pair))
        },
    ];
    for scheme in schemes {
        for caller_change in [Revoked, Disabled, Rotated, Expired, WithoutWrite] {
            let caller = service.create_with_scopes(&["introspect"]).await;
            let request =
                HttpRequest::new("POST", "/introspect").with("authorization", &scheme(&caller));
            let pending = Pending::send(&service, &request, FORM, &form).await;
            caller_change.apply(&service, &caller).await;
            let context = format!("{caller_change:?}");
            assert_unchanged(&service, pending, caller_change, Api::Management, &context).await;
        }
        let caller = service.create_with_scopes(&["introspect"]).await;
        let request =
            HttpRequest::new("POST", "/introspect").with("authorization", &scheme(&caller));
        let pending = Pending::send(&service, &request, FORM, &form).await;
        let introspected = pending.complete().await.assert(200).json();
        assert_eq!(introspected["active"], true);
    }
}

pub(crate) async fn disabling_does_not_wait_for_a_body(service: Arc<TestService>) {
    let caller = service.create_with_scopes(&["service-tokens:write"]).await;
    let target = service.create_with_scopes(&[]).await;
    let request = format!("/service-tokens/{}/disable", target.id);
    let head = HttpRequest::new("POST", &request).with_key(&caller.secret);
    let head = head
        .with("content-type", JSON)
        .with("content-length", "100");
    // The body never arrives.
    head.send(service.address).await.assert(200);
    assert_eq!(service.status_of(&target.secret).await, 401);
}
