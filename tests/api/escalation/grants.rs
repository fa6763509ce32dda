//! Checks the permissions that the holder of one token can obtain by any sequence of steps.

use std::cell::Cell;
use std::time::Duration;

use axum::Router;
use futures::executor::block_on;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tests::api_fixture::{ApiFixture, ApiResponse};
use tower_service_token::api::management::ManagementApi;
use tower_service_token::api::pipeops::PipeOpsApi;
use tower_service_token::lifecycle::{LifecycleError, NewToken, Page, TokenUpdate};
use tower_service_token::principal::Scopes;
use tower_service_token::registry::{AuthorityError, TokenFilter};
use tower_service_token::store::{Cached, Credential, TokenRecord, TokenState, verdict};
use tower_service_token::token::{PresentedToken, TokenId};
use tower_service_token::{MemoryStore, Principal, TokenStore};

use crate::escalation::permissions::{
    Permissions, ROLES, RequestedScopes, harmless_scopes, requested_scopes, roles,
};

/// The interface that performs the steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Interface {
    /// `ServiceTokens::acting_for`.
    Library,
    Management,
    PipeOps,
}

#[derive(Clone, Debug)]
enum Step {
    Create(Vec<&'static str>, RequestedScopes),
    Update(Index, Option<Vec<&'static str>>, Option<RequestedScopes>),
    /// Updates the scopes and, through the `PipeOps` API, enables the token in the same request.
    UpdateAndEnable(Index, RequestedScopes),
    Rotate(Index, bool),
    RotateOwn,
    Disable(Index),
    Enable(Index),
}

fn steps() -> impl Strategy<Value = Vec<(Index, Step)>> {
    let index = any::<Index>;
    let step = prop_oneof![
        (roles(), requested_scopes()).prop_map(|(roles, scopes)| Step::Create(roles, scopes)),
        (index(), option::of(roles()), option::of(requested_scopes()))
            .prop_map(|(target, roles, scopes)| Step::Update(target, roles, scopes)),
        (index(), requested_scopes())
            .prop_map(|(target, scopes)| Step::UpdateAndEnable(target, scopes)),
        (index(), any::<bool>()).prop_map(|(target, grace)| Step::Rotate(target, grace)),
        Just(Step::RotateOwn),
        index().prop_map(Step::Disable),
        index().prop_map(Step::Enable),
    ];
    vec((index(), step), 1..24)
}

/// A token that exists before the first step, in its initial state.
struct InitialToken {
    id: TokenId,
    permissions: Permissions,
    is_active: bool,
}

struct Model {
    interface: Interface,
    store: MemoryStore,
    managed: ApiFixture,
    app: Router,
    root: Permissions,
    others: Vec<InitialToken>,
    ids: Vec<TokenId>,
    /// The secrets that the holder of the root token has obtained.
    secrets: Vec<String>,
}

impl Model {
    async fn new(interface: Interface, roles: &[&str], scopes: &[&str]) -> Self {
        let store = MemoryStore::new();
        let managed = ApiFixture::new(store.clone(), store.clone()).await;
        let tokens = &managed.tokens;
        drop(managed.holder(&["vault:open"]).await);
        let strong = NewToken::new("strong").with_roles(["boss"]);
        let strong = strong.with_scopes(["a:**", "vault:*"]);
        let strong = tokens.create(strong).await.unwrap();
        tokens.disable(strong.record().id()).await.unwrap();
        let others = list_all(&managed).await;
        let others = others.iter().map(|record| InitialToken {
            id: record.id(),
            permissions: Permissions::of_record(record),
            is_active: record.state() == TokenState::Active,
        });
        let others: Vec<_> = others.collect();
        let root = NewToken::new("root").with_roles(roles.to_vec());
        let root = tokens.create(root.with_scopes(scopes.to_vec())).await;
        let root = root.unwrap();
        let (tokens, layer) = (tokens.clone(), managed.layer.clone());
        let app = Router::new()
            .merge(ManagementApi::new(tokens.clone(), layer.clone()).into_router())
            .merge(PipeOpsApi::new(tokens, layer.accept_bearer()).into_router());
        let model = Self {
            interface,
            store,
            app,
            root: Permissions::of_record(root.record()),
            ids: list_all(&managed)
                .await
                .iter()
                .map(TokenRecord::id)
                .collect(),
            others,
            secrets: vec![root.expose_secret().to_owned()],
            managed,
        };
        let admin = model.caller(model.managed.admin.expose_secret()).unwrap();
        assert!(!Permissions::of_caller(&admin).is_within(&model.root));
        model
    }

    /// Returns the principal that a service authenticates with this secret.
    fn caller(&self, secret: &str) -> Option<Principal> {
        let credential = Credential::new(PresentedToken::new(secret).unwrap());
        let Cached::Found(record) = self.store.find_cached(&credential) else {
            return None;
        };
        verdict(Some(record), &credential, &self.managed.clock).ok()
    }

    /// Performs a step as the holder of one of the secrets. Returns whether it was allowed.
    async fn perform(&mut self, actor: &Index, step: &Step) -> bool {
        let secret = actor.get(&self.secrets).clone();
        let outcome = match self.interface {
            Interface::Library => self.perform_in_process(&secret, step).await,
            Interface::Management | Interface::PipeOps => {
                self.perform_over_http(&secret, step).await
            }
        };
        let Some(issued) = outcome else {
            return false;
        };
        if let Some((id, secret)) = issued {
            if !self.ids.contains(&id) {
                self.ids.push(id);
            }
            self.secrets.push(secret);
        }
        true
    }

    /// Performs a step through the library.
    ///
    /// Returns `None` if the step is denied, and otherwise the ID and secret of a token that the
    /// step created or rotated.
    async fn perform_in_process(
        &self,
        secret: &str,
        step: &Step,
    ) -> Option<Option<(TokenId, String)>> {
        let caller = self.caller(secret)?;
        let (own, held) = (caller.id(), caller.scopes().clone());
        let tokens = self.managed.tokens.clone().acting_for(caller);
        let at = |target: &Index| *target.get(&self.ids);
        let grace = |grace: &bool| Duration::from_secs(3600 * u64::from(*grace));
        let outcome = match step {
            Step::Create(roles, scopes) => {
                let new = NewToken::new("created").with_roles(roles.clone());
                tokens
                    .create(new.with_scopes(scopes.resolve(&held)))
                    .await
                    .map(Some)
            }
            Step::Rotate(target, with_grace) => {
                let rotated = tokens.rotate(at(target), grace(with_grace)).await;
                rotated.map(Some)
            }
            Step::RotateOwn => tokens.rotate(own, Duration::ZERO).await.map(Some),
            Step::Update(target, roles, scopes) => {
                let mut update = TokenUpdate::new();
                if let Some(roles) = roles {
                    update = update.with_roles(roles.clone());
                }
                if let Some(scopes) = scopes {
                    update = update.with_scopes(scopes.resolve(&held));
                }
                tokens.update(at(target), update).await.map(|_| None)
            }
            Step::UpdateAndEnable(target, scopes) => {
                let update = TokenUpdate::new().with_scopes(scopes.resolve(&held));
                tokens.update(at(target), update).await.map(|_| None)
            }
            Step::Disable(target) => tokens.disable(at(target)).await.map(|_| None),
            Step::Enable(target) => tokens.enable(at(target)).await.map(|_| None),
        };
        match outcome {
            Ok(issued) => Some(issued.map(|issued| {
                let id = issued.record().id();
                (id, issued.expose_secret().to_owned())
            })),
            Err(LifecycleError::Unauthorized(AuthorityError::EscalationDenied { missing })) => {
                assert!(!missing.is_empty());
                None
            }
            // The caller uses a previous secret, or the step would remove the last administrator.
            Err(
                LifecycleError::Unauthorized(AuthorityError::PreviousSecret)
                | LifecycleError::LastAdmin,
            ) => None,
            Err(error) => panic!("{step:?}: {error}"),
        }
    }

    /// Performs a step over HTTP.
    async fn perform_over_http(
        &self,
        secret: &str,
        step: &Step,
    ) -> Option<Option<(TokenId, String)>> {
        let held = self.caller(secret)?.scopes().clone();
        let (call, body) = match self.interface {
            Interface::PipeOps => self.pipeops_call(step, &held)?,
            _ => self.management_call(step, &held),
        };
        let headers = |request: http::request::Builder| {
            let value = match self.interface {
                Interface::PipeOps => format!("Bearer {secret}"),
                _ => format!("ApiKey {secret}"),
            };
            let request = request.header("authorization", value);
            request.header("content-type", "application/json")
        };
        let response = ApiResponse::send(&self.app, &call, headers, &body.to_string()).await;
        if ![200, 201].contains(&response.status) {
            assert!(
                [401, 403, 409, 428].contains(&response.status),
                "{call}: {response:?}"
            );
            return None;
        }
        assert_eq!(response.headers["cache-control"], "no-store");
        let response = response.json();
        let (secret, id) = match self.interface {
            Interface::PipeOps => (
                &response["data"]["token"]["token"],
                &response["data"]["token"]["id"],
            ),
            _ => (&response["token"], &response["service_token"]["id"]),
        };
        Some(secret.as_str().map(|secret| {
            let id = id.as_str().unwrap().parse().unwrap();
            (id, secret.to_owned())
        }))
    }

    fn management_call(&self, step: &Step, held: &Scopes) -> (String, Value) {
        let path = |method: &str, target: &Index, verb: &str| {
            let id = target.get(&self.ids);
            format!("{method} /service-tokens/{id}{verb}")
        };
        match step {
            Step::Create(roles, scopes) => {
                let body =
                    json!({ "name": "created", "roles": roles, "scopes": scopes.resolve(held) });
                ("POST /service-tokens".to_owned(), body)
            }
            Step::Update(target, roles, scopes) => {
                let mut body =
                    json!({ "roles": roles, "scopes": scopes.as_ref().map(|it| it.resolve(held)) });
                // In a merge patch, `null` would clear the member.
                let members = body.as_object_mut().unwrap();
                members.retain(|_, value| !value.is_null());
                (path("PATCH", target, ""), body)
            }
            Step::UpdateAndEnable(target, scopes) => (
                path("PATCH", target, ""),
                json!({ "scopes": scopes.resolve(held) }),
            ),
            Step::Rotate(target, grace) => {
                let grace = if *grace { "1h" } else { "0s" };
                (path("POST", target, "/rotate"), json!({ "grace": grace }))
            }
            Step::RotateOwn => ("POST /service-tokens/self/rotate".to_owned(), json!({})),
            Step::Disable(target) => (path("POST", target, "/disable"), json!({})),
            Step::Enable(target) => (path("POST", target, "/enable"), json!({})),
        }
    }

    /// Returns `None` for a step that the `PipeOps` API does not support.
    fn pipeops_call(&self, step: &Step, held: &Scopes) -> Option<(String, Value)> {
        let tokens = "/api/v1/service-account-tokens";
        let (target, body) = match step {
            Step::Create(_, scopes) => {
                let body = json!({ "name": "created", "permissions": scopes.resolve(held) });
                return Some((format!("POST {tokens}"), body));
            }
            Step::Update(target, _, scopes) => {
                let scopes = scopes.as_ref().map(|it| it.resolve(held));
                (target, json!({ "permissions": scopes }))
            }
            Step::UpdateAndEnable(target, scopes) => (
                target,
                json!({ "scopes": scopes.resolve(held), "is_active": true }),
            ),
            Step::Disable(target) => (target, json!({ "is_active": false })),
            Step::Enable(target) => (target, json!({ "is_active": true })),
            Step::Rotate(..) | Step::RotateOwn => return None,
        };
        Some((format!("PATCH {tokens}/{}", target.get(&self.ids)), body))
    }

    /// Asserts that no token has permissions beyond those of the root token, except for permissions
    /// that an initial token already had.
    async fn assert_no_escalation(&self, step: &Step) {
        for secret in &self.secrets {
            let permissions = self.caller(secret).map(|it| Permissions::of_caller(&it));
            let is_within = permissions
                .as_ref()
                .is_none_or(|it| it.is_within(&self.root));
            assert!(is_within, "{step:?} granted {permissions:?}");
        }
        for record in list_all(&self.managed).await {
            let permissions = Permissions::of_record(&record);
            let Some(initial) = self.others.iter().find(|it| it.id == record.id()) else {
                assert!(
                    permissions.is_within(&self.root),
                    "{step:?} created {record:?}"
                );
                continue;
            };
            let limit = self.root.union(&initial.permissions);
            assert!(permissions.is_within(&limit), "{step:?} changed {record:?}");
            let was_enabled = record.state() == TokenState::Active && !initial.is_active;
            let may_be_enabled = permissions.is_within(&self.root);
            assert!(
                !was_enabled || may_be_enabled,
                "{step:?} enabled {record:?}"
            );
        }
    }
}

async fn list_all(managed: &ApiFixture) -> Vec<TokenRecord> {
    let page = managed.tokens.list(TokenFilter::new(), Page::default());
    page.await.unwrap().records
}

/// Runs random sequences of steps and checks the permissions after each step.
pub(crate) fn check_random_steps(interface: Interface, cases: u32) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let (allowed, denied) = (Cell::new(0_u32), Cell::new(0_u32));
    let input = (
        subsequence(ROLES[..2].to_vec(), 0..=2),
        harmless_scopes(),
        steps(),
    );
    let outcome = TestRunner::new(config).run(&input, |(roles, scopes, steps)| {
        block_on(async {
            let mut model = Model::new(interface, &roles, &scopes).await;
            for (actor, step) in &steps {
                let is_allowed = model.perform(actor, step).await;
                let count = if is_allowed { &allowed } else { &denied };
                count.set(count.get() + 1);
                model.assert_no_escalation(step).await;
            }
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{interface:?}: {error}");
    }
    // The test proves something only if steps of both kinds occur.
    let (allowed, denied) = (allowed.get(), denied.get());
    assert!(
        allowed > cases && denied > cases,
        "{allowed} allowed, {denied} denied"
    );
}
