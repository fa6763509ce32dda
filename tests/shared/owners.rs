//! Tests of owners, of tokens with an owner and of their limits, over any empty registry.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tower_service_token::clock::ManualClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{
    Actor, CallbackError, FieldProblem, IssuedToken, LifecycleError, NewToken, Owner, Page,
    TokenPolicy, TokenUpdate,
};
use tower_service_token::principal::Requirement;
use tower_service_token::registry::{AuthorityError, TokenFilter};
use tower_service_token::store::{Credential, TokenState, verdict};
use tower_service_token::token::{PresentedToken, TokenId};
use tower_service_token::{Principal, ServiceTokens};

use crate::operations::Store;

mod checks;
mod policies;
mod stale;
mod transfers;

pub use self::checks::{
    a_session_that_ends_between_read_and_write_changes_nothing,
    acting_users_are_named_and_share_the_keys_of_their_owner, checks_reject_another_user,
    holders_are_checked_before_each_read, owners_and_operators_are_checked_before_each_read,
};
pub use self::policies::{
    maximum_in_the_policy_of_an_owner_counts_only_its_tokens,
    policies_are_queried_only_for_owners_that_the_actor_may_set,
    policies_are_those_of_the_stored_owner_of_a_holder, policies_of_an_owner_bind_every_actor,
    policies_of_an_owner_do_not_relax_those_of_the_application,
    transferred_tokens_meet_the_policy_of_the_new_owner,
    unavailable_policies_permit_only_disabling_and_revoking,
};
pub use self::stale::{
    a_transfer_during_a_bulk_call_leaves_the_tokens_of_the_former_owner,
    holders_end_only_tokens_of_their_stored_owner,
    holders_read_and_change_only_tokens_of_their_stored_owner,
};
pub use self::transfers::{
    a_transfer_ends_the_grace_period_and_removes_the_creator,
    updates_without_a_transfer_keep_the_grace_period_and_the_creator,
};

const DAY: Duration = Duration::from_secs(86_400);

/// 2026-11-22T10:30:00Z
fn clock() -> ManualClock {
    ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_343_400))
}

fn manage(store: &Store) -> ServiceTokens {
    ServiceTokens::new(store.clone()).with_clock(clock())
}

fn of(tokens: &ServiceTokens, owner: &str) -> ServiceTokens {
    let owner = Owner::new(owner)
        .with_roles(["deployer"])
        .with_scopes(["projects:*"]);
    tokens.clone().acting_for(owner)
}

async fn create(tokens: &ServiceTokens, new: NewToken) -> TokenId {
    tokens.create(new).await.unwrap().record().id()
}

/// Returns the caller that presents this token.
async fn principal(store: &Store, issued: &IssuedToken) -> Principal {
    let credential = Credential::new(PresentedToken::new(issued.expose_secret()).unwrap());
    let found = store.find_uncached(&credential).await.unwrap();
    verdict(found, &credential, &clock()).unwrap()
}

async fn names(tokens: &ServiceTokens, filter: TokenFilter) -> Vec<String> {
    let page = tokens.list(filter, Page::default()).await.unwrap();
    let names = page.records.iter().map(|it| it.name().to_owned());
    let mut names: Vec<_> = names.collect();
    // Created at one time, they are in the order of their random ids.
    names.sort_unstable();
    names
}

fn problems<T>(outcome: Result<T, LifecycleError>) -> Vec<FieldProblem> {
    match outcome {
        Err(LifecycleError::Invalid(problems)) => problems,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("accepted"),
    }
}

fn missing<T>(outcome: Result<T, LifecycleError>) -> Vec<String> {
    match outcome {
        Err(LifecycleError::Unauthorized(AuthorityError::EscalationDenied { missing })) => missing,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("accepted"),
    }
}

