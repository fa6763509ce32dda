use std::fmt;
use std::sync::Arc;

use super::{Roles, Scopes};

/// A caller that the application authenticated by something other than a service token, such as a
/// user with a session or a JWT.
///
/// [`ServiceTokenLayer::with_identity`](crate::ServiceTokenLayer::with_identity) accepts it for
/// requests without a token. The guards then check its roles and scopes as they check those of a
/// token, and a handler receives it as a [`Caller`](crate::authorize::Caller). Cheap to clone: one
/// [`Arc`].
///
/// ```
/// use tower_service_token::principal::Identity;
///
/// let alice = Identity::new("alice").with_roles(["deployer"]).with_scopes(["projects:read"]);
/// assert!(alice.roles().contains("deployer"));
/// assert!(alice.scopes().allow("projects:read"));
/// ```
///
/// With the feature `testing`, [`testing::authenticated`](crate#features) inserts an identity into the
/// request of a test.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct Identity(Arc<Fields>);

#[derive(Clone, PartialEq, Eq)]
struct Fields {
    name: Box<str>,
    roles: Roles,
    scopes: Scopes,
}

impl Identity {
    /// Creates an identity without roles and scopes, which allows nothing. The name is the
    /// application's name or ID of the user. It is not logged.
    pub fn new(name: impl Into<Box<str>>) -> Self {
        Self(Arc::new(Fields {
            name: name.into(),
            roles: Roles::default(),
            scopes: Scopes::default(),
        }))
    }

    /// Sets the roles. By default there are none.
    pub fn with_roles(mut self, roles: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Arc::make_mut(&mut self.0).roles = roles.into_iter().collect();
        self
    }

    /// Sets the scopes. By default there are none.
    pub fn with_scopes(mut self, scopes: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Arc::make_mut(&mut self.0).scopes = scopes.into_iter().collect();
        self
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the roles.
    pub fn roles(&self) -> &Roles {
        &self.0.roles
    }

    /// Returns the scopes.
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name())
            .field("roles", self.roles())
            .field("scopes", self.scopes())
            .finish()
    }
}
