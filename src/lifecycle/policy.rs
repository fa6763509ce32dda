use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::FieldProblem;

type NameRule = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// Rules for tokens, checked by every operation that creates or changes one: for all tokens
/// ([`with_policy`](super::ServiceTokens::with_policy)), or for those of an owner
/// ([`with_owner_policies`](super::ServiceTokens::with_owner_policies)).
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

    /// Sets the maximum number of unrevoked tokens, of all owners and none. In the policy of
    /// [an owner](super::OwnerPolicies), it is the maximum of
    /// [that owner](Self::with_max_tokens_per_owner). The default is no limit.
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

    /// Returns the policy whose rules are those of both, rule by rule.
    ///
    /// 1. Of two lifetimes or numbers, the smaller one applies.
    /// 2. Names are unique if one of the policies requires it.
    /// 3. A name must satisfy both rules for names.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_service_token::lifecycle::TokenPolicy;
    ///
    /// const DAY: Duration = Duration::from_secs(86_400);
    /// let application = TokenPolicy::new().with_max_lifetime(365 * DAY).require_unique_names();
    /// let plan = TokenPolicy::new().with_max_lifetime(30 * DAY).with_max_tokens_per_owner(20);
    /// let both = application.and(plan); // 30 days, unique names, 20 tokens
    /// ```
    pub fn and(self, other: Self) -> Self {
        Self {
            default_lifetime: smaller(self.default_lifetime, other.default_lifetime),
            max_lifetime: smaller(self.max_lifetime, other.max_lifetime),
            unique_names: self.unique_names || other.unique_names,
            max_tokens: smaller(self.max_tokens, other.max_tokens),
            max_tokens_per_owner: smaller(self.max_tokens_per_owner, other.max_tokens_per_owner),
            name_rule: match (self.name_rule, other.name_rule) {
                (Some(rule), Some(other)) => {
                    Some(Arc::new(move |name| rule(name).and_then(|()| other(name))))
                }
                (rule, other) => rule.or(other),
            },
        }
    }

    /// Returns these rules for the tokens of one owner. Their maximum number counts no others, because
    /// one owner would otherwise limit another, and could infer how many tokens it has.
    pub(super) fn for_one_owner(mut self) -> Self {
        self.max_tokens_per_owner = smaller(self.max_tokens.take(), self.max_tokens_per_owner);
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

/// Returns the smaller limit. `None` is no limit.
fn smaller<T: Ord>(limit: Option<T>, other: Option<T>) -> Option<T> {
    limit.into_iter().chain(other).min()
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

    const DAY: Duration = Duration::from_secs(86_400);

    /// Returns a policy of each rule, and its stricter and its more lenient form.
    fn forms() -> [(&'static str, TokenPolicy, TokenPolicy); 6] {
        let new = TokenPolicy::new;
        let rule = |end: &'static str| {
            new().with_name_rule(move |name| {
                name.ends_with(end)
                    .then_some(())
                    .ok_or(format!("end with {end}"))
            })
        };
        [
            (
                "default_lifetime",
                new().with_default_lifetime(DAY),
                new().with_default_lifetime(2 * DAY),
            ),
            (
                "max_lifetime",
                new().with_max_lifetime(DAY),
                new().with_max_lifetime(2 * DAY),
            ),
            ("unique_names", new().require_unique_names(), new()),
            (
                "max_tokens",
                new().with_max_tokens(1),
                new().with_max_tokens(2),
            ),
            (
                "max_tokens_per_owner",
                new().with_max_tokens_per_owner(0),
                new().with_max_tokens_per_owner(2),
            ),
            ("name_rule", rule("-ci"), rule("ci")),
        ]
    }

    /// Returns what the policy does: its limits, and the outcomes of names and expiries.
    fn effect(policy: &TokenPolicy) -> impl PartialEq + fmt::Debug + use<> {
        let now = SystemTime::UNIX_EPOCH;
        let expiries = [
            None,
            Some(now + DAY),
            Some(now + 2 * DAY),
            Some(now + 3 * DAY),
        ];
        (
            policy.default_expiry(now),
            expiries.map(|expiry| policy.check_expiry(expiry, now)),
            (
                policy.unique_names,
                policy.max_tokens,
                policy.max_tokens_per_owner,
            ),
            ["a-ci", "ci", "cd"].map(|name| policy.check_name(name).is_ok()),
        )
    }

    #[test]
    fn the_stricter_of_two_policies_applies_rule_by_rule() {
        for (rule, strict, lenient) in forms() {
            let none = TokenPolicy::new();
            assert_ne!(effect(&strict), effect(&lenient), "{rule}");
            for (one, other) in [(&strict, &lenient), (&strict, &none), (&strict, &strict)] {
                for both in [
                    one.clone().and(other.clone()),
                    other.clone().and(one.clone()),
                ] {
                    assert_eq!(effect(&both), effect(&strict), "{rule}");
                }
            }
        }
    }

    #[test]
    fn a_combined_policy_has_the_rules_of_both() {
        let all = forms().into_iter().map(|(_, strict, _)| strict);
        let all = all.fold(TokenPolicy::new(), TokenPolicy::and);
        let written = TokenPolicy::new()
            .with_default_lifetime(DAY)
            .with_max_lifetime(DAY)
            .require_unique_names()
            .with_max_tokens(1)
            .with_max_tokens_per_owner(0)
            .with_name_rule(|name| name.ends_with("-ci").then_some(()).ok_or(String::new()));
        assert_eq!(effect(&all), effect(&written));

        let starts = TokenPolicy::new().with_name_rule(|name| {
            let starts = name.starts_with('a');
            starts.then_some(()).ok_or("start with a".to_owned())
        });
        let ends = TokenPolicy::new().with_name_rule(|name| {
            let ends = name.ends_with('z');
            ends.then_some(()).ok_or("end with z".to_owned())
        });
        let both = starts.and(ends);
        assert_eq!(both.check_name("a-z"), Ok(()));
        assert_eq!(both.check_name("b-z"), Err("start with a".to_owned()));
        assert_eq!(both.check_name("a-y"), Err("end with z".to_owned()));
    }

    /// A default of one policy does not exceed the maximum of the other.
    #[test]
    fn a_default_lifetime_stays_within_the_maximum_of_another_policy() {
        let default = TokenPolicy::new().with_default_lifetime(90 * DAY);
        let both = default.and(TokenPolicy::new().with_max_lifetime(30 * DAY));
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(both.default_expiry(now), Some(now + 30 * DAY));
    }

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