/// Checks that the actor cannot find this token by any operation.
async fn assert_not_found(tokens: &ServiceTokens, id: TokenId) {
    let secret = "an-idempotency-key";
    let update = TokenUpdate::new().with_description("x");
    let outcomes = [
        ("get", tokens.get(id).await.map(drop)),
        ("number", tokens.get_by_number(id.number()).await.map(drop)),
        ("update", tokens.update(id, update).await.map(drop)),
        ("rotate", tokens.rotate(id, DAY).await.map(drop)),
        (
            "rotate once",
            tokens.rotate_once(id, DAY, secret).await.map(drop),
        ),
        ("disable", tokens.disable(id).await.map(drop)),
        ("enable", tokens.enable(id).await.map(drop)),
        ("revoke", tokens.revoke(id).await.map(drop)),
        (
            "at a revision",
            tokens.clone().if_revision(7).revoke(id).await.map(drop),
        ),
    ];
    for (operation, outcome) in outcomes {
        let is_not_found = matches!(outcome, Err(LifecycleError::NotFound));
        assert!(is_not_found, "{operation}: {outcome:?}");
    }
}

pub async fn owner_sees_and_changes_only_its_tokens(store: Store) {
    let operator = manage(&store);
    let [alice, bob] = ["user:1", "user:2"].map(|owner| of(&operator, owner));
    let own = create(&alice, NewToken::new("a").with_roles(["deployer"])).await;
    let foreign = create(&bob, NewToken::new("b").with_scopes(["projects:read"])).await;
    let unowned = create(&operator, NewToken::new("o")).await;

    let record = alice.get(own).await.unwrap();
    assert_eq!(record.owner(), Some("user:1"));
    assert_eq!(record.created_by(), Some("owner:user:1"));
    assert_eq!(alice.get_by_number(own.number()).await.unwrap().id(), own);
    for id in [foreign, unowned] {
        assert_not_found(&alice, id).await;
    }
    assert_eq!(operator.get(foreign).await.unwrap().revision(), 1);

    let all = TokenFilter::new;
    for (filter, listed) in [
        (all(), &["a"][..]),
        (all().with_owner("user:1"), &["a"]),
        (all().with_owner("user:2"), &[]),
        (all().with_name("b"), &[]),
        (all().with_scope("projects:read"), &[]),
        (all().with_number(foreign.number()), &[]),
        (all().without_revoked(), &["a"]),
    ] {
        assert_eq!(names(&alice, filter.clone()).await, listed, "{filter:?}");
        assert_eq!(alice.count(filter).await.unwrap(), listed.len() as u64);
    }
    assert_eq!(names(&operator, all().with_owner("user:2")).await, ["b"]);
    assert_eq!(operator.count(all()).await.unwrap(), 3);
    assert_eq!(operator.count(all().with_owner("user:2")).await.unwrap(), 1);

    alice
        .update(own, TokenUpdate::new().with_name("a2"))
        .await
        .unwrap();
    let _ = alice.rotate(own, DAY).await.unwrap();
    alice.disable(own).await.unwrap();
    alice.enable(own).await.unwrap();
    alice.revoke(own).await.unwrap();
    assert_eq!(alice.count(all().without_revoked()).await.unwrap(), 0);
}

pub async fn owner_of_a_token_is_set_by_creation_and_by_unconfined_actors(store: Store) {
    let operator = manage(&store);
    let alice = of(&operator, "user:1");
    let id = create(&alice, NewToken::new("a").with_owner("user:1")).await;
    for other in ["user:2", "", " "] {
        let created = alice.create(NewToken::new("x").with_owner(other)).await;
        let created = problems(created);
        let digest = TokenDigest::of("elsewhere");
        let imported = alice
            .import(NewToken::new("x").with_owner(other), digest)
            .await;
        let updated = alice.update(id, TokenUpdate::new().with_owner(other)).await;
        let updated = problems(updated);
        assert_eq!(problems(imported), created);
        for problems in [&created, &updated] {
            let [problem] = &problems[..] else {
                panic!("{problems:?}");
            };
            assert_eq!(problem.pointer, "/owner");
            assert!(!problem.detail.contains("user:"), "{}", problem.detail);
        }
    }
    let cleared = alice.update(id, TokenUpdate::new().without_owner()).await;
    assert_eq!(problems(cleared)[0].pointer, "/owner");
    alice
        .update(id, TokenUpdate::new().with_owner("user:1"))
        .await
        .unwrap();
    assert_eq!(alice.get(id).await.unwrap().revision(), 1, "no change");

    for invalid in ["", " user:2", "user\n2", "user\0", &"x".repeat(201)] {
        let created = operator
            .create(NewToken::new("x").with_owner(invalid))
            .await;
        assert_eq!(problems(created)[0].pointer, "/owner", "{invalid:?}");
        let updated = operator
            .update(id, TokenUpdate::new().with_owner(invalid))
            .await;
        assert_eq!(problems(updated)[0].pointer, "/owner", "{invalid:?}");
        let unnamed = operator.clone().acting_for(Owner::new(invalid));
        let created = unnamed.create(NewToken::new("x")).await;
        assert_eq!(problems(created)[0].pointer, "/owner", "{invalid:?}");
        assert_eq!(unnamed.count(TokenFilter::new()).await.unwrap(), 0);
    }

    operator
        .update(id, TokenUpdate::new().with_owner("user:2"))
        .await
        .unwrap();
    assert_not_found(&alice, id).await;
    assert_eq!(of(&operator, "user:2").get(id).await.unwrap().id(), id);
    operator
        .update(id, TokenUpdate::new().without_owner())
        .await
        .unwrap();
    assert_not_found(&of(&operator, "user:2"), id).await;
    assert_eq!(operator.get(id).await.unwrap().owner(), None);
}

