//! Random histories of several holders, with concurrent changes by an operator.

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
use tower_service_token::lifecycle::{Expiry, Holder, LifecycleError, NewToken, TokenUpdate};
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

/// The number of steps by outcome, over all histories.
#[derive(Default)]
struct Counts {
    allowed: Cell<u32>,
    rejected: Cell<u32>,
    /// Steps rejected because the actor's token ended after it was authenticated.
    actor_rejected: Cell<u32>,
    last_admin: Cell<u32>,
}

struct Model {
    registry: RecordingRegistry,
    clock: ManualClock,
    /// Acts as an operator unless a step sets another actor.
    tokens: ServiceTokens,
    ids: Vec<TokenId>,
    secrets: Vec<String>,
    imported: usize,
}

/// The ID and secret of a token that a step created or rotated, if any.
type StepResult = Result<Option<(TokenId, String)>, LifecycleError>;

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
        self.run_or_schedule_change(step, principal.id()).await;
        let has_ended = self.authenticate(&credential).is_none();
        let (tokens, required_scope) = self.acting(step, &principal, revision);
        let result = self.execute(&tokens, step, &principal).await;
        let attempt = Attempt {
            description: format!("{step:?}"),
            actor: principal.id(),
            credential: &credential,
            clock: &self.clock,
            now: self.clock.now(),
            required_scope,
            revision,
            allows_last_admin_removal: step.allows_last_admin_removal
                && !matches!(step.operation, Operation::RevokeWhere(_)),
        };
        for commit in self.registry.take() {
            attempt.check(&commit);
        }
        assert!(!has_ended || result.is_err(), "{step:?}");
        self.count(result, counts);
    }

    /// Returns the revision that the change is conditional on.
    async fn revision(&self, step: &Step, own: TokenId) -> Option<u64> {
        let target = self.target(&step.operation, own)?;
        let record = self.registry.snapshot().await.get(&target)?.clone();
        match step.revision {
            Revision::Any => None,
            Revision::Current => Some(record.revision()),
            Revision::Stale => record.revision().checked_sub(1),
        }
    }

    fn target(&self, operation: &Operation, own: TokenId) -> Option<TokenId> {
        match operation {
            Operation::Update(target, ..)
            | Operation::CopyOwnPermissions(target)
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

    /// Runs or schedules the operator's concurrent change.
    async fn run_or_schedule_change(&self, step: &Step, actor: TokenId) {
        let Some((moment, concurrent_change)) = step.concurrent_change else {
            return;
        };
        let operator = self.operator().allow_last_admin_removal();
        let change = make_concurrent_change(operator, concurrent_change, actor);
        match moment {
            Moment::Authenticated => change.await,
            Moment::Writing => self.registry.schedule_change(change.boxed()),
        }
    }

    /// Returns the lifecycle of an operator on another node.
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
        let is_own = matches!(
            step.operation,
            Operation::RotateOwn(_) | Operation::RevokeOwn
        );
        let required_scope = (!is_own).then_some("service-tokens:write");
        let actor = Holder::new(principal.clone());
        let actor = match required_scope {
            Some(scope) => {
                actor.with_requirement(Requirement::any_scope([scope, "service-tokens:admin"]))
            }
            None => actor,
        };
        let mut tokens = self.tokens.clone().acting_for(actor);
        if step.allows_last_admin_removal {
            tokens = tokens.allow_last_admin_removal();
        }
        if let Some(revision) = revision {
            tokens = tokens.if_revision(revision);
        }
        (tokens, required_scope)
    }

    async fn execute(
        &mut self,
        tokens: &ServiceTokens,
        step: &Step,
        principal: &Principal,
    ) -> StepResult {
        let held = principal.scopes();
        let target = self.target(&step.operation, principal.id());
        let target = || target.expect("the operation has one target");
        let grace = |grace: bool| if grace { HOUR } else { Duration::ZERO };
        match &step.operation {
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
                let current = tokens.get(target()).await?.expires_at();
                let expiry = lifetime.map(|lifetime| expiry(lifetime, current));
                let update = update(roles.as_ref(), scopes.as_ref(), expiry, held);
                tokens.update(target(), update).await.map(|_| None)
            }
            Operation::CopyOwnPermissions(_) => {
                let current = tokens.get(target()).await?.expires_at();
                let update = TokenUpdate::new().with_roles(principal.roles().iter());
                let update = update.with_scopes(held.iter());
                let update = update.with_expiry(expiry(Lifetime::Unchanged, current));
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

    fn count(&mut self, result: StepResult, counts: &Counts) {
        let increment = |counter: &Cell<u32>| counter.set(counter.get() + 1);
        match result {
            Ok(issued) => {
                increment(&counts.allowed);
                if let Some((id, secret)) = issued {
                    if !self.ids.contains(&id) {
                        self.ids.push(id);
                    }
                    self.secrets.push(secret);
                }
            }
            Err(error) => {
                increment(&counts.rejected);
                match error {
                    LifecycleError::Unauthorized(AuthorityError::ActorTokenRejected(_)) => {
                        increment(&counts.actor_rejected);
                    }
                    LifecycleError::LastAdmin => increment(&counts.last_admin),
                    LifecycleError::Store(error) => panic!("{error}"),
                    _ => {}
                }
            }
        }
    }
}

async fn make_concurrent_change(
    operator: ServiceTokens,
    concurrent_change: ConcurrentChange,
    actor: TokenId,
) {
    let nothing: [&str; 0] = [];
    let changed = match concurrent_change {
        ConcurrentChange::Revoke => operator.revoke(actor).await.map(drop),
        ConcurrentChange::Disable => operator.disable(actor).await.map(drop),
        ConcurrentChange::RemovePermissions => {
            let update = TokenUpdate::new().with_roles(nothing).with_scopes(nothing);
            operator.update(actor, update).await.map(drop)
        }
        ConcurrentChange::RemoveRoles => {
            let update = TokenUpdate::new().with_roles(nothing);
            operator.update(actor, update).await.map(drop)
        }
        ConcurrentChange::ShortenLifetime => {
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

/// Runs random histories.
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
    // The test proves something only if every outcome occurs.
    let [allowed, rejected] = [&counts.allowed, &counts.rejected].map(Cell::get);
    assert!(
        allowed > cases && rejected > cases,
        "{allowed} allowed, {rejected} rejected"
    );
    let [actor_rejected, last_admin] = [&counts.actor_rejected, &counts.last_admin].map(Cell::get);
    assert!(
        actor_rejected > 0 && last_admin > 0,
        "{actor_rejected} actors rejected, {last_admin} last administrators"
    );
}
