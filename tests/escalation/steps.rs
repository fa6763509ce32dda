//! What holders of tokens do, and what is done to them meanwhile.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::power::{Wanted, roles, wanted};

/// An expiry to ask for, in hours from now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lifetime {
    Never,
    Hours(u64),
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
pub(crate) enum Act {
    Create(Vec<&'static str>, Wanted, Option<Lifetime>),
    Import(Vec<&'static str>, Wanted, Option<Lifetime>),
    Update(
        Index,
        Option<Vec<&'static str>>,
        Option<Wanted>,
        Option<Lifetime>,
    ),
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
pub(crate) enum Interference {
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
    Judged,
    /// Just before the registry makes the change.
    Writing,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) actor: Index,
    pub(crate) act: Act,
    pub(crate) revision: Revision,
    /// Whether ending the last administrator is confirmed.
    pub(crate) confirms: bool,
    pub(crate) meanwhile: Option<(Moment, Interference)>,
    /// How long before it, in minutes.
    pub(crate) pause: u64,
}

fn lifetime() -> impl Strategy<Value = Option<Lifetime>> {
    let lifetime = prop_oneof![Just(Lifetime::Never), (1..48_u64).prop_map(Lifetime::Hours)];
    option::of(lifetime)
}

fn act() -> impl Strategy<Value = Act> {
    let index = any::<Index>;
    let filters = vec![
        Filter::Everything,
        Filter::Role("deployer"),
        Filter::Holding("service-tokens:admin"),
        Filter::Holding("a:read"),
        Filter::OfName("made"),
    ];
    prop_oneof![
        3 => (roles(), wanted(), lifetime()).prop_map(|(a, b, c)| Act::Create(a, b, c)),
        1 => (roles(), wanted(), lifetime()).prop_map(|(a, b, c)| Act::Import(a, b, c)),
        4 => (index(), option::of(roles()), option::of(wanted()), lifetime())
            .prop_map(|(target, a, b, c)| Act::Update(target, a, b, c)),
        1 => index().prop_map(Act::Rename),
        2 => (index(), any::<bool>()).prop_map(|(target, grace)| Act::Rotate(target, grace)),
        2 => any::<bool>().prop_map(Act::RotateOwn),
        1 => index().prop_map(Act::Disable),
        1 => index().prop_map(Act::Enable),
        1 => index().prop_map(Act::Revoke),
        1 => Just(Act::RevokeOwn),
        1 => select(filters).prop_map(Act::RevokeWhere),
        1 => Just(Act::Purge),
    ]
}

fn meanwhile() -> impl Strategy<Value = Option<(Moment, Interference)>> {
    let interferences = vec![
        Interference::Revoke,
        Interference::Disable,
        Interference::Strip,
        Interference::Narrow,
        Interference::Shorten,
        Interference::Rotate,
        Interference::RotateWithGrace,
    ];
    let moment = select(vec![Moment::Judged, Moment::Writing]);
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
