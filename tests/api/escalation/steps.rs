//! The steps of holders of tokens, and of an operator meanwhile.

use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tower_service_token::lifecycle::{Expiry, NewToken, TokenUpdate};
use tower_service_token::principal::Scopes;
use tower_service_token::registry::TokenFilter;

use crate::escalation::permissions::{Wanted, roles, wanted};

/// An expiry to ask for, in hours from now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lifetime {
    Never,
    Hours(u64),
    /// Until the token expires already.
    Unchanged,
}

/// Which tokens to revoke.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Filter {
    Everything,
    Role(&'static str),
    Holding(&'static str),
    OfName(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Create(Vec<&'static str>, Wanted, Option<Lifetime>),
    Import(Vec<&'static str>, Wanted, Option<Lifetime>),
    Update(
        Index,
        Option<Vec<&'static str>>,
        Option<Wanted>,
        Option<Lifetime>,
    ),
    /// Gives a token the actor's own rights, for the time that it has.
    Equal(Index),
    Rename(Index),
    Rotate(Index, bool),
    RotateOwn(bool),
    Disable(Index),
    Enable(Index),
    Revoke(Index),
    RevokeOwn,
    RevokeWhere(Filter),
    Purge,
}

/// The revision that a change names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Revision {
    Any,
    Current,
    Stale,
}

/// What an operator does to the actor's token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ConcurrentChange {
    Revoke,
    Disable,
    /// Takes all roles and scopes.
    Strip,
    /// Takes the roles.
    Narrow,
    /// Gives it an expiry a minute away.
    Shorten,
    Rotate,
    RotateWithGrace,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Moment {
    /// After the caller was authenticated.
    Authenticated,
    /// Just before the registry makes the change.
    Writing,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) actor: Index,
    pub(crate) act: Operation,
    pub(crate) revision: Revision,
    /// Whether ending the last administrator is confirmed.
    pub(crate) confirms: bool,
    pub(crate) meanwhile: Option<(Moment, ConcurrentChange)>,
    /// How long before it, in minutes.
    pub(crate) pause: u64,
}

fn lifetime() -> impl Strategy<Value = Option<Lifetime>> {
    let lifetime = prop_oneof![
        Just(Lifetime::Never),
        Just(Lifetime::Unchanged),
        (1..48_u64).prop_map(Lifetime::Hours)
    ];
    option::of(lifetime)
}

fn act() -> impl Strategy<Value = Operation> {
    let index = any::<Index>;
    let filters = vec![
        Filter::Everything,
        Filter::Role("deployer"),
        Filter::Holding("service-tokens:admin"),
        Filter::Holding("a:read"),
        Filter::OfName("made"),
    ];
    prop_oneof![
        3 => (roles(), wanted(), lifetime()).prop_map(|(a, b, c)| Operation::Create(a, b, c)),
        1 => (roles(), wanted(), lifetime()).prop_map(|(a, b, c)| Operation::Import(a, b, c)),
        4 => (index(), option::of(roles()), option::of(wanted()), lifetime())
            .prop_map(|(target, a, b, c)| Operation::Update(target, a, b, c)),
        2 => index().prop_map(Operation::Equal),
        1 => index().prop_map(Operation::Rename),
        2 => (index(), any::<bool>()).prop_map(|(target, grace)| Operation::Rotate(target, grace)),
        2 => any::<bool>().prop_map(Operation::RotateOwn),
        1 => index().prop_map(Operation::Disable),
        1 => index().prop_map(Operation::Enable),
        1 => index().prop_map(Operation::Revoke),
        1 => Just(Operation::RevokeOwn),
        1 => select(filters).prop_map(Operation::RevokeWhere),
        1 => Just(Operation::Purge),
    ]
}

fn meanwhile() -> impl Strategy<Value = Option<(Moment, ConcurrentChange)>> {
    let interferences = vec![
        ConcurrentChange::Revoke,
        ConcurrentChange::Disable,
        ConcurrentChange::Strip,
        ConcurrentChange::Narrow,
        ConcurrentChange::Shorten,
        ConcurrentChange::Rotate,
        ConcurrentChange::RotateWithGrace,
    ];
    let moment = select(vec![Moment::Authenticated, Moment::Writing]);
    option::weighted(0.2, (moment, select(interferences)))
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let revisions = vec![
        Revision::Any,
        Revision::Any,
        Revision::Current,
        Revision::Stale,
    ];
    let step = (
        any::<Index>(),
        act(),
        select(revisions),
        proptest::bool::weighted(0.1),
        meanwhile(),
        prop_oneof![4 => 0..5_u64, 1 => 60..600_u64],
    );
    let step = step.prop_map(|(actor, act, revision, confirms, meanwhile, pause)| Step {
        actor,
        act,
        revision,
        confirms,
        meanwhile,
        pause,
    });
    vec(step, 1..40)
}

/// The expiry to ask for, of a token that expires at `known` so far.
pub(crate) fn expiry(lifetime: Lifetime, known: Option<SystemTime>) -> Expiry {
    match lifetime {
        Lifetime::Never => Expiry::NEVER,
        Lifetime::Unchanged => known.map_or(Expiry::NEVER, Expiry::at),
        Lifetime::Hours(hours) => Expiry::after(Duration::from_secs(3600 * hours)),
    }
}

pub(crate) fn new_token(
    roles: &[&'static str],
    scopes: &Wanted,
    lifetime: Option<Lifetime>,
    held: &Scopes,
) -> NewToken {
    let new = NewToken::new("made").with_roles(roles.to_vec());
    let new = new.with_scopes(scopes.of_holder(held));
    match lifetime {
        Some(lifetime) => new.with_expiry(expiry(lifetime, None)),
        None => new,
    }
}

pub(crate) fn update(
    roles: Option<&Vec<&'static str>>,
    scopes: Option<&Wanted>,
    expiry: Option<Expiry>,
    held: &Scopes,
) -> TokenUpdate {
    let mut update = TokenUpdate::new();
    if let Some(roles) = roles {
        update = update.with_roles(roles.clone());
    }
    if let Some(scopes) = scopes {
        update = update.with_scopes(scopes.of_holder(held));
    }
    if let Some(expiry) = expiry {
        update = update.with_expiry(expiry);
    }
    update
}

pub(crate) fn filter_of(filter: Filter) -> TokenFilter {
    match filter {
        Filter::Everything => TokenFilter::new(),
        Filter::Role(role) => TokenFilter::new().with_role(role),
        Filter::Holding(scope) => TokenFilter::new().with_scope(scope),
        Filter::OfName(name) => TokenFilter::new().with_name(name),
    }
}
