//! Strategies for the steps of token holders, and for concurrent changes by an operator.

use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tower_service_token::lifecycle::{Expiry, NewToken, TokenUpdate};
use tower_service_token::principal::Scopes;
use tower_service_token::registry::TokenFilter;

use crate::escalation::permissions::{RequestedScopes, requested_scopes, roles};

/// An expiry to request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lifetime {
    Never,
    /// This many hours from now.
    Hours(u64),
    /// The token's current expiry.
    Unchanged,
}

/// Which tokens to revoke.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Filter {
    Everything,
    Role(&'static str),
    Scope(&'static str),
    Name(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Create(Vec<&'static str>, RequestedScopes, Option<Lifetime>),
    Import(Vec<&'static str>, RequestedScopes, Option<Lifetime>),
    Update(
        Index,
        Option<Vec<&'static str>>,
        Option<RequestedScopes>,
        Option<Lifetime>,
    ),
    /// Gives a token the actor's roles and scopes, and keeps its expiry.
    CopyOwnPermissions(Index),
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

/// The revision that a change is conditional on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Revision {
    Any,
    Current,
    Stale,
}

/// A change that an operator makes to the actor's token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ConcurrentChange {
    Revoke,
    Disable,
    RemovePermissions,
    RemoveRoles,
    /// Sets the expiry to one minute from now.
    ShortenLifetime,
    Rotate,
    RotateWithGrace,
}

/// The time of a concurrent change.
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
    pub(crate) operation: Operation,
    pub(crate) revision: Revision,
    /// Whether the step allows the removal of the last administrator.
    pub(crate) allows_last_admin_removal: bool,
    pub(crate) concurrent_change: Option<(Moment, ConcurrentChange)>,
    /// The time before the step, in minutes.
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

fn operation() -> impl Strategy<Value = Operation> {
    let index = any::<Index>;
    let filters = vec![
        Filter::Everything,
        Filter::Role("deployer"),
        Filter::Scope("service-tokens:admin"),
        Filter::Scope("a:read"),
        Filter::Name("created"),
    ];
    prop_oneof![
        3 => (roles(), requested_scopes(), lifetime()).prop_map(|(a, b, c)| Operation::Create(a, b, c)),
        1 => (roles(), requested_scopes(), lifetime()).prop_map(|(a, b, c)| Operation::Import(a, b, c)),
        4 => (index(), option::of(roles()), option::of(requested_scopes()), lifetime())
            .prop_map(|(target, a, b, c)| Operation::Update(target, a, b, c)),
        2 => index().prop_map(Operation::CopyOwnPermissions),
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

fn concurrent_change() -> impl Strategy<Value = Option<(Moment, ConcurrentChange)>> {
    let changes = vec![
        ConcurrentChange::Revoke,
        ConcurrentChange::Disable,
        ConcurrentChange::RemovePermissions,
        ConcurrentChange::RemoveRoles,
        ConcurrentChange::ShortenLifetime,
        ConcurrentChange::Rotate,
        ConcurrentChange::RotateWithGrace,
    ];
    let moment = select(vec![Moment::Authenticated, Moment::Writing]);
    option::weighted(0.2, (moment, select(changes)))
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
        operation(),
        select(revisions),
        proptest::bool::weighted(0.1),
        concurrent_change(),
        prop_oneof![4 => 0..5_u64, 1 => 60..600_u64],
    );
    let step = step.prop_map(
        |(actor, operation, revision, allows_last_admin_removal, concurrent_change, pause)| Step {
            actor,
            operation,
            revision,
            allows_last_admin_removal,
            concurrent_change,
            pause,
        },
    );
    vec(step, 1..40)
}

/// Returns the expiry to request for a token whose current expiry is `current`.
pub(crate) fn expiry(lifetime: Lifetime, current: Option<SystemTime>) -> Expiry {
    match lifetime {
        Lifetime::Never => Expiry::NEVER,
        Lifetime::Unchanged => current.map_or(Expiry::NEVER, Expiry::at),
        Lifetime::Hours(hours) => Expiry::after(Duration::from_secs(3600 * hours)),
    }
}

pub(crate) fn new_token(
    roles: &[&'static str],
    scopes: &RequestedScopes,
    lifetime: Option<Lifetime>,
    held: &Scopes,
) -> NewToken {
    let new = NewToken::new("created").with_roles(roles.to_vec());
    let new = new.with_scopes(scopes.resolve(held));
    match lifetime {
        Some(lifetime) => new.with_expiry(expiry(lifetime, None)),
        None => new,
    }
}

pub(crate) fn update(
    roles: Option<&Vec<&'static str>>,
    scopes: Option<&RequestedScopes>,
    expiry: Option<Expiry>,
    held: &Scopes,
) -> TokenUpdate {
    let mut update = TokenUpdate::new();
    if let Some(roles) = roles {
        update = update.with_roles(roles.clone());
    }
    if let Some(scopes) = scopes {
        update = update.with_scopes(scopes.resolve(held));
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
        Filter::Scope(scope) => TokenFilter::new().with_scope(scope),
        Filter::Name(name) => TokenFilter::new().with_name(name),
    }
}
