use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::FieldProblem;

type NameRule = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// What every token must obey, on every path by which it is created or changed.
///
/// ```
/// use std::time::Duration;
/// use tower_service_token::lifecycle::TokenPolicy;
///
/// const DAY: Duration = Duration::from_secs(86_400);
/// let policy = TokenPolicy::new()
///     .with_default_lifetime(90 * DAY)
///     .with_max_lifetime(365 * DAY)
///     .with_unique_names()
///     .with_max_tokens(1000);
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct TokenPolicy {
    default_lifetime: Option<Duration>,
    max_lifetime: Option<Duration>,
    unique_names: bool,
    max_tokens: Option<u64>,
    name_rule: Option<Arc<NameRule>>,
}

impl TokenPolicy {
    /// Tokens need a name and nothing more: they live until they are revoked, names may repeat, and
    /// any number may be created.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a token lives that is created without an expiry. Default: as long as the maximum,
    /// or for ever.
    pub fn with_default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default_lifetime = Some(lifetime);
        self
    }

    /// How long one secret may live, counted from its creation or rotation. A later expiry is
    /// refused, and so is none; a rotation cuts the expiry to it. Default: for ever.
    pub fn with_max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = Some(lifetime);
        self
    }

    /// Refuses a name that another token has which is not revoked. Default: names may repeat.
    ///
    /// Compared are the tokens created or changed under this rule.
    pub fn with_unique_names(mut self) -> Self {
        self.unique_names = true;
        self
    }

    /// How many tokens there may be which are not revoked. Default: any number.
    pub fn with_max_tokens(mut self, max_tokens: u64) -> Self {
        self.max_tokens = Some(max_tokens);
        self
    }

    /// A rule for names, besides the general one: 1 to 200 characters, none a control character,
    /// no space at either end. It answers what is wrong, without repeating the name.
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

    pub(super) fn unique_names(&self) -> bool {
        self.unique_names
    }

    pub(super) fn max_tokens(&self) -> Option<u64> {
        self.max_tokens
    }

    pub(super) fn check_name(&self, name: &str) -> Result<(), String> {
        let rule = self.name_rule.as_ref();
        rule.map_or(Ok(()), |rule| rule(name))
    }

    /// When a token expires whose creator did not say.
    pub(super) fn default_expiry(&self, now: SystemTime) -> Option<SystemTime> {
        let lifetime = match (self.default_lifetime, self.max_lifetime) {
            (Some(lifetime), Some(max)) => lifetime.min(max),
            (lifetime, max) => lifetime.or(max)?,
        };
        now.checked_add(lifetime)
    }

    /// The latest expiry of a secret from this moment.
    pub(super) fn latest_expiry(&self, issued_at: SystemTime) -> Option<SystemTime> {
        issued_at.checked_add(self.max_lifetime?)
    }

    /// Whether a secret from this moment may expire then.
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
        let days = self.max_lifetime.unwrap_or_default().as_secs() / 86_400;
        let detail =
            format!("a token must expire within {days} days of its creation or last rotation");
        Err(FieldProblem::new("/expires_at", detail))
    }
}

impl fmt::Debug for TokenPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenPolicy")
            .field("default_lifetime", &self.default_lifetime)
            .field("max_lifetime", &self.max_lifetime)
            .field("unique_names", &self.unique_names)
            .field("max_tokens", &self.max_tokens)
            .finish_non_exhaustive()
    }
}
