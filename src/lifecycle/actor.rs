use super::LifecycleError;
use crate::principal::{Principal, Roles, Scopes};

/// Who may grant everything.
const ADMIN_SCOPE: &str = "service-tokens:admin";

/// Who creates and changes tokens.
#[derive(Clone, Debug)]
pub(super) enum Actor {
    /// Someone with access to the store itself, who may grant anything.
    Operator(Box<str>),
    /// The holder of a token, who grants no more than it holds.
    Token(Principal),
}

impl Actor {
    /// The name in the audit trail.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Operator(name) => name.to_string(),
            Self::Token(principal) => principal.id().to_string(),
        }
    }

    /// Whether the actor holds all of these, or may grant without.
    pub(super) fn check_grant(&self, roles: &Roles, scopes: &Scopes) -> Result<(), LifecycleError> {
        let Self::Token(holder) = self else {
            return Ok(());
        };
        if holder.scopes().allow(ADMIN_SCOPE) {
            return Ok(());
        }
        let roles = roles.iter().filter(|role| !holder.roles().contains(role));
        let scopes = scopes.iter().filter(|scope| !holder.scopes().allow(scope));
        let missing: Vec<String> = roles.chain(scopes).map(str::to_owned).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(LifecycleError::EscalationDenied { missing })
        }
    }
}
