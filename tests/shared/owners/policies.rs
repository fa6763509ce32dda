//! The policies of owners.

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tower_service_token::ServiceTokens;
use tower_service_token::clock::Clock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{
    Actor, CallbackError, Expiry, LifecycleError, NewToken, Owner, TokenPolicy, TokenUpdate,
};
use tower_service_token::registry::TokenFilter;
use tower_service_token::store::TokenState;
use tower_service_token::token::TokenId;

use super::{DAY, clock, create, manage, missing, of, principal, problems};
use crate::operations::Store;

/// Returns the policy of `user:1`. Other owners have none, and that of `down` is unknown.
fn policy(owner: &str) -> Result<TokenPolicy, CallbackError> {
    match owner {
        "user:1" => Ok(TokenPolicy::new()
            .with_max_lifetime(2 * DAY)
            .with_default_lifetime(DAY)
            .with_max_tokens_per_owner(4)
            .require_unique_names()
            .with_name_rule(|name| {
                let is_valid = !name.starts_with("bad");
                is_valid.then_some(()).ok_or("another prefix".to_owned())
            })),
        "down" => Err(CallbackError::unavailable("no route to host")),
        _ => Ok(TokenPolicy::new()),
    }
}

fn with_policies(tokens: &ServiceTokens) -> ServiceTokens {
    let tokens = tokens.clone();
    tokens.with_owner_policies(|owner: String| ready(policy(&owner)))
}

/// Also returns the owners whose policy was queried.
fn with_recorded_policies(tokens: &ServiceTokens) -> (ServiceTokens, Arc<Mutex<Vec<String>>>) {
    let queried: Arc<Mutex<Vec<String>>> = Arc::default();
    let recorded = Arc::clone(&queried);
    let tokens = tokens.clone().with_owner_policies(move |owner: String| {
        recorded.lock().unwrap().push(owner.clone());
        ready(policy(&owner))
    });
    (tokens, queried)
}

fn days(days: u32) -> Expiry {
    format!("{days}d").parse().unwrap()
}

fn in_days(days: u32) -> SystemTime {
    clock().now() + days * DAY
}

fn assert_problem<T>(outcome: Result<T, LifecycleError>, pointer: &str) {
    let problems = problems(outcome);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].pointer, pointer);
}

/// The owner, the holders of its token and of an administrator's, and an operator.
pub async fn policies_of_an_owner_bind_every_actor(store: Store) {
    let unbound = manage(&store);
    let bound = with_policies(&unbound);
    let new = |name: &str| NewToken::new(name).with_owner("user:1");
    let holder = unbound.create(new("holder")).await.unwrap();
    let holder = principal(&store, &holder).await;
    let admin = NewToken::new("admin").with_scopes(["service-tokens:admin"]);
    let admin = unbound.create(admin).await.unwrap();
    let admin = principal(&store, &admin).await;
    let lasting = create(&unbound, new("lasting")).await;
    for (actor, tokens) in [
        ("owner", bound.clone().acting_for(Owner::new("user:1"))),
        ("holder", bound.clone().acting_for(holder)),
        ("admin", bound.clone().acting_for(admin)),
        ("operator", bound.clone()),
    ] {
        let digest = || TokenDigest::of(actor);
        let late = || new(actor).with_expiry(days(3));
        assert_problem(tokens.create(late()).await, "/expires_at");
        let keyed = late().with_idempotency_key("late");
        assert_problem(tokens.create(keyed).await, "/expires_at");
        assert_problem(tokens.import(late(), digest()).await, "/expires_at");
        assert_problem(tokens.create(new("bad")).await, "/name");
        let taken = create(&tokens, new("taken")).await;
        let again = tokens.create(new("taken")).await;
        assert!(matches!(again, Err(LifecycleError::NameTaken)), "{again:?}");
        let id = create(&tokens, new("fourth")).await;
        for outcome in [
            tokens.create(new("fifth")).await.map(drop),
            tokens.import(new("fifth"), digest()).await.map(drop),
        ] {
            let is_full = matches!(outcome, Err(LifecycleError::TooManyTokens));
            assert!(is_full, "{actor}: {outcome:?}");
        }

        let record = tokens.get(id).await.unwrap();
        assert_eq!(record.expires_at(), Some(in_days(1)), "{actor}");
        for expiry in [days(3), Expiry::NEVER] {
            let update = TokenUpdate::new().with_expiry(expiry);
            assert_problem(tokens.update(id, update).await, "/expires_at");
        }
        let extended = TokenUpdate::new().with_expiry(days(2));
        tokens.update(id, extended).await.unwrap();
        let renamed = TokenUpdate::new().with_name("bad");
        assert_problem(tokens.update(id, renamed).await, "/name");
        let renamed = TokenUpdate::new().with_name("taken");
        let renamed = tokens.update(id, renamed).await;
        let is_taken = matches!(renamed, Err(LifecycleError::NameTaken));
        assert!(is_taken, "{actor}: {renamed:?}");

        let rotated = tokens.rotate(lasting, Duration::ZERO).await.unwrap();
        assert_eq!(rotated.record().expires_at(), Some(in_days(2)), "{actor}");
        let lasts = TokenUpdate::new().with_expiry(Expiry::NEVER);
        unbound.update(lasting, lasts).await.unwrap();
        let rotated = tokens.rotate_once(lasting, DAY, actor).await.unwrap();
        assert_eq!(rotated.record().expires_at(), Some(in_days(2)), "{actor}");
        let lasts = TokenUpdate::new().with_expiry(Expiry::NEVER);
        unbound.update(lasting, lasts).await.unwrap();
        for id in [taken, id] {
            tokens.revoke(id).await.unwrap();
        }
    }
    // Tokens of others are not bound.
    for owner in [None, Some("user:2")] {
        let new = owner
            .into_iter()
            .fold(NewToken::new("bad"), NewToken::with_owner);
        let id = create(&bound, new).await;
        assert_eq!(bound.get(id).await.unwrap().expires_at(), None);
    }
}

