//! Actors whose session or token ends during a call, and users that act for an owner.

use std::future::{Ready, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tower_service_token::ServiceTokens;
use tower_service_token::audit::{AuditEvent, AuditSink};
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{
    Actor, CallbackError, Holder, LifecycleError, NewToken, Operator, Owner, Page, TokenUpdate,
};
use tower_service_token::principal::Requirement;
use tower_service_token::registry::{
    AuthorityError, ListRequest, RegistryError, TokenFilter, TokenPage, TokenRegistry, Write,
};
use tower_service_token::store::{
    Credential, DenialKind, StoreError, TokenRecord, TokenState, TokenStore,
};
use tower_service_token::token::TokenId;

use super::{DAY, clock, create, manage, principal};
use crate::operations::Store;

/// A session that the next read of the registry ends.
#[derive(Clone, Default)]
struct Session(Arc<AtomicBool>);

impl Session {
    fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn end(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    fn check<A: Clone>(&self, actor: &A) -> Ready<Result<Option<A>, CallbackError>> {
        let is_open = self.0.load(Ordering::SeqCst);
        ready(Ok(is_open.then(|| actor.clone())))
    }

    fn owner(&self) -> Actor {
        let (session, owner) = (self.clone(), Owner::new("user:1"));
        let checked = owner.clone();
        owner.with_check(move || session.check(&checked)).into()
    }

    fn operator(&self) -> Actor {
        let (session, operator) = (self.clone(), Operator::new("alice"));
        let checked = operator.clone();
        operator.with_check(move || session.check(&checked)).into()
    }
}

struct EndsSession {
    store: Store,
    session: Session,
}

#[async_trait]
impl TokenStore for EndsSession {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.store.find(credential).await
    }
}

#[async_trait]
impl TokenRegistry for EndsSession {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        self.store.insert(write).await
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        self.session.end();
        self.store.get(id).await
    }

    async fn find_by_digest(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.session.end();
        self.store.find_by_digest(digest).await
    }

    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        self.session.end();
        self.store.list(request).await
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        self.store.update(write).await
    }

    async fn count(&self, filter: &TokenFilter, now: SystemTime) -> Result<u64, StoreError> {
        self.session.end();
        self.store.count(filter, now).await
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        self.store.delete(write).await
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        self.store.touch(uses).await
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verb {
    Create,
    Import,
    CreateOnce,
    Update,
    Rotate,
    RotateOnce,
    Disable,
    Enable,
    Revoke,
    RevokeWhere,
    Purge,
}

const VERBS: [Verb; 11] = [
    Verb::Create,
    Verb::Import,
    Verb::CreateOnce,
    Verb::Update,
    Verb::Rotate,
    Verb::RotateOnce,
    Verb::Disable,
    Verb::Enable,
    Verb::Revoke,
    Verb::RevokeWhere,
    Verb::Purge,
];

async fn run(
    tokens: &ServiceTokens,
    verb: Verb,
    [active, disabled]: [TokenId; 2],
) -> Result<(), LifecycleError> {
    let new = NewToken::new("new").with_owner("user:1");
    let all = TokenFilter::new();
    match verb {
        Verb::Create => tokens.create(new).await.map(drop),
        Verb::Import => tokens
            .import(new, TokenDigest::of("elsewhere"))
            .await
            .map(drop),
        Verb::CreateOnce => {
            let new = new.with_idempotency_key("key");
            tokens.create(new).await.map(drop)
        }
        Verb::Update => {
            let update = TokenUpdate::new().with_name("renamed");
            tokens.update(active, update).await.map(drop)
        }
        Verb::Rotate => tokens.rotate(active, DAY).await.map(drop),
        Verb::RotateOnce => tokens.rotate_once(active, DAY, "key").await.map(drop),
        Verb::Disable => tokens.disable(active).await.map(drop),
        Verb::Enable => tokens.enable(disabled).await.map(drop),
        Verb::Revoke => tokens.revoke(active).await.map(drop),
        Verb::RevokeWhere => tokens.revoke_where(all, 2).await.map(drop),
        Verb::Purge => tokens.purge(Duration::ZERO).await.map(drop),
    }
}

/// The session ends between the read of the record and its write, or before the call.
pub async fn a_session_that_ends_between_read_and_write_changes_nothing(store: Store) {
    let operator = manage(&store);
    let owned = |name: &str| NewToken::new(name).with_owner("user:1");
    let active = create(&operator, owned("active")).await;
    let disabled = create(&operator, owned("disabled")).await;
    operator.disable(disabled).await.unwrap();
    let revoked = create(&operator, owned("revoked")).await;
    operator.revoke(revoked).await.unwrap();
    let stored = async || {
        let page = operator.list(TokenFilter::new(), Page::default()).await;
        let records = page.unwrap().records;
        let state = |it: &TokenRecord| (it.id(), it.revision(), it.state(), *it.digest());
        records.iter().map(state).collect::<Vec<_>>()
    };
    let unchanged = stored().await;
    let session = Session::default();
    let ending = EndsSession {
        store: store.clone(),
        session: session.clone(),
    };
    let ending = ServiceTokens::new(ending).with_clock(clock());
    let targets = [active, disabled];
    for actor in [session.owner(), session.operator()] {
        let by_actor = ending.clone().acting_for(actor.clone());
        for verb in VERBS {
            for ends_before in [true, false] {
                if !ends_before && matches!(verb, Verb::Create | Verb::Import) {
                    // They read nothing.
                    continue;
                }
                session.open();
                if ends_before {
                    by_actor.get(active).await.unwrap();
                }
                let outcome = run(&by_actor, verb, targets).await;
                let is_rejected = matches!(
                    outcome,
                    Err(LifecycleError::Unauthorized(AuthorityError::ActorRejected))
                );
                assert!(is_rejected, "{verb:?} by {}: {outcome:?}", actor.name());
                assert_eq!(stored().await, unchanged, "{verb:?} by {}", actor.name());
            }
        }
    }
    // Without the end of the session, the same calls are made.
    session.open();
    for verb in VERBS {
        if verb != Verb::RevokeWhere {
            let by_actor = manage(&store).acting_for(session.operator());
            let outcome = run(&by_actor, verb, targets).await;
            assert!(outcome.is_ok(), "{verb:?}: {outcome:?}");
        }
    }
}

async fn all_reads(tokens: &ServiceTokens, id: TokenId) -> Vec<Result<(), LifecycleError>> {
    let all = TokenFilter::new;
    vec![
        tokens.get(id).await.map(drop),
        tokens.get_by_number(id.number()).await.map(drop),
        tokens.list(all(), Page::default()).await.map(drop),
        tokens
            .list(all().with_owner("user:2"), Page::default())
            .await
            .map(drop),
        tokens.count(all()).await.map(drop),
        tokens.count(all().with_owner("user:2")).await.map(drop),
        tokens.preview_revocation(all()).await.map(drop),
    ]
}

pub async fn owners_and_operators_are_checked_before_each_read(store: Store) {
    let operator = manage(&store);
    let id = create(&operator, NewToken::new("own").with_owner("user:1")).await;
    let session = Session::default();
    let owner = Owner::new("user:1")
        .with_check(|| async { Err(CallbackError::unavailable("no route to host")) });
    let admin = Operator::new("alice")
        .with_check(|| async { Err(CallbackError::unavailable("no route to host")) });
    for (open, unavailable) in [
        (session.owner(), Actor::from(owner)),
        (session.operator(), Actor::from(admin)),
    ] {
        let tokens = operator.clone().acting_for(open);
        session.open();
        for outcome in all_reads(&tokens, id).await {
            assert!(outcome.is_ok(), "{outcome:?}");
        }
        session.end();
        for outcome in all_reads(&tokens, id).await {
            assert!(
                matches!(
                    outcome,
                    Err(LifecycleError::Unauthorized(AuthorityError::ActorRejected))
                ),
                "{outcome:?}"
            );
        }
        let tokens = operator.clone().acting_for(unavailable);
        for outcome in all_reads(&tokens, id).await {
            let is_unavailable = matches!(outcome, Err(LifecycleError::ActorCheck(_)));
            assert!(is_unavailable, "{outcome:?}");
        }
    }
}

/// The application still has the principal from the beginning of the request.
pub async fn holders_are_checked_before_each_read(store: Store) {
    let operator = manage(&store);
    let id = create(&operator, NewToken::new("other")).await;
    let new = NewToken::new("reader").with_scopes(["service-tokens:read"]);
    let issued = operator.create(new).await.unwrap();
    let own = issued.record().id();
    let reader = Holder::new(principal(&store, &issued).await);
    let required = Requirement::any_scope(["service-tokens:read"]);
    let tokens = |holder: &Holder| operator.clone().acting_for(holder.clone());
    let strict = tokens(&reader.clone().with_requirement(required));
    let tokens = tokens(&reader);
    let outcomes = all_reads(&tokens, id).await.into_iter();
    for outcome in outcomes.chain(all_reads(&strict, id).await) {
        assert!(outcome.is_ok(), "{outcome:?}");
    }
    let lost = TokenUpdate::new().with_scopes(["projects:read"]);
    operator.update(own, lost).await.unwrap();
    for outcome in all_reads(&strict, id).await {
        let Err(LifecycleError::Unauthorized(AuthorityError::RequirementNotMet(_))) = outcome
        else {
            panic!("{outcome:?}");
        };
    }
    operator.revoke(own).await.unwrap();
    let revoked = AuthorityError::ActorTokenRejected(DenialKind::Revoked);
    for outcome in all_reads(&tokens, id).await {
        let Err(LifecycleError::Unauthorized(error)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(error, revoked);
    }
    assert_eq!(operator.purge(Duration::ZERO).await.unwrap(), [own]);
    for outcome in all_reads(&tokens, id).await {
        assert!(
            matches!(outcome, Err(LifecycleError::UnknownActor)),
            "{outcome:?}"
        );
    }
}

/// The session was replaced by one of another administrator or another member of the team.
pub async fn checks_reject_another_user(store: Store) {
    let operator = manage(&store);
    let id = create(&operator, NewToken::new("own").with_owner("team:7")).await;
    let team = || Owner::new("team:7");
    let alice = || team().with_acting_user("alice");
    let session = |actor: Owner, found: Owner| {
        Actor::from(actor.with_check(move || ready(Ok(Some(found.clone())))))
    };
    let admin = |name: &'static str| {
        let check = move || ready(Ok(Some(Operator::new(name))));
        Actor::from(Operator::new("alice").with_check(check))
    };
    for actor in [
        session(alice(), team().with_acting_user("bob")),
        session(alice(), team()),
        session(team(), alice()),
        session(alice(), Owner::new("team:8").with_acting_user("alice")),
        admin("bob"),
    ] {
        let outcome = operator.clone().acting_for(actor).disable(id).await;
        assert!(
            matches!(
                outcome,
                Err(LifecycleError::Unauthorized(AuthorityError::ActorRejected))
            ),
            "{outcome:?}"
        );
    }
    let enabled = operator.clone().acting_for(admin("alice"));
    enabled.disable(id).await.unwrap();
    let enabled = operator.clone().acting_for(session(alice(), alice()));
    enabled.enable(id).await.unwrap();
}

/// The actors of the audit events.
#[derive(Clone, Default)]
struct Actors(Arc<Mutex<Vec<String>>>);

impl AuditSink for Actors {
    fn record(&self, event: &AuditEvent) {
        self.0.lock().unwrap().push(event.actor().to_owned());
    }
}

pub async fn acting_users_are_named_and_share_the_keys_of_their_owner(store: Store) {
    let actors = Actors::default();
    let operator = manage(&store).with_audit_sink(actors.clone());
    let member = |name: &str| {
        let owner = Owner::new("team:7").with_acting_user(name);
        operator.clone().acting_for(owner)
    };
    let (alice, bob) = (member("alice"), member("bob"));
    let unnamed = operator.clone().acting_for(Owner::new("team:7"));
    let new = || NewToken::new("ci").with_idempotency_key("key");
    let created = create(&alice, new()).await;
    let record = bob.get(created).await.unwrap();
    assert_eq!(record.created_by(), Some("owner:team:7#alice"));
    for tokens in [&alice, &bob, &unnamed] {
        let repeated = tokens.create(new()).await;
        let Err(LifecycleError::AlreadyCreated(record)) = repeated else {
            panic!("{repeated:?}");
        };
        assert_eq!(record.id(), created);
    }
    let _ = bob.rotate_once(created, DAY, "rotation").await.unwrap();
    let repeated = alice.rotate_once(created, DAY, "rotation").await;
    assert!(
        matches!(repeated, Err(LifecycleError::AlreadyRotated(_))),
        "{repeated:?}"
    );
    unnamed.revoke(created).await.unwrap();
    assert_eq!(bob.get(created).await.unwrap().state(), TokenState::Revoked);
    assert_eq!(
        *actors.0.lock().unwrap(),
        ["owner:team:7#alice", "owner:team:7#bob", "owner:team:7"]
    );

    // The owner `team:7#alice` is not the user of `team:7`.
    for (owner, user, name) in [
        ("team:7#alice", None, "owner:team:7%23alice"),
        ("50%", Some("a#b\n%"), "owner:50%25#a%23b%0A%25"),
    ] {
        let named = user.map_or(Owner::new(owner), |user| {
            Owner::new(owner).with_acting_user(user)
        });
        assert_eq!(Actor::from(named.clone()).name(), name);
        let named = operator.clone().acting_for(named);
        let created = create(&named, new()).await;
        let record = named.get(created).await.unwrap();
        assert_eq!(record.created_by(), Some(name));
        let repeated = named.create(new()).await;
        let is_repeated = matches!(repeated, Err(LifecycleError::AlreadyCreated(_)));
        assert!(is_repeated, "{repeated:?}");
    }
}
