//! Permissions of a token, and strategies for the roles and scopes to request.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use tower_service_token::Principal;
use tower_service_token::principal::{Roles, Scopes};
use tower_service_token::store::TokenRecord;

pub(crate) const ROLES: [&str; 3] = ["deployer", "auditor", "boss"];

pub(crate) const SCOPES: [&str; 21] = [
    "a",
    "a:read",
    "a:write",
    "a:*",
    "a:**",
    "a:*:read",
    "a:b:**",
    "b:read",
    "*:read",
    "*:write",
    "*:*",
    "*:**",
    "*",
    "**",
    "vault:open",
    "vault:*",
    "service-tokens:read",
    "service-tokens:write",
    "service-tokens:admin",
    "service-tokens:*",
    "service-tokens:**",
];

/// Scopes to request.
#[derive(Clone, Debug)]
pub(crate) enum RequestedScopes {
    Exact(Vec<&'static str>),
    /// A scope that the actor holds, widened by the function.
    Widened(Index, fn(&str) -> String),
}

impl RequestedScopes {
    pub(crate) fn resolve(&self, held: &Scopes) -> Vec<String> {
        let held: Vec<_> = held.iter().collect();
        match self {
            Self::Exact(scopes) => scopes.iter().map(ToString::to_string).collect(),
            Self::Widened(..) if held.is_empty() => Vec::new(),
            Self::Widened(scope, widen) => {
                let scope = widen(held[scope.index(held.len())]);
                vec![scope]
                    .into_iter()
                    .filter(|it| !it.is_empty())
                    .collect()
            }
        }
    }
}

/// Returns a scope without its last segment, including the trailing colon.
pub(crate) fn parent_prefix(scope: &str) -> &str {
    scope.rfind(':').map_or("", |colon| &scope[..=colon])
}

pub(crate) const WIDENINGS: [fn(&str) -> String; 6] = [
    |scope| format!("{}*", parent_prefix(scope)),
    |scope| format!("{}**", parent_prefix(scope)),
    |scope| format!("{scope}:*"),
    |scope| format!("{scope}:**"),
    |scope| format!("*:{}", scope.split_once(':').map_or("", |(_, rest)| rest)),
    |scope| parent_prefix(scope).trim_end_matches(':').to_owned(),
];

pub(crate) fn requested_scopes() -> impl Strategy<Value = RequestedScopes> {
    prop_oneof![
        scopes().prop_map(RequestedScopes::Exact),
        (any::<Index>(), select(WIDENINGS.to_vec()))
            .prop_map(|(scope, by)| RequestedScopes::Widened(scope, by)),
    ]
}

pub(crate) fn roles() -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(ROLES.to_vec(), 0..=2)
}

pub(crate) fn scopes() -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(SCOPES.to_vec(), 0..=3)
}

/// Generates the scopes of a root token: `service-tokens:write`, and others that do not allow
/// administration.
pub(crate) fn harmless_scopes() -> impl Strategy<Value = Vec<&'static str>> {
    scopes().prop_map(|mut scopes| {
        scopes.retain(|scope| !Scopes::from_iter([scope]).allow("service-tokens:admin"));
        scopes.push("service-tokens:write");
        scopes
    })
}

/// The roles of a token, and the concrete scopes that it allows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Permissions {
    pub(crate) roles: BTreeSet<String>,
    pub(crate) scopes: BTreeSet<&'static str>,
}

impl Permissions {
    pub(crate) fn of(roles: &Roles, scopes: &Scopes) -> Self {
        let concrete = CONCRETE_SCOPES.iter().map(String::as_str);
        Self {
            roles: roles.iter().map(str::to_owned).collect(),
            scopes: concrete.filter(|it| scopes.allow(it)).collect(),
        }
    }

    pub(crate) fn of_record(record: &TokenRecord) -> Self {
        Self::of(record.roles(), record.scopes())
    }

    pub(crate) fn of_caller(caller: &Principal) -> Self {
        Self::of(caller.roles(), caller.scopes())
    }

    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.roles.is_subset(&other.roles) && self.scopes.is_subset(&other.scopes)
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        Self {
            roles: &self.roles | &other.roles,
            scopes: &self.scopes | &other.scopes,
        }
    }
}

/// Concrete scopes of up to three segments that an operation may require. No granted scope contains
/// the segment `z`, so only a wildcard matches it.
pub(crate) static CONCRETE_SCOPES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let segments = ["a", "b", "read", "write", "z"];
    let mut scopes: Vec<_> = segments.iter().map(ToString::to_string).collect();
    for from in [0, segments.len()] {
        let longer = scopes[from..].iter();
        let longer = longer.flat_map(|scope| segments.map(|it| format!("{scope}:{it}")));
        scopes.extend(longer.collect::<Vec<_>>());
    }
    for action in ["read", "write", "admin", "z"] {
        scopes.push(format!("service-tokens:{action}"));
    }
    scopes.extend(["vault:open", "vault:z"].map(str::to_owned));
    scopes
});
