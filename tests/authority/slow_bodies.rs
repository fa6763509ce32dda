//! A caller's rights end after its request's head is judged and before its body is complete.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::refusal::Api;
use crate::site::{Site, Token};
use crate::wire::{self, Answer, Call};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// A request whose head the service has judged and whose body it waits for.
pub(crate) struct Pending {
    stream: TcpStream,
    body: String,
}

impl Pending {
    /// Sends the head, and returns once the service asks for the body, as it does only after it
    /// has authenticated the caller.
    pub(crate) async fn send(site: &Site, call: &Call, media_type: &str, body: &str) -> Self {
        let head = call.clone().with("content-type", media_type);
        let head = head.with("content-length", &body.len().to_string());
        let head = head.with("expect", "100-continue").bytes();
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        let interim = wire::exchange(&mut stream, &head).await.unwrap();
        interim.assert(100);
        Self {
            stream,
            body: body.to_owned(),
        }
    }

    pub(crate) async fn complete(mut self) -> Answer {
        self.stream.write_all(self.body.as_bytes()).await.unwrap();
        wire::answer(&mut self.stream).await.unwrap()
    }
}

/// What happens to the caller meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Revoked,
    Disabled,
    Rotated,
    Expired,
    /// It loses `service-tokens:write`.
    WithoutWrite,
    /// It loses a role and a scope that the change needs.
    Narrowed,
}

use Ending::{Disabled, Expired, Narrowed, Revoked, Rotated, WithoutWrite};

impl Ending {
    const ALL: [Self; 6] = [Revoked, Disabled, Rotated, Expired, WithoutWrite, Narrowed];

    fn refusal(self) -> (u16, &'static str) {
        match self {
            Revoked => (401, "token_revoked"),
            Disabled => (401, "token_disabled"),
            Rotated => (401, "invalid_token"),
            Expired => (401, "token_expired"),
            WithoutWrite => (403, "insufficient_scope"),
            Narrowed => (403, "escalation_denied"),
        }
    }

    async fn happen(self, site: &Site, caller: &Token) {
        let id = &caller.id;
        let call = |verb: &str| format!("POST /service-tokens/{id}/{verb}");
        match self {
            Revoked => {
                let call = format!("DELETE /service-tokens/{id}");
                drop(site.admin(&call, None).await.assert(204));
            }
            Disabled => drop(site.admin(&call("disable"), None).await.assert(200)),
            Rotated => drop(site.admin(&call("rotate"), None).await.assert(200)),
            Expired => site.expire(caller).await,
            WithoutWrite => drop(site.patch(id, json!({ "scopes": ["builds:read"] })).await),
            Narrowed => {
                let body = json!({ "roles": [], "scopes": ["service-tokens:write"] });
                drop(site.patch(id, body).await);
            }
        }
    }
}

/// A change that a writer may make as long as it holds the role and the scope of its target.
struct Change {
    api: Api,
    call: fn(&Token) -> String,
    body: fn(&Token) -> Value,
}

const CHANGES: [Change; 7] = [
    Change {
        api: Api::Problem,
        call: |_| "POST /service-tokens".to_owned(),
        body: |_| json!({ "name": "made", "roles": ["deployer"], "scopes": ["builds:read"] }),
    },
    Change {
        api: Api::Problem,
        call: |target| format!("PATCH /service-tokens/{}", target.id),
        body: |_| json!({ "description": "changed" }),
    },
    Change {
        api: Api::Problem,
        call: |target| format!("POST /service-tokens/{}/rotate", target.id),
        body: |_| json!({ "grace": "1h" }),
    },
    Change {
        api: Api::Problem,
        call: |_| "POST /service-tokens/revoke".to_owned(),
        body: |_| json!({ "filter": { "name": "target" }, "expect": 1 }),
    },
    Change {
        api: Api::PipeOps,
        call: |_| "POST /api/v1/service-account-tokens".to_owned(),
        body: |_| json!({ "name": "made", "permissions": ["builds:read"] }),
    },
    Change {
        api: Api::PipeOps,
        call: |target| format!("PATCH /api/v1/service-account-tokens/{}", target.id),
        body: |_| json!({ "is_active": false }),
    },
    Change {
        api: Api::StackState,
        call: |_| "POST /api/security/tokens".to_owned(),
        body: |_| json!({ "name": "made", "roles": ["deployer"], "dedicatedSubject": "" }),
    },
];

/// Sends the head of `call` and returns once its caller was authenticated.
async fn begin(site: &Site, caller: &Token, call: &str, body: &Value) -> Pending {
    let (method, target) = call.split_once(' ').unwrap();
    let call = Call::new(method, target).with_key(&caller.secret);
    Pending::send(site, &call, JSON, &body.to_string()).await
}