pub async fn policies_of_an_owner_do_not_relax_those_of_the_application(store: Store) {
    let application = TokenPolicy::new()
        .with_max_lifetime(DAY)
        .with_max_tokens_per_owner(1)
        .with_name_rule(|name| (name == "ci").then_some(()).ok_or("call it ci".to_owned()));
    let operator = with_policies(&manage(&store).with_policy(application));
    for owner in ["user:1", "user:2"] {
        let tokens = of(&operator, owner);
        let late = NewToken::new("ci").with_expiry(days(2));
        assert_problem(tokens.create(late).await, "/expires_at");
        assert_problem(tokens.create(NewToken::new("cd")).await, "/name");
        let first = create(&tokens, NewToken::new("ci")).await;
        let record = tokens.get(first).await.unwrap();
        assert_eq!(record.expires_at(), Some(in_days(1)), "{owner}");
        let second = tokens.create(NewToken::new("ci")).await.map(drop);
        let expected = match owner {
            "user:1" => matches!(
                second,
                Err(LifecycleError::NameTaken | LifecycleError::TooManyTokens)
            ),
            _ => matches!(second, Err(LifecycleError::TooManyTokens)),
        };
        assert!(expected, "{owner}: {second:?}");
    }
}

/// An owner neither limits others nor learns how many tokens they have.
pub async fn maximum_in_the_policy_of_an_owner_counts_only_its_tokens(store: Store) {
    let unbound = manage(&store);
    let foreign = NewToken::new("foreign");
    for owner in [None, Some("user:2"), Some("user:2"), Some("user:3")] {
        let new = owner
            .into_iter()
            .fold(foreign.clone(), NewToken::with_owner);
        create(&unbound, new).await;
    }
    let new = TokenPolicy::new;
    for policy in [
        new().with_max_tokens(2),
        new().with_max_tokens(2).with_max_tokens_per_owner(5),
        new().with_max_tokens(5).with_max_tokens_per_owner(2),
    ] {
        let bound = unbound.clone().with_policy(new().with_max_tokens(7));
        let bound = bound.with_owner_policies(move |_: String| ready(Ok(policy.clone())));
        let alice = of(&bound, "user:1");
        let ids = [
            create(&alice, NewToken::new("first")).await,
            create(&alice, NewToken::new("second")).await,
        ];
        let keyed = NewToken::new("third").with_idempotency_key("third");
        let digest = TokenDigest::of("elsewhere");
        for outcome in [
            alice.create(NewToken::new("third")).await.map(drop),
            alice.create(keyed).await.map(drop),
            alice.import(NewToken::new("third"), digest).await.map(drop),
        ] {
            let is_full = matches!(outcome, Err(LifecycleError::TooManyTokens));
            assert!(is_full, "{outcome:?}");
        }
        // The maximum of the application counts all tokens.
        let bob = of(&bound, "user:4");
        let last = create(&bob, NewToken::new("seventh")).await;
        let full = bob.create(NewToken::new("eighth")).await;
        assert!(
            matches!(full, Err(LifecycleError::TooManyTokens)),
            "{full:?}"
        );
        for id in ids.into_iter().chain([last]) {
            unbound.revoke(id).await.unwrap();
        }
    }
}