pub async fn owner_grants_only_its_rights_and_may_end_each_of_its_tokens(store: Store) {
    let operator = manage(&store);
    let alice = of(&operator, "user:1");
    for (new, lacks) in [
        (
            NewToken::new("x").with_roles(["deployer", "admin"]),
            "admin",
        ),
        (
            NewToken::new("x").with_scopes(["projects:*", "billing:read"]),
            "billing:read",
        ),
        (
            NewToken::new("x").with_scopes(["service-tokens:admin"]),
            "service-tokens:admin",
        ),
        (NewToken::new("x").with_scopes(["**"]), "**"),
    ] {
        assert_eq!(missing(alice.create(new).await), [lacks]);
    }
    let granting_nothing = operator.clone().acting_for(Owner::new("user:1"));
    create(&granting_nothing, NewToken::new("without rights")).await;

    let exceeding = |name| {
        NewToken::new(name)
            .with_owner("user:1")
            .with_roles(["admin"])
    };
    let id = create(&operator, exceeding("exceeding")).await;
    let rename = TokenUpdate::new().with_name("renamed");
    assert_eq!(missing(alice.update(id, rename.clone()).await), ["admin"]);
    assert_eq!(missing(alice.rotate(id, DAY).await), ["admin"]);
    alice.disable(id).await.unwrap();
    assert_eq!(missing(alice.update(id, rename).await), ["admin"]);
    assert_eq!(missing(alice.enable(id).await), ["admin"]);
    alice.revoke(id).await.unwrap();
    assert_eq!(operator.get(id).await.unwrap().state(), TokenState::Revoked);

    create(&operator, exceeding("second")).await;
    let filter = TokenFilter::new().with_name("second");
    let preview = alice.preview_revocation(filter.clone()).await.unwrap();
    assert_eq!((preview.count, preview.forbidden), (1, 0));
    assert_eq!(alice.revoke_where(filter, 1).await.unwrap().ids.len(), 1);
}

pub async fn owner_purges_each_of_its_tokens(store: Store) {
    let clock = clock();
    let operator = manage(&store).with_clock(clock.clone());
    let expiring = |owner| {
        let new = NewToken::new("exceeding").with_owner(owner);
        new.with_roles(["admin"]).with_expiry("1d".parse().unwrap())
    };
    let own = create(&operator, expiring("user:1")).await;
    let foreign = create(&operator, expiring("user:2")).await;
    clock.advance(2 * DAY);
    let alice = of(&operator, "user:1");
    assert_eq!(alice.purge(Duration::ZERO).await.unwrap(), [own]);
    assert_eq!(operator.purge(Duration::ZERO).await.unwrap(), [foreign]);
}

