use super::{Roles, Scopes};

/// Roles or scopes, of which a principal must have any or all.
///
/// A requirement without names is never met.
///
/// ```
/// use tower_service_token::principal::Requirement;
///
/// let deployers = Requirement::any_role(["deployer", "admin"]);
/// assert_eq!(deployers.names().collect::<Vec<_>>(), ["deployer", "admin"]);
///
/// let configured: Vec<String> = vec!["deployer".into(), "admin".into()];
/// assert_eq!(Requirement::any_role(&configured), deployers);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    requires_scopes: bool,
    requires_all: bool,
    names: Box<[Box<str>]>,
}

impl Requirement {
    /// Creates a requirement of at least one of these roles.
    pub fn any_role<S: AsRef<str>>(roles: impl IntoIterator<Item = S>) -> Self {
        Self::new(false, false, roles)
    }

    /// Creates a requirement of each of these roles.
    pub fn all_roles<S: AsRef<str>>(roles: impl IntoIterator<Item = S>) -> Self {
        Self::new(false, true, roles)
    }

    /// Creates a requirement of at least one of these scopes, literally or by a wildcard.
    pub fn any_scope<S: AsRef<str>>(scopes: impl IntoIterator<Item = S>) -> Self {
        Self::new(true, false, scopes)
    }

    /// Creates a requirement of each of these scopes, literally or by a wildcard.
    pub fn all_scopes<S: AsRef<str>>(scopes: impl IntoIterator<Item = S>) -> Self {
        Self::new(true, true, scopes)
    }

    pub(crate) fn is_met_by_rights(&self, roles: &Roles, scopes: &Scopes) -> bool {
        let count = self.names.len();
        match (self.requires_scopes, self.requires_all) {
            _ if count == 0 => false,
            (false, false) => self.names().any(|role| roles.contains(role)),
            (false, true) => roles.contain_all(self.names(), count),
            (true, false) => self.names().any(|scope| scopes.allow(scope)),
            (true, true) => scopes.allow_all(self.names(), count),
        }
    }

    /// Returns the names of the roles or scopes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// Returns whether the names are scopes. If not, they are roles.
    pub fn requires_scopes(&self) -> bool {
        self.requires_scopes
    }

    /// Returns whether all of the names are required. If not, one of them is.
    pub fn requires_all(&self) -> bool {
        self.requires_all
    }

    fn new<S: AsRef<str>>(
        requires_scopes: bool,
        requires_all: bool,
        names: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            requires_scopes,
            requires_all,
            names: names.into_iter().map(|name| name.as_ref().into()).collect(),
        }
    }
}
