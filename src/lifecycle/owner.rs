use std::fmt::{self, Write};
use std::sync::Arc;

use super::{ActorCheck, LifecycleError};
use crate::principal::{Requirement, Roles, Scopes};
use crate::registry::{AuthorityError, OwnerRights};

/// A user, team or tenant of the application, which manages its own tokens.
///
/// Pass one to [`ServiceTokens::acting_for`](super::ServiceTokens::acting_for) after the application
/// authenticated it, by a session or a JWT. Every call is then confined to the tokens with this
/// [owner](crate::store::TokenRecord::owner):
///
/// 1. Another token is not found, and no listing, count or bulk call includes it.
/// 2. New tokens get this owner. The owner of a token cannot be changed.
/// 3. The owner grants only its roles and scopes, and cannot change or rotate a token that exceeds
///    them. It may always disable and revoke its own tokens.
/// 4. [Unique names](super::TokenPolicy::require_unique_names) and
///    [`max_tokens_per_owner`](super::TokenPolicy::with_max_tokens_per_owner) apply to its tokens
///    only. [`OwnerPolicies`](super::OwnerPolicies) have rules for each owner.
/// 5. Idempotency keys are those of the owner, not of one session or [user](Self::with_acting_user).
///
/// ```
/// use tower_service_token::lifecycle::{NewToken, Owner, Page};
/// use tower_service_token::registry::TokenFilter;
/// use tower_service_token::{MemoryStore, ServiceTokens};
///
/// # futures::executor::block_on(async {
/// let tokens = ServiceTokens::new(MemoryStore::new());
/// let alice = Owner::new("user:42").with_scopes(["projects:*"]);
/// let alice = tokens.clone().acting_for(alice);
/// let issued = alice.create(NewToken::new("ci").with_scopes(["projects:read"])).await?;
/// assert_eq!(issued.record().owner(), Some("user:42"));
///
/// let bob = tokens.acting_for(Owner::new("user:43"));
/// assert!(bob.get(issued.record().id()).await.is_err());
/// assert!(bob.list(TokenFilter::new(), Page::default()).await?.records.is_empty());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).expect("no step fails");
/// ```
#[derive(Clone)]
#[must_use]
pub struct Owner {
    id: Box<str>,
    roles: Roles,
    scopes: Scopes,
    acting_user: Option<Box<str>>,
    requirement: Option<Arc<Requirement>>,
    check: Option<Arc<dyn ActorCheck<Self>>>,
}

impl Owner {
    /// Creates an owner that may grant nothing. The id is any text that is a valid
    /// [subject](super::NewToken) and names the owner for good, such as a database key: `user:42`. With
    /// an invalid id, such as an empty one, no token can be created.
    pub fn new(id: impl Into<Box<str>>) -> Self {
        Self {
            id: id.into(),
            roles: Roles::default(),
            scopes: Scopes::default(),
            acting_user: None,
            requirement: None,
            check: None,
        }
    }

    /// Sets the roles that the owner may grant. The default is none.
    pub fn with_roles<S: AsRef<str>>(mut self, roles: impl IntoIterator<Item = S>) -> Self {
        self.roles = roles.into_iter().collect();
        self
    }

    /// Sets the scopes that the owner may grant. The default is none.
    pub fn with_scopes<S: AsRef<str>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().collect();
        self
    }

    /// Sets the user that acts for a team or a tenant: a name or an id. The default is none.
    ///
    /// The audit trail and [`created_by`](crate::store::TokenRecord::created_by) then have the id of
    /// the owner, `#` and this text: `owner:team:7#alice`. In both parts, `%`, `#` and control
    /// characters are percent-encoded. The other members of the team see the text.
    pub fn with_acting_user(mut self, user: impl Into<Box<str>>) -> Self {
        self.acting_user = Some(user.into());
        self
    }

    /// Requires that the owner has these roles or scopes at the moment of each call: those that its
    /// [check](Self::with_check) returned just before, or that it was created with. The default is
    /// none.
    pub fn with_requirement(mut self, requirement: impl Into<Arc<Requirement>>) -> Self {
        self.requirement = Some(requirement.into());
        self
    }

    /// Sets a check that runs before each read, and immediately before each change. The default is
    /// none: a change is made although the session ended since the request began.
    pub fn with_check(mut self, check: impl ActorCheck<Self>) -> Self {
        self.check = Some(Arc::new(check));
        self
    }

    /// Returns the id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the roles that the owner may grant.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// Returns the scopes that the owner may grant.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// Returns the user that acts for the owner.
    pub fn acting_user(&self) -> Option<&str> {
        self.acting_user.as_deref()
    }

    #[cfg(feature = "api")]
    pub(super) fn requirement(&self) -> Option<&Arc<Requirement>> {
        self.requirement.as_ref()
    }

    /// Returns the name in the audit trail.
    pub(super) fn audit_name(&self) -> String {
        let mut name = String::from("owner:");
        push_encoded(&mut name, &self.id);
        if let Some(user) = &self.acting_user {
            name.push('#');
            push_encoded(&mut name, user);
        }
        name
    }

    /// Returns whether this is the name of the owner, with any acting user.
    pub(super) fn is_audit_name(&self, name: &str) -> bool {
        let mut own = String::from("owner:");
        push_encoded(&mut own, &self.id);
        name.split('#').next() == Some(&*own)
    }

    /// Returns what the owner may grant now.
    pub(super) async fn rights(&self) -> Result<OwnerRights, LifecycleError> {
        let current = match &self.check {
            None => self.clone(),
            Some(check) => {
                let current = check.check().await.map_err(LifecycleError::ActorCheck)?;
                current.ok_or(AuthorityError::ActorRejected)?
            }
        };
        // The session may have been replaced by that of another user.
        if current.id != self.id || current.acting_user != self.acting_user {
            return Err(AuthorityError::ActorRejected.into());
        }
        if let Some(requirement) = &self.requirement
            && !requirement.is_met_by_rights(&current.roles, &current.scopes)
        {
            return Err(AuthorityError::RequirementNotMet(Arc::clone(requirement)).into());
        }
        Ok(current.into())
    }
}

/// Appends a part of a name, in which `#` separates the parts.
fn push_encoded(name: &mut String, part: &str) {
    for char in part.chars() {
        let mut buffer = [0; 4];
        let text = char.encode_utf8(&mut buffer);
        if matches!(char, '%' | '#') || char.is_control() {
            for byte in text.bytes() {
                let _ = write!(name, "%{byte:02X}");
            }
        } else {
            name.push(char);
        }
    }
}

impl From<Owner> for OwnerRights {
    fn from(owner: Owner) -> Self {
        let Owner {
            id, roles, scopes, ..
        } = owner;
        Self { id, roles, scopes }
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner")
            .field("id", &self.id)
            .field("roles", &self.roles)
            .field("scopes", &self.scopes)
            .field("acting_user", &self.acting_user)
            .field("requirement", &self.requirement)
            .finish_non_exhaustive()
    }
}