/// Asserts that the completed request is refused and changes nothing.
async fn assert_unchanged(site: &Site, pending: Pending, ending: Ending, api: Api, what: &str) {
    let before = site.listed().await;
    let answer = pending.complete().await;
    let (status, code) = ending.refusal();
    api.assert_refused(&answer, status, code, what);
    assert_eq!(site.listed().await, before, "{what}");
}

pub(crate) async fn a_caller_that_ends_while_its_body_arrives_changes_nothing(site: Arc<Site>) {
    let rights = json!({
        "name": "writer",
        "roles": ["deployer"],
        "scopes": ["service-tokens:write", "builds:read"],
    });
    let target = site
        .create(json!({ "name": "target", "roles": ["deployer"], "scopes": ["builds:read"] }))
        .await;
    for change in &CHANGES {
        let (call, body) = ((change.call)(&target), (change.body)(&target));
        for ending in Ending::ALL {
            let caller = site.create(rights.clone()).await;
            let pending = begin(&site, &caller, &call, &body).await;
            ending.happen(&site, &caller).await;
            let what = format!("{call}, {ending:?}");
            assert_unchanged(&site, pending, ending, change.api, &what).await;
        }
    }
    assert_eq!(site.status_of(&target.secret).await, 200);
    // The same requests succeed for a caller that keeps its rights.
    for change in &CHANGES {
        let target = site.create(rights.clone()).await;
        site.patch(&target.id, json!({ "name": target.id })).await;
        let caller = site.create(rights.clone()).await;
        let mut body = (change.body)(&target);
        if body["filter"].is_object() {
            body["filter"] = json!({ "name": target.id });
        }
        let call = (change.call)(&target);
        let answer = begin(&site, &caller, &call, &body).await.complete().await;
        assert!([200, 201].contains(&answer.status), "{call}: {answer:?}");
    }
}

pub(crate) async fn an_administrator_that_ends_leaves_no_administrator_behind(site: Arc<Site>) {
    let body = json!({ "name": "heir", "scopes": ["service-tokens:admin"] });
    for ending in Ending::ALL {
        let caller = site.holder(&["service-tokens:admin", "builds:read"]).await;
        let pending = begin(&site, &caller, "POST /service-tokens", &body).await;
        ending.happen(&site, &caller).await;
        let what = format!("{ending:?}");
        assert_unchanged(&site, pending, ending, Api::Problem, &what).await;
    }
}

pub(crate) async fn rotating_its_own_token_needs_no_scope(site: Arc<Site>) {
    let call = "POST /service-tokens/self/rotate";
    for ending in Ending::ALL {
        let caller = site.holder(&["service-tokens:write"]).await;
        let pending = begin(&site, &caller, call, &json!({ "grace": "1h" })).await;
        ending.happen(&site, &caller).await;
        if [WithoutWrite, Narrowed].contains(&ending) {
            let rotated = Token::of(&pending.complete().await.assert(200));
            assert_eq!(site.status_of(&rotated.secret).await, 200);
        } else {
            let what = format!("{ending:?}");
            assert_unchanged(&site, pending, ending, Api::Problem, &what).await;
        }
    }
}

pub(crate) async fn introspection_ends_with_its_caller(site: Arc<Site>) {
    let subject = site.holder(&["builds:read"]).await;
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
        for ending in [Revoked, Disabled, Rotated, Expired, WithoutWrite] {
            let caller = site.holder(&["introspect"]).await;
            let call = Call::new("POST", "/introspect").with("authorization", &scheme(&caller));
            let pending = Pending::send(&site, &call, FORM, &form).await;
            ending.happen(&site, &caller).await;
            let what = format!("{ending:?}");
            assert_unchanged(&site, pending, ending, Api::Problem, &what).await;
        }
        let caller = site.holder(&["introspect"]).await;
        let call = Call::new("POST", "/introspect").with("authorization", &scheme(&caller));
        let answer = Pending::send(&site, &call, FORM, &form).await;
        let answer = answer.complete().await.assert(200).json();
        assert_eq!(answer["active"], true);
    }
}

pub(crate) async fn disabling_does_not_wait_for_a_body(site: Arc<Site>) {
    let caller = site.holder(&["service-tokens:write"]).await;
    let target = site.holder(&[]).await;
    let call = format!("/service-tokens/{}/disable", target.id);
    let head = Call::new("POST", &call).with_key(&caller.secret);
    let head = head
        .with("content-type", JSON)
        .with("content-length", "100");
    // The body never arrives.
    head.send(site.address).await.assert(200);
    assert_eq!(site.status_of(&target.secret).await, 401);
}