pub async fn holder_of_an_owned_token_is_confined_to_its_owner(store: Store) {
    let operator = manage(&store);
    let own = NewToken::new("own").with_owner("user:1");
    let issued = operator.create(own.with_scopes(["**"])).await.unwrap();
    let holder = principal(&store, &issued).await;
    assert_eq!(holder.owner(), Some("user:1"));
    let holder = operator.clone().acting_for(holder);
    let new = |name: &str| NewToken::new(name).with_roles(["admin"]);
    let sibling = create(&operator, new("sibling").with_owner("user:1")).await;
    let foreign = create(&operator, new("foreign").with_owner("user:2")).await;
    let unowned = create(&operator, new("unowned")).await;

    for id in [foreign, unowned] {
        assert_not_found(&holder, id).await;
    }
    assert_eq!(names(&holder, TokenFilter::new()).await, ["own", "sibling"]);
    let made = create(&holder, NewToken::new("made").with_scopes(["**"])).await;
    assert_eq!(operator.get(made).await.unwrap().owner(), Some("user:1"));
    let other = holder.create(NewToken::new("x").with_owner("user:2")).await;
    assert_eq!(problems(other)[0].pointer, "/owner");

    // `**` of a tenant does not give it the roles of the application.
    assert_eq!(missing(holder.create(new("x")).await), ["admin"]);
    assert_eq!(missing(holder.rotate(sibling, DAY).await), ["admin"]);
    holder.disable(sibling).await.unwrap();
    assert_eq!(missing(holder.enable(sibling).await), ["admin"]);
    holder.revoke(sibling).await.unwrap();
}

pub async fn registry_judges_a_holder_by_the_stored_owner(store: Store) {
    let operator = manage(&store);
    let new = |name: &str| NewToken::new(name).with_scopes(["projects:read"]);
    let issued = operator.create(new("actor")).await.unwrap();
    let foreign = create(&operator, new("foreign").with_owner("user:2")).await;
    let own = create(&operator, new("own").with_owner("user:1")).await;
    // The application still has the principal from before the transfer.
    let holder = principal(&store, &issued).await;
    let holder = operator.clone().acting_for(holder);
    let transfer = TokenUpdate::new().with_owner("user:1");
    operator
        .update(issued.record().id(), transfer)
        .await
        .unwrap();

    let update = TokenUpdate::new().with_description("x");
    let foreign_update = holder.update(foreign, update.clone()).await;
    assert!(
        matches!(foreign_update, Err(LifecycleError::NotFound)),
        "{foreign_update:?}"
    );
    let preview = holder.preview_revocation(TokenFilter::new()).await.unwrap();
    assert_eq!(preview.count, 2, "{preview:?}");
    holder.update(own, update).await.unwrap();
    let made = create(&holder, new("made")).await;
    assert_eq!(operator.get(made).await.unwrap().owner(), Some("user:1"));
}

pub async fn owned_tokens_never_count_as_administrators(store: Store) {
    let operator = manage(&store);
    let admin = |name: &str| NewToken::new(name).with_scopes(["service-tokens:admin"]);
    let last = create(&operator, admin("last")).await;
    let owned = create(&operator, admin("owned").with_owner("user:1")).await;
    for outcome in [
        operator.revoke(last).await.map(drop),
        operator.disable(last).await.map(drop),
        operator
            .update(last, TokenUpdate::new().with_owner("user:1"))
            .await
            .map(drop),
        operator
            .revoke_where(TokenFilter::new().with_name("last"), 1)
            .await
            .map(drop),
    ] {
        assert!(
            matches!(outcome, Err(LifecycleError::LastAdmin)),
            "{outcome:?}"
        );
    }
    of(&operator, "user:1").revoke(owned).await.unwrap();
}