/// A holder whose token was given to an owner since the request began.
pub async fn policies_are_those_of_the_stored_owner_of_a_holder(store: Store) {
    let unbound = manage(&store);
    let issued = unbound.create(NewToken::new("holder")).await.unwrap();
    let holder = principal(&store, &issued).await;
    let transfer = TokenUpdate::new().with_owner("user:1");
    unbound
        .update(issued.record().id(), transfer)
        .await
        .unwrap();
    let holder = with_policies(&unbound).acting_for(holder);
    assert_problem(holder.create(NewToken::new("bad")).await, "/name");
    let issued = holder.create(NewToken::new("made")).await.unwrap();
    let record = issued.record();
    assert_eq!(
        (record.owner(), record.expires_at()),
        (Some("user:1"), Some(in_days(1)))
    );
}

pub async fn transferred_tokens_meet_the_policy_of_the_new_owner(store: Store) {
    let (operator, queried) = with_recorded_policies(&manage(&store));
    let id = create(&operator, NewToken::new("bad").with_owner("user:2")).await;
    let transfer = || TokenUpdate::new().with_owner("user:1");
    let found = problems(operator.update(id, transfer()).await);
    let pointers: Vec<_> = found.iter().map(|it| &*it.pointer).collect();
    assert_eq!(pointers, ["/expires_at", "/name"]);
    let named = transfer().with_name("good");
    assert_problem(operator.update(id, named.clone()).await, "/expires_at");
    let late = named.clone().with_expiry(days(3));
    assert_problem(operator.update(id, late).await, "/expires_at");
    let expiring = transfer().with_expiry(days(2));
    assert_problem(operator.update(id, expiring).await, "/name");
    assert_eq!(operator.get(id).await.unwrap().revision(), 1);
    operator
        .update(id, named.with_expiry(days(2)))
        .await
        .unwrap();
    // The policy of the owner from before the transfer does not matter.
    let back = TokenUpdate::new().with_owner("user:2").with_name("bad");
    operator.update(id, back).await.unwrap();
    let free = TokenUpdate::new()
        .without_owner()
        .with_expiry(Expiry::NEVER);
    operator.update(id, free).await.unwrap();

    let down = operator
        .update(id, TokenUpdate::new().with_owner("down"))
        .await;
    assert!(
        matches!(down, Err(LifecycleError::OwnerPolicies(_))),
        "{down:?}"
    );

    // An owner that the caller may not set, or that is invalid, has no policy.
    queried.lock().unwrap().clear();
    let alice = of(&operator, "user:1");
    let own = create(&alice, NewToken::new("own")).await;
    for owner in ["down", "", "down\n"] {
        let new = NewToken::new("x").with_owner(owner);
        assert_problem(alice.create(new.clone()).await, "/owner");
        let update = TokenUpdate::new().with_owner(owner);
        assert_problem(alice.update(own, update.clone()).await, "/owner");
        if owner != "down" {
            assert_problem(operator.create(new).await, "/owner");
            assert_problem(operator.update(own, update).await, "/owner");
        }
    }
    let queried = queried.lock().unwrap();
    assert!(queried.iter().all(|owner| owner == "user:1"), "{queried:?}");
}

/// Makes each change that sets this owner, with fields that its policy may reject.
async fn set_owner(tokens: &ServiceTokens, own: TokenId, owner: &str) -> Vec<LifecycleError> {
    let digest = TokenDigest::of("elsewhere");
    let new = || NewToken::new("bad").with_owner(owner).with_expiry(days(3));
    let update = || TokenUpdate::new().with_owner(owner);
    let late = update().with_expiry(Expiry::NEVER).with_name("bad");
    [
        tokens.create(new()).await.map(drop),
        tokens
            .create(new().with_idempotency_key("key"))
            .await
            .map(drop),
        tokens.import(new(), digest).await.map(drop),
        tokens.update(own, update()).await.map(drop),
        tokens.update(own, late).await.map(drop),
        tokens
            .clone()
            .if_revision(7)
            .update(own, update())
            .await
            .map(drop),
    ]
    .map(Result::unwrap_err)
    .into()
}

/// Returns the actors that may not set an owner, each with a token that it may change, and its own
/// owner.
async fn actors_of_one_owner(
    store: &Store,
    unbound: &ServiceTokens,
) -> Vec<(&'static str, Actor, TokenId, Option<&'static str>)> {
    let issue = async |new: NewToken, transfer: Option<TokenUpdate>| {
        let issued = unbound.create(new).await.unwrap();
        let principal = principal(store, &issued).await;
        if let Some(update) = transfer {
            unbound.update(issued.record().id(), update).await.unwrap();
        }
        Actor::from(principal)
    };
    let owned = |owner: &str| NewToken::new("holder").with_owner(owner);
    let admin = || NewToken::new("admin").with_scopes(["service-tokens:admin"]);
    let writer = || NewToken::new("writer").with_scopes(["service-tokens:write"]);
    let to = |owner: &str| Some(TokenUpdate::new().with_owner(owner));
    let stripped = TokenUpdate::new().with_scopes(["service-tokens:write"]);
    let own = create(unbound, NewToken::new("own").with_owner("user:2")).await;
    let unowned = create(unbound, NewToken::new("unowned")).await;
    let user = Some("user:2");
    // The application has the principals from before the changes.
    vec![
        ("owner", Owner::new("user:2").into(), own, user),
        ("holder", issue(owned("user:2"), None).await, own, user),
        (
            "former",
            issue(owned("user:1"), to("user:2")).await,
            own,
            user,
        ),
        ("given", issue(admin(), to("user:2")).await, own, user),
        ("writer", issue(writer(), None).await, unowned, None),
        (
            "stripped",
            issue(admin(), Some(stripped)).await,
            unowned,
            None,
        ),
    ]
}

