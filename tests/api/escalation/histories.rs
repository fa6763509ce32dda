//! Several holders and an operator, whose changes come in between.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use futures::executor::block_on;
use futures::future::FutureExt;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::test_runner::{Config, TestRunner};
use tower_service_token::clock::{Clock, ManualClock};
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{Actor, Expiry, LifecycleError, NewToken, TokenUpdate};
use tower_service_token::principal::Requirement;
use tower_service_token::registry::AuthorityError;
use tower_service_token::store::{Cached, Credential, verdict};
use tower_service_token::token::{PresentedToken, TokenId};
use tower_service_token::{Principal, ServiceTokens, TokenStore};

use crate::escalation::invariants::Attempt;
use crate::escalation::permissions::{ROLES, harmless_scopes};
use crate::escalation::recording_registry::RecordingRegistry;
use crate::escalation::steps::{
    ConcurrentChange, Lifetime, Moment, Operation, Revision, Step, expiry, filter_of, new_token,
    steps, update,
};

const HOUR: Duration = Duration::from_secs(3600);

type Root = (Vec<&'static str>, Vec<&'static str>, Option<u64>);

/// What became of the steps of all histories.
#[derive(Default)]
struct Counts {
    made: Cell<u32>,
    refused: Cell<u32>,
    /// Refused because the actor's token ended after it was authenticated.
    overtaken: Cell<u32>,
    last_admin: Cell<u32>,
}

struct Model {
    registry: RecordingRegistry,
    clock: ManualClock,
    /// Changed by an operator.
    tokens: ServiceTokens,
    ids: Vec<TokenId>,
    secrets: Vec<String>,
    imported: usize,
}

/// A new secret that someone got hold of, if any.
type Made = Result<Option<(TokenId, String)>, LifecycleError>;

impl Model {
    async fn new(roots: &[Root], has_admin: bool) -> Self {
        let registry = RecordingRegistry::new();
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let tokens = ServiceTokens::new(registry.clone()).with_clock(clock.clone());
        let mut model = Self {
            registry,
            clock,
            tokens,
            ids: Vec::new(),
            secrets: Vec::new(),
            imported: 0,
        };
        let strong = NewToken::new("strong").with_roles(["boss"]);
        model
            .add(strong.with_scopes(["a:**", "vault:*"]), false)
            .await;
        if has_admin {
            let admin = NewToken::new("admin").with_scopes(["service-tokens:admin"]);
            model.add(admin, true).await;
        }
        for (roles, scopes, hours) in roots {
            let root = NewToken::new("root").with_roles(roles.clone());
            let root = root.with_scopes(scopes.clone());
            let root = match hours {
                Some(hours) => root.with_expiry(expiry(Lifetime::Hours(*hours), None)),
                None => root,
            };
            model.add(root, true).await;
        }
        model.registry.take();
        model
    }

    async fn add(&mut self, new: NewToken, is_held: bool) {
        let issued = self.tokens.create(new).await.unwrap();
        self.ids.push(issued.record().id());
        if is_held {
            self.secrets.push(issued.expose_secret().to_owned());
        }
    }

    fn authenticate(&self, credential: &Credential<'_>) -> Option<Principal> {
        let Cached::Found(record) = self.registry.find_cached(credential) else {
            return None;
        };
        verdict(Some(record), credential, &self.clock).ok()
    }

    async fn step(&mut self, step: &Step, counts: &Counts) {
        self.clock.advance(Duration::from_secs(60 * step.pause));
        let secret = step.actor.get(&self.secrets).clone();
        let credential = Credential::new(PresentedToken::new(&secret).unwrap());
        let Some(principal) = self.authenticate(&credential) else {
            return;
        };
        let revision = self.revision(step, principal.id()).await;
        self.arrange(step, principal.id()).await;
        let has_ended = self.authenticate(&credential).is_none();
        let (tokens, needs) = self.acting(step, &principal, revision);
        let made = self.act(&tokens, step, &principal).await;
        let attempt = Attempt {
            what: format!("{step:?}"),
            actor: principal.id(),
            credential: &credential,
            clock: &self.clock,
            now: self.clock.now(),
            needs,
            revision,
            allows_last_admin_removal: step.confirms
                && !matches!(step.act, Operation::RevokeWhere(_)),
        };
        for commit in self.registry.take() {
            attempt.check(&commit);
        }
        assert!(!has_ended || made.is_err(), "{step:?}");
        self.note(made, counts);
    }