pub async fn owner_is_checked_before_each_change(store: Store) {
    type Checked = Result<Option<Owner>, CallbackError>;
    let operator = manage(&store);
    let calls = Arc::new(AtomicUsize::new(0));
    let answer = Arc::new(Mutex::new(
        (|| Ok(Some(Owner::new("user:1")))) as fn() -> Checked,
    ));
    let check = {
        let (calls, answer) = (calls.clone(), answer.clone());
        move || {
            calls.fetch_add(1, Ordering::SeqCst);
            let answer = *answer.lock().unwrap();
            async move { answer() }
        }
    };
    let alice = Owner::new("user:1")
        .with_scopes(["projects:*"])
        .with_check(check);
    let alice = operator.clone().acting_for(alice);
    let id = create(&alice, NewToken::new("a")).await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    alice.get(id).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2, "one check of each read");

    // The rights that it returns bound the change.
    let granted = || NewToken::new("x").with_scopes(["projects:read"]);
    assert_eq!(missing(alice.create(granted()).await), ["projects:read"]);
    *answer.lock().unwrap() = || Ok(Some(Owner::new("user:1").with_scopes(["projects:read"])));
    create(&alice, granted()).await;

    *answer.lock().unwrap() = || Err(CallbackError::unavailable("no route to host"));
    for outcome in all_changes(&alice, id).await {
        assert!(
            matches!(outcome, Err(LifecycleError::ActorCheck(_))),
            "{outcome:?}"
        );
    }
    let rejections: [fn() -> Checked; 2] = [|| Ok(None), || Ok(Some(Owner::new("user:2")))];
    for rejection in rejections {
        *answer.lock().unwrap() = rejection;
        for outcome in all_changes(&alice, id).await {
            let rejected = LifecycleError::Unauthorized(AuthorityError::ActorRejected).to_string();
            assert_eq!(outcome.unwrap_err().to_string(), rejected);
        }
    }
    assert_eq!(operator.get(id).await.unwrap().revision(), 1);
    assert_eq!(operator.count(TokenFilter::new()).await.unwrap(), 2);
}

pub async fn the_requirement_of_an_owner_is_checked_before_each_change(store: Store) {
    let operator = manage(&store);
    let id = create(&operator, NewToken::new("a").with_owner("user:1")).await;
    let owner = |scopes: &[&str]| Owner::new("user:1").with_scopes(scopes);
    let acting = |owner: Owner| {
        let requirement = Requirement::all_scopes(["tokens:manage"]);
        operator
            .clone()
            .acting_for(owner.with_requirement(requirement))
    };
    let covered = || owner(&["tokens:*"]);
    let lost = owner(&["projects:*"]);
    let lost = covered().with_check(move || std::future::ready(Ok(Some(lost.clone()))));
    for owner in [owner(&[]), owner(&["projects:*"]), lost] {
        for outcome in all_changes(&acting(owner), id).await {
            let Err(LifecycleError::Unauthorized(AuthorityError::RequirementNotMet(unmet))) =
                outcome
            else {
                panic!("{outcome:?}");
            };
            assert_eq!(unmet.names().collect::<Vec<_>>(), ["tokens:manage"]);
        }
    }
    assert_eq!(operator.get(id).await.unwrap().revision(), 1);
    acting(covered()).disable(id).await.unwrap();
    let gained = covered();
    let gained = owner(&[]).with_check(move || std::future::ready(Ok(Some(gained.clone()))));
    acting(gained).revoke(id).await.unwrap();
}

async fn all_changes(tokens: &ServiceTokens, id: TokenId) -> Vec<Result<(), LifecycleError>> {
    let digest = TokenDigest::of("elsewhere");
    let keyed = NewToken::new("k").with_idempotency_key("k");
    vec![
        tokens.create(NewToken::new("x")).await.map(drop),
        tokens.create(keyed).await.map(drop),
        tokens.import(NewToken::new("x"), digest).await.map(drop),
        tokens
            .update(id, TokenUpdate::new().with_name("x"))
            .await
            .map(drop),
        tokens.rotate(id, DAY).await.map(drop),
        tokens.disable(id).await.map(drop),
        tokens.enable(id).await.map(drop),
        tokens.revoke(id).await.map(drop),
        tokens.revoke_where(TokenFilter::new(), 2).await.map(drop),
        tokens
            .preview_revocation(TokenFilter::new())
            .await
            .map(drop),
        tokens.purge(Duration::ZERO).await.map(drop),
    ]
}