/// An actor learns neither the rules of another owner nor whether that owner exists.
pub async fn policies_are_queried_only_for_owners_that_the_actor_may_set(store: Store) {
    let unbound = manage(&store);
    let last = NewToken::new("last").with_scopes(["service-tokens:admin"]);
    create(&unbound, last).await;
    let foreign = create(&unbound, NewToken::new("foreign").with_owner("user:1")).await;
    let (bound, queried) = with_recorded_policies(&unbound);
    for (name, actor, own, owner) in actors_of_one_owner(&store, &unbound).await {
        let tokens = bound.clone().acting_for(actor);
        for other in ["user:1", "down", "user:9"] {
            for error in set_owner(&tokens, own, other).await {
                if owner.is_some() {
                    assert_problem::<()>(Err(error), "/owner");
                } else {
                    assert_eq!(missing::<()>(Err(error)), ["service-tokens:admin"]);
                }
            }
        }
        if owner.is_some() {
            let renamed = TokenUpdate::new().with_name("bad");
            for outcome in [
                tokens.update(foreign, renamed).await.map(drop),
                tokens.rotate(foreign, DAY).await.map(drop),
                tokens.enable(foreign).await.map(drop),
            ] {
                let is_unknown = matches!(outcome, Err(LifecycleError::NotFound));
                assert!(is_unknown, "{name}: {outcome:?}");
            }
        }
        tokens.preview_revocation(TokenFilter::new()).await.unwrap();
        assert_eq!(*queried.lock().unwrap(), [""; 0], "{name}");

        let described = TokenUpdate::new().with_description(name);
        tokens.update(own, described).await.unwrap();
        let made = tokens.create(NewToken::new("made")).await.unwrap();
        assert_eq!(made.record().owner(), owner, "{name}");
        let queried = std::mem::take(&mut *queried.lock().unwrap());
        let expected: Vec<_> = owner
            .into_iter()
            .cycle()
            .take(2 * owner.iter().len())
            .collect();
        assert_eq!(queried, expected, "{name}");
    }
}

pub async fn unavailable_policies_permit_only_disabling_and_revoking(store: Store) {
    let unbound = manage(&store);
    let bound = with_policies(&unbound);
    let new = |name: &str| NewToken::new(name).with_owner("down");
    let active = create(&unbound, new("active")).await;
    let disabled = create(&unbound, new("disabled")).await;
    unbound.disable(disabled).await.unwrap();
    let other = create(&unbound, new("other")).await;
    for tokens in [bound.clone(), bound.clone().acting_for(Owner::new("down"))] {
        let digest = TokenDigest::of("elsewhere");
        let update = || TokenUpdate::new().with_description("x");
        let keyed = new("x").with_idempotency_key("key");
        for outcome in [
            tokens.create(new("x")).await.map(drop),
            tokens.create(keyed).await.map(drop),
            tokens.import(new("x"), digest).await.map(drop),
            tokens.update(active, update()).await.map(drop),
            tokens.rotate(active, DAY).await.map(drop),
            tokens.rotate_once(active, DAY, "key").await.map(drop),
            tokens.enable(disabled).await.map(drop),
        ] {
            let Err(LifecycleError::OwnerPolicies(error)) = outcome else {
                panic!("{outcome:?}");
            };
            assert_eq!(error.to_string(), "no route to host");
        }
        assert_eq!(tokens.count(TokenFilter::new()).await.unwrap(), 3);
        assert_eq!(tokens.get(active).await.unwrap().revision(), 1);
    }
    let owner = bound.acting_for(Owner::new("down"));
    owner.disable(active).await.unwrap();
    owner.revoke(active).await.unwrap();
    let name = TokenFilter::new().with_name("other");
    assert_eq!(
        owner.preview_revocation(name.clone()).await.unwrap().count,
        1
    );
    assert_eq!(owner.revoke_where(name, 1).await.unwrap().ids, [other]);
    let purged = owner.purge(Duration::ZERO).await.unwrap();
    assert_eq!(purged.len(), 2);
    let left = unbound.get(disabled).await.unwrap();
    assert_eq!(left.state(), TokenState::Disabled);
}