    /// The revision that the change names.
    async fn revision(&self, step: &Step, own: TokenId) -> Option<u64> {
        let target = self.target(&step.act, own)?;
        let record = self.registry.snapshot().await.get(&target)?.clone();
        match step.revision {
            Revision::Any => None,
            Revision::Current => Some(record.revision()),
            Revision::Stale => record.revision().checked_sub(1),
        }
    }

    fn target(&self, act: &Operation, own: TokenId) -> Option<TokenId> {
        match act {
            Operation::Update(target, ..)
            | Operation::Equal(target)
            | Operation::Rename(target)
            | Operation::Rotate(target, _)
            | Operation::Disable(target)
            | Operation::Enable(target)
            | Operation::Revoke(target) => Some(*target.get(&self.ids)),
            Operation::RotateOwn(_) | Operation::RevokeOwn => Some(own),
            Operation::Create(..)
            | Operation::Import(..)
            | Operation::RevokeWhere(_)
            | Operation::Purge => None,
        }
    }

    /// Lets the operator come in between.
    async fn arrange(&self, step: &Step, actor: TokenId) {
        let Some((moment, interference)) = step.meanwhile else {
            return;
        };
        let operator = self.operator().allow_last_admin_removal();
        let change = interfere(operator, interference, actor);
        match moment {
            Moment::Authenticated => change.await,
            Moment::Writing => self.registry.interfere(change.boxed()),
        }
    }

    /// An operator on another node.
    fn operator(&self) -> ServiceTokens {
        let tokens = ServiceTokens::new(self.registry.store.clone());
        tokens.with_clock(self.clock.clone())
    }

    fn acting(
        &self,
        step: &Step,
        principal: &Principal,
        revision: Option<u64>,
    ) -> (ServiceTokens, Option<&'static str>) {
        let is_own = matches!(step.act, Operation::RotateOwn(_) | Operation::RevokeOwn);
        let needs = (!is_own).then_some("service-tokens:write");
        let actor = Actor::holder(principal.clone());
        let actor = match needs {
            Some(scope) => {
                actor.with_requirement(Requirement::any_scope([scope, "service-tokens:admin"]))
            }
            None => actor,
        };
        let mut tokens = self.tokens.clone().acting_for(actor);
        if step.confirms {
            tokens = tokens.allow_last_admin_removal();
        }
        if let Some(revision) = revision {
            tokens = tokens.if_revision(revision);
        }
        (tokens, needs)
    }

    async fn act(&mut self, tokens: &ServiceTokens, step: &Step, principal: &Principal) -> Made {
        let held = principal.scopes();
        let target = self.target(&step.act, principal.id());
        let target = || target.expect("this changes one token");
        let grace = |grace: bool| if grace { HOUR } else { Duration::ZERO };
        match &step.act {
            Operation::Create(roles, scopes, lifetime) => {
                let new = new_token(roles, scopes, *lifetime, held);
                let issued = tokens.create(new).await?;
                Ok(Some((
                    issued.record().id(),
                    issued.expose_secret().to_owned(),
                )))
            }
            Operation::Import(roles, scopes, lifetime) => {
                self.imported += 1;
                let secret = format!("imported-{}", self.imported);
                let new = new_token(roles, scopes, *lifetime, held);
                let record = tokens.import(new, TokenDigest::of(&secret)).await?;
                Ok(Some((record.id(), secret)))
            }
            Operation::Rotate(_, with_grace) | Operation::RotateOwn(with_grace) => {
                let issued = tokens.rotate(target(), grace(*with_grace)).await?;
                Ok(Some((
                    issued.record().id(),
                    issued.expose_secret().to_owned(),
                )))
            }
            Operation::Update(_, roles, scopes, lifetime) => {
                let known = tokens.get(target()).await?.expires_at();
                let expiry = lifetime.map(|lifetime| expiry(lifetime, known));
                let update = update(roles.as_ref(), scopes.as_ref(), expiry, held);
                tokens.update(target(), update).await.map(|_| None)
            }
            Operation::Equal(_) => {
                let known = tokens.get(target()).await?.expires_at();
                let update = TokenUpdate::new().with_roles(principal.roles().iter());
                let update = update.with_scopes(held.iter());
                let update = update.with_expiry(expiry(Lifetime::Unchanged, known));
                tokens.update(target(), update).await.map(|_| None)
            }
            Operation::Rename(_) => {
                let update = TokenUpdate::new().with_name("renamed");
                tokens.update(target(), update).await.map(|_| None)
            }
            Operation::Disable(_) => tokens.disable(target()).await.map(|_| None),
            Operation::Enable(_) => tokens.enable(target()).await.map(|_| None),
            Operation::Revoke(_) | Operation::RevokeOwn => {
                tokens.revoke(target()).await.map(|_| None)
            }
            Operation::RevokeWhere(filter) => {
                let filter = filter_of(*filter);
                let count = self
                    .operator()
                    .preview_revocation(filter.clone())
                    .await?
                    .count;
                tokens.revoke_where(filter, count).await.map(|_| None)
            }
            Operation::Purge => tokens.purge(HOUR).await.map(|_| None),
        }
    }