pub async fn limits_of_an_owner_count_only_its_tokens(store: Store) {
    let policy = TokenPolicy::new().with_max_tokens_per_owner(2);
    let operator = manage(&store).with_policy(policy);
    let [alice, bob] = ["user:1", "user:2"].map(|owner| of(&operator, owner));
    let first = create(&alice, NewToken::new("a1")).await;
    create(&operator, NewToken::new("a2").with_owner("user:1")).await;
    create(&bob, NewToken::new("b1")).await;
    for name in ["o1", "o2", "o3"] {
        create(&operator, NewToken::new(name)).await;
    }
    for tokens in [&alice, &operator] {
        let third = NewToken::new("a3").with_owner("user:1");
        let third = tokens.create(third).await;
        assert!(
            matches!(third, Err(LifecycleError::TooManyTokens)),
            "{third:?}"
        );
    }
    create(&bob, NewToken::new("b2")).await;
    alice.revoke(first).await.unwrap();
    create(&alice, NewToken::new("a3")).await;
}

pub async fn concurrent_creations_stay_within_the_limit_of_an_owner(store: Store) {
    let policy = TokenPolicy::new().with_max_tokens_per_owner(3);
    let operator = manage(&store).with_policy(policy);
    let mut creations = JoinSet::new();
    for index in 0..16 {
        let owner = of(&operator, ["user:1", "user:2"][index % 2]);
        creations.spawn(async move { owner.create(NewToken::new("ci")).await.map(drop) });
    }
    let outcomes = creations.join_all().await;
    let is_rejected =
        |it: &Result<(), LifecycleError>| matches!(it, Err(LifecycleError::TooManyTokens));
    let rejected = outcomes.iter().filter(|it| is_rejected(it)).count();
    let created = outcomes.iter().filter(|it| it.is_ok()).count();
    assert_eq!((created, rejected), (6, 10), "{outcomes:?}");
    for owner in ["user:1", "user:2"] {
        let filter = TokenFilter::new().with_owner(owner);
        assert_eq!(operator.count(filter).await.unwrap(), 3);
    }
}

pub async fn names_are_unique_per_owner(store: Store) {
    let operator = manage(&store).with_policy(TokenPolicy::new().require_unique_names());
    let [alice, bob] = ["user:1", "user:2"].map(|owner| of(&operator, owner));
    let new = || NewToken::new("ci");
    let unowned = create(&operator, new()).await;
    let own = create(&alice, new()).await;
    let foreign = create(&bob, new()).await;
    let taken = |outcome: Result<(), LifecycleError>| {
        assert!(
            matches!(outcome, Err(LifecycleError::NameTaken)),
            "{outcome:?}"
        );
    };
    taken(operator.create(new()).await.map(drop));
    taken(alice.create(new()).await.map(drop));
    taken(operator.create(new().with_owner("user:2")).await.map(drop));

    // A transfer reserves the name again.
    let to = |owner: &str| TokenUpdate::new().with_owner(owner);
    taken(operator.update(own, to("user:2")).await.map(drop));
    taken(
        operator
            .update(own, TokenUpdate::new().without_owner())
            .await
            .map(drop),
    );
    taken(operator.update(unowned, to("user:1")).await.map(drop));
    operator.update(own, to("user:3")).await.unwrap();
    let own = create(&alice, new()).await;
    taken(of(&operator, "user:3").create(new()).await.map(drop));

    // A change of other fields keeps the reservation, also one under a policy without unique names.
    let relaxed = manage(&store);
    relaxed
        .update(own, TokenUpdate::new().with_description("x"))
        .await
        .unwrap();
    taken(alice.create(new()).await.map(drop));
    relaxed
        .update(own, TokenUpdate::new().with_name("other"))
        .await
        .unwrap();
    create(&alice, new()).await;
    relaxed.update(foreign, to("user:4")).await.unwrap();
    create(&bob, new()).await;
}

