use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::FieldProblem;

type NameRule = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// Rules for every token, checked by every operation that creates or changes one.
///
/// ```
/// use std::time::Duration;
/// use tower_service_token::lifecycle::TokenPolicy;
///
/// const DAY: Duration = Duration::from_secs(86_400);
/// let policy = TokenPolicy::new()
///     .with_default_lifetime(90 * DAY)
///     .with_max_lifetime(365 * DAY)
///     .require_unique_names()
///     .with_max_tokens(1000);
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct TokenPolicy {
    default_lifetime: Option<Duration>,
    max_lifetime: Option<Duration>,
    pub(super) unique_names: bool,
    pub(super) max_tokens: Option<u64>,
    pub(super) max_tokens_per_owner: Option<u64>,
    name_rule: Option<Arc<NameRule>>,
}

impl TokenPolicy {
    /// Creates a policy without limits. A token needs only a name.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the lifetime of a token that is created without an expiry. The default is the maximum
    /// lifetime, or no expiry.
    pub fn with_default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default_lifetime = Some(lifetime);
        self
    }

    /// Sets the longest lifetime of one secret, counted from its creation or rotation. A later
    /// expiry is rejected, and so is no expiry; a rotation shortens the expiry. The default is no
    /// limit.
    pub fn with_max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = Some(lifetime);
        self
    }

    /// Rejects a name that another unrevoked token of the same owner has. Tokens without an owner are
    /// compared with each other. By default names may repeat.
    ///
    /// Only tokens that were created or changed under this rule are compared.
    pub fn require_unique_names(mut self) -> Self {
        self.unique_names = true;
        self
    }

    /// Sets the maximum number of unrevoked tokens, of all owners and none. The default is no limit.
    pub fn with_max_tokens(mut self, max_tokens: u64) -> Self {
        self.max_tokens = Some(max_tokens);
        self
    }

    /// Sets the maximum number of unrevoked tokens of one owner. A creation that exceeds it is rejected;
    /// a change of the owner is not. Has no effect on tokens without an owner. The default is no limit.
    pub fn with_max_tokens_per_owner(mut self, max_tokens: u64) -> Self {
        self.max_tokens_per_owner = Some(max_tokens);
        self
    }

    /// Sets a rule for names, in addition to the [general ones](super::NewToken). It applies to
    /// creations and to changes of the name. The rule returns the reason for a rejection; it must not
    /// repeat the name. The default is no rule.
    ///
    /// ```
    /// use tower_service_token::lifecycle::TokenPolicy;
    ///
    /// let policy = TokenPolicy::new().with_name_rule(|name| {
    ///     let is_kebab = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    ///     is_kebab.then_some(()).ok_or("use lower-case letters and '-'".to_owned())
    /// });
    /// ```
    pub fn with_name_rule(
        mut self,
        rule: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.name_rule = Some(Arc::new(rule));
        self
    }

    pub(super) fn check_name(&self, name: &str) -> Result<(), String> {
        let rule = self.name_rule.as_ref();
        rule.map_or(Ok(()), |rule| rule(name))
    }

    /// Returns the expiry of a token that is created at `now` without one.
    pub(super) fn default_expiry(&self, now: SystemTime) -> Option<SystemTime> {
        let lifetimes = self.default_lifetime.into_iter().chain(self.max_lifetime);
        let lifetime = lifetimes.min()?;
        now.checked_add(lifetime)
    }

    /// Returns the latest permitted expiry of a secret that was issued at this time.
    pub(super) fn latest_expiry(&self, issued_at: SystemTime) -> Option<SystemTime> {
        issued_at.checked_add(self.max_lifetime?)
    }

    /// Checks the expiry of a secret that was issued at this time.
    pub(super) fn check_expiry(
        &self,
        expires_at: Option<SystemTime>,
        issued_at: SystemTime,
    ) -> Result<(), FieldProblem> {
        let Some(latest) = self.latest_expiry(issued_at) else {
            return Ok(());
        };
        if expires_at.is_some_and(|expiry| expiry <= latest) {
            return Ok(());
        }
        let lifetime = in_largest_unit(self.max_lifetime.unwrap_or_default());
        let detail =
            format!("a token must expire within {lifetime} of its creation or last rotation");
        Err(FieldProblem::new("/expires_at", detail))
    }
}

/// Writes whole seconds in the largest unit that divides them: `90d`, `36h`, `90m`, `30s`.
fn in_largest_unit(lifetime: Duration) -> String {
    let seconds = lifetime.as_secs();
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')];
    let divides = |(unit, _): &(u64, char)| seconds > 0 && seconds.is_multiple_of(*unit);
    let (unit, letter) = units.into_iter().find(divides).unwrap_or((1, 's'));
    format!("{}{letter}", seconds / unit)
}

impl fmt::Debug for TokenPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenPolicy")
            .field("default_lifetime", &self.default_lifetime)
            .field("max_lifetime", &self.max_lifetime)
            .field("unique_names", &self.unique_names)
            .field("max_tokens", &self.max_tokens)
            .field("max_tokens_per_owner", &self.max_tokens_per_owner)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_expiry_is_rejected_with_the_maximum_in_its_unit() {
        const HOUR: u64 = 3600;
        for (seconds, expected) in [
            (12 * HOUR, "12h"),
            (36 * HOUR, "36h"),
            (90 * 24 * HOUR, "90d"),
            (24 * HOUR, "1d"),
            (90 * 60, "90m"),
            (HOUR + 1, "3601s"),
            (0, "0s"),
        ] {
            let policy = TokenPolicy::new().with_max_lifetime(Duration::from_secs(seconds));
            let issued_at = SystemTime::UNIX_EPOCH;
            let latest = policy.latest_expiry(issued_at);
            assert_eq!(policy.check_expiry(latest, issued_at), Ok(()));
            let problem = policy.check_expiry(None, issued_at).expect_err(expected);
            assert_eq!(
                problem.to_string(),
                format!(
                    "/expires_at: a token must expire within {expected} of its creation or last \
                     rotation"
                )
            );
        }
    }
}