    fn note(&mut self, made: Made, counts: &Counts) {
        let count = |counter: &Cell<u32>| counter.set(counter.get() + 1);
        match made {
            Ok(made) => {
                count(&counts.made);
                if let Some((id, secret)) = made {
                    if !self.ids.contains(&id) {
                        self.ids.push(id);
                    }
                    self.secrets.push(secret);
                }
            }
            Err(error) => {
                count(&counts.refused);
                match error {
                    LifecycleError::Unauthorized(AuthorityError::ActorTokenRejected(_)) => {
                        count(&counts.overtaken);
                    }
                    LifecycleError::LastAdmin => count(&counts.last_admin),
                    LifecycleError::Store(error) => panic!("{error}"),
                    _ => {}
                }
            }
        }
    }
}

async fn interfere(operator: ServiceTokens, interference: ConcurrentChange, actor: TokenId) {
    let nothing: [&str; 0] = [];
    let changed = match interference {
        ConcurrentChange::Revoke => operator.revoke(actor).await.map(drop),
        ConcurrentChange::Disable => operator.disable(actor).await.map(drop),
        ConcurrentChange::Strip => {
            let update = TokenUpdate::new().with_roles(nothing).with_scopes(nothing);
            operator.update(actor, update).await.map(drop)
        }
        ConcurrentChange::Narrow => {
            let update = TokenUpdate::new().with_roles(nothing);
            operator.update(actor, update).await.map(drop)
        }
        ConcurrentChange::Shorten => {
            let minute = Expiry::after(Duration::from_secs(60));
            let update = TokenUpdate::new().with_expiry(minute);
            operator.update(actor, update).await.map(drop)
        }
        ConcurrentChange::Rotate => operator.rotate(actor, Duration::ZERO).await.map(drop),
        ConcurrentChange::RotateWithGrace => operator.rotate(actor, HOUR).await.map(drop),
    };
    if let Err(error) = changed {
        // The actor's own earlier write in the same step may have ended its token.
        assert!(matches!(error, LifecycleError::Revoked), "{error}");
    }
}

fn roots() -> impl Strategy<Value = Vec<Root>> {
    let lifetime = proptest::option::of(1..48_u64);
    let root = (
        subsequence(ROLES.to_vec(), 0..=3),
        harmless_scopes(),
        lifetime,
    );
    vec(root, 1..=4)
}

/// Runs many histories.
pub(crate) fn run(cases: u32) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let counts = Counts::default();
    let input = (roots(), any::<bool>(), steps());
    let outcome = TestRunner::new(config).run(&input, |(roots, has_admin, steps)| {
        block_on(async {
            let mut model = Model::new(&roots, has_admin).await;
            for step in &steps {
                model.step(step, &counts).await;
            }
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    // All of it happens.
    let [made, refused] = [&counts.made, &counts.refused].map(Cell::get);
    assert!(made > cases && refused > cases, "{made} and {refused}");
    let [overtaken, last_admin] = [&counts.overtaken, &counts.last_admin].map(Cell::get);
    assert!(
        overtaken > 0 && last_admin > 0,
        "{overtaken} and {last_admin}"
    );
}