pub async fn repetitions_return_only_tokens_of_the_owner(store: Store) {
    let operator = manage(&store);
    let [alice, bob] = ["user:1", "user:2"].map(|owner| of(&operator, owner));
    let new = || NewToken::new("ci").with_idempotency_key("key");
    let own = create(&alice, new()).await;
    let foreign = create(&bob, new()).await;
    assert_ne!(own, foreign);
    for (tokens, id) in [(&alice, own), (&bob, foreign)] {
        let repeated = tokens.create(new()).await;
        let Err(LifecycleError::AlreadyCreated(record)) = repeated else {
            panic!("{repeated:?}");
        };
        assert_eq!(record.id(), id);
    }
    let _ = alice.rotate_once(own, DAY, "rotation").await.unwrap();
    let repeated = alice.rotate_once(own, DAY, "rotation").await;
    assert!(
        matches!(repeated, Err(LifecycleError::AlreadyRotated(_))),
        "{repeated:?}"
    );

    operator
        .update(own, TokenUpdate::new().with_owner("user:2"))
        .await
        .unwrap();
    let repeated = alice.create(new()).await;
    assert!(
        matches!(repeated, Err(LifecycleError::IdempotencyKeyReused)),
        "{repeated:?}"
    );
    let repeated = alice.rotate_once(own, DAY, "rotation").await;
    assert!(
        matches!(repeated, Err(LifecycleError::NotFound)),
        "{repeated:?}"
    );
}

pub async fn bulk_calls_and_purges_of_an_owner_leave_other_tokens(store: Store) {
    let operator = manage(&store);
    let [alice, bob] = ["user:1", "user:2"].map(|owner| of(&operator, owner));
    for index in 0..4 {
        create(&bob, NewToken::new(format!("b{index}"))).await;
        create(&operator, NewToken::new(format!("o{index}"))).await;
    }
    let expired = create(&bob, NewToken::new("expired")).await;
    bob.revoke(expired).await.unwrap();
    let only = create(&alice, NewToken::new("a")).await;
    let all = TokenFilter::new;

    // One of eleven tokens, but all of the owner's.
    let preview = alice.preview_revocation(all()).await.unwrap();
    assert_eq!(
        (preview.count, preview.needs_expect),
        (1, true),
        "{preview:?}"
    );
    assert_eq!(preview.sample, [only]);
    let foreign = all().with_owner("user:2");
    let preview = alice.preview_revocation(foreign.clone()).await.unwrap();
    assert_eq!(
        (preview.count, preview.needs_expect),
        (0, false),
        "{preview:?}"
    );
    assert!(alice.revoke_where(foreign, 0).await.unwrap().ids.is_empty());
    assert_eq!(alice.purge(Duration::ZERO).await.unwrap(), []);
    assert_eq!(alice.revoke_where(all(), 1).await.unwrap().ids, [only]);
    assert_eq!(alice.purge(Duration::ZERO).await.unwrap(), [only]);
    assert_eq!(operator.count(all().without_revoked()).await.unwrap(), 8);
    assert_eq!(operator.count(all()).await.unwrap(), 9);
}

pub async fn possession_and_unconfined_holders_reach_owned_tokens(store: Store) {
    let operator = manage(&store);
    let manager = NewToken::new("manager").with_scopes(["projects:**"]);
    let manager = operator.create(manager).await.unwrap();
    let manager = operator
        .clone()
        .acting_for(principal(&store, &manager).await);
    let owned = NewToken::new("owned")
        .with_owner("user:1")
        .with_scopes(["projects:read"]);
    let owned = operator.create(owned).await.unwrap();
    let id = owned.record().id();
    manager
        .update(id, TokenUpdate::new().with_description("x"))
        .await
        .unwrap();
    let credential = Credential::new(PresentedToken::new(owned.expose_secret()).unwrap());
    let possession = operator
        .clone()
        .acting_for(Actor::possession(id, &credential));
    for read in [
        possession.get(id).await.map(drop),
        possession.count(TokenFilter::new()).await.map(drop),
        possession
            .list(TokenFilter::new(), Page::default())
            .await
            .map(drop),
    ] {
        let is_rejected = matches!(
            read,
            Err(LifecycleError::Unauthorized(
                AuthorityError::ActorTokenRejected(_)
            ))
        );
        assert!(is_rejected, "{read:?}");
    }
    possession.revoke(id).await.unwrap();
    // Again, because the response may be lost.
    possession.revoke(id).await.unwrap();
    assert_eq!(operator.get(id).await.unwrap().state(), TokenState::Revoked);
}

