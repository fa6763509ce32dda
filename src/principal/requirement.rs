use super::{Principal, Roles, Scopes};

/// Roles or scopes of which a principal must hold any, or all.
///
/// No principal meets a requirement without names: an empty list is a mistake.
///
/// ```
/// use tower_service_token::principal::Requirement;
///
/// let deployers = Requirement::any_role(["deployer", "admin"]);
/// assert_eq!(deployers.names().collect::<Vec<_>>(), ["deployer", "admin"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    kind: Kind,
    quantifier: Quantifier,
    names: Box<[Box<str>]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Roles,
    Scopes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    Any,
    All,
}

impl Requirement {
    /// Creates a requirement of at least one of these roles.
    pub fn any_role<S: Into<Box<str>>>(roles: impl IntoIterator<Item = S>) -> Self {
        Self::new(Kind::Roles, Quantifier::Any, roles)
    }

    /// Creates a requirement of each of these roles.
    pub fn all_roles<S: Into<Box<str>>>(roles: impl IntoIterator<Item = S>) -> Self {
        Self::new(Kind::Roles, Quantifier::All, roles)
    }

    /// Creates a requirement of at least one of these scopes, held literally or by a wildcard.
    pub fn any_scope<S: Into<Box<str>>>(scopes: impl IntoIterator<Item = S>) -> Self {
        Self::new(Kind::Scopes, Quantifier::Any, scopes)
    }

    /// Creates a requirement of each of these scopes, held literally or by a wildcard.
    pub fn all_scopes<S: Into<Box<str>>>(scopes: impl IntoIterator<Item = S>) -> Self {
        Self::new(Kind::Scopes, Quantifier::All, scopes)
    }

    /// Returns whether `principal` holds what is required.
    pub fn is_met_by(&self, principal: &Principal) -> bool {
        self.is_met_by_rights(principal.roles(), principal.scopes())
    }

    pub(crate) fn is_met_by_rights(&self, roles: &Roles, scopes: &Scopes) -> bool {
        let holds = |name: &str| match self.kind {
            Kind::Roles => roles.contains(name),
            Kind::Scopes => scopes.allow(name),
        };
        match self.quantifier {
            Quantifier::Any => self.names().any(holds),
            Quantifier::All => !self.names.is_empty() && self.all_are_held(roles, scopes),
        }
    }

    fn all_are_held(&self, roles: &Roles, scopes: &Scopes) -> bool {
        let count = self.names.len();
        match self.kind {
            Kind::Roles => roles.contain_all(self.names(), count),
            Kind::Scopes => scopes.allow_all(self.names(), count),
        }
    }

    /// Returns the names of the roles or scopes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// Returns whether the names are scopes; otherwise they are roles.
    pub fn requires_scopes(&self) -> bool {
        self.kind == Kind::Scopes
    }

    /// Returns whether all of the names are required; otherwise any one of them.
    pub fn requires_all(&self) -> bool {
        self.quantifier == Quantifier::All
    }

    fn new<S: Into<Box<str>>>(
        kind: Kind,
        quantifier: Quantifier,
        names: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            kind,
            quantifier,
            names: names.into_iter().map(Into::into).collect(),
        }
    }
}
