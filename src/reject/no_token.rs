use super::challenge::Challenges;
use super::reason::RejectionReason;
use super::rejection::Rejection;
use crate::principal::Identity;

/// Extension of a request that a layer accepted without a token. A guard distinguishes it from a
/// request without a layer. A layer further in replaces it.
#[derive(Clone, Debug)]
pub(crate) struct NoToken {
    challenges: Challenges,
    identity: Option<Identity>,
}

impl NoToken {
    pub(crate) fn new(challenges: &Challenges, identity: Option<Identity>) -> Self {
        Self {
            challenges: challenges.clone(),
            identity,
        }
    }

    /// Returns the identity that the application authenticated instead.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Returns the rejection for a guard that requires a credential.
    pub(crate) fn reject(&self) -> Rejection {
        Rejection::new(RejectionReason::MissingToken).with_challenges(&self.challenges)
    }
}