/// A token without an owner sets the owner of a token only if it is an administrator's.
pub async fn only_administrators_set_owners(store: Store) {
    let operator = manage(&store);
    let holder = async |scopes: &[&str]| {
        let new = NewToken::new("manager").with_scopes(scopes.iter().copied());
        let issued = operator.create(new).await.unwrap();
        let principal = principal(&store, &issued).await;
        operator.clone().acting_for(principal)
    };
    let writer = holder(&["projects:**", "service-tokens:read", "service-tokens:write"]).await;
    let owned = create(&operator, NewToken::new("owned").with_owner("user:1")).await;
    let unowned = create(&operator, NewToken::new("unowned")).await;
    let set = || TokenUpdate::new().with_owner("user:2");
    let new = || NewToken::new("x").with_owner("user:1");
    let digest = TokenDigest::of("elsewhere");
    for outcome in [
        writer.create(new()).await.map(drop),
        writer
            .create(new().with_idempotency_key("key"))
            .await
            .map(drop),
        writer.import(new(), digest).await.map(drop),
        writer.update(owned, set()).await.map(drop),
        writer
            .update(owned, TokenUpdate::new().without_owner())
            .await
            .map(drop),
        writer.update(unowned, set()).await.map(drop),
    ] {
        assert_eq!(missing(outcome), ["service-tokens:admin"]);
    }
    assert_eq!(operator.get(owned).await.unwrap().revision(), 1);
    assert_eq!(operator.get(unowned).await.unwrap().revision(), 1);
    assert_eq!(operator.count(TokenFilter::new()).await.unwrap(), 3);
    for id in [owned, unowned] {
        let update = TokenUpdate::new().with_description("x");
        writer.update(id, update).await.unwrap();
    }

    let admin = holder(&["service-tokens:admin"]).await;
    let made = create(&admin, new()).await;
    assert_eq!(operator.get(made).await.unwrap().owner(), Some("user:1"));
    for id in [owned, unowned] {
        let updated = admin.update(id, set()).await.unwrap();
        assert_eq!(updated.record.owner(), Some("user:2"));
    }
    let cleared = TokenUpdate::new().without_owner();
    admin.update(owned, cleared).await.unwrap();
}

/// Passes the name of each test to a macro.
#[macro_export]
macro_rules! every_owner_test {
    ($then:ident) => {
        $then! {
            owner_sees_and_changes_only_its_tokens,
            owner_of_a_token_is_set_by_creation_and_by_unconfined_actors,
            owner_grants_only_its_rights_and_may_end_each_of_its_tokens,
            owner_purges_each_of_its_tokens,
            holder_of_an_owned_token_is_confined_to_its_owner,
            registry_judges_a_holder_by_the_stored_owner,
            owned_tokens_never_count_as_administrators,
            owner_is_checked_before_each_change,
            the_requirement_of_an_owner_is_checked_before_each_change,
            limits_of_an_owner_count_only_its_tokens,
            concurrent_creations_stay_within_the_limit_of_an_owner,
            names_are_unique_per_owner,
            repetitions_return_only_tokens_of_the_owner,
            bulk_calls_and_purges_of_an_owner_leave_other_tokens,
            possession_and_unconfined_holders_reach_owned_tokens,
            only_administrators_set_owners,
            a_session_that_ends_between_read_and_write_changes_nothing,
            owners_and_operators_are_checked_before_each_read,
            holders_are_checked_before_each_read,
            checks_reject_another_user,
            acting_users_are_named_and_share_the_keys_of_their_owner,
            policies_of_an_owner_bind_every_actor,
            policies_are_queried_only_for_owners_that_the_actor_may_set,
            holders_read_and_change_only_tokens_of_their_stored_owner,
            holders_end_only_tokens_of_their_stored_owner,
            a_transfer_during_a_bulk_call_leaves_the_tokens_of_the_former_owner,
            policies_of_an_owner_do_not_relax_those_of_the_application,
            maximum_in_the_policy_of_an_owner_counts_only_its_tokens,
            policies_are_those_of_the_stored_owner_of_a_holder,
            transferred_tokens_meet_the_policy_of_the_new_owner,
            unavailable_policies_permit_only_disabling_and_revoking,
            a_transfer_ends_the_grace_period_and_removes_the_creator,
            updates_without_a_transfer_keep_the_grace_period_and_the_creator,
        }
    };
}
pub use crate::every_owner_test;
