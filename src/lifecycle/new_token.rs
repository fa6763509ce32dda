use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::Expiry;
use crate::store::TokenRecord;
use crate::token::MintedToken;

/// The form of an idempotency key, for error messages.
pub(crate) const IDEMPOTENCY_KEY_FORM: &str = "1 to 255 visible ASCII characters";

/// Returns whether a text has the form of an [idempotency key](NewToken::with_idempotency_key).
pub(crate) fn is_idempotency_key(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A token to create.
///
/// 1. Names, subjects, owners, roles and labels have no control characters, no direction controls and no
///    invisible characters such as U+200B. U+200C, U+200D, U+FE0E and U+FE0F are allowed behind a
///    character beyond ASCII: Persian words and emoji need them, but not keycap emoji. A description
///    may have line breaks and tabs.
/// 2. Names, subjects and owners are not blank, and have no white space at either end.
/// 3. White space around roles and scopes is removed.
/// 4. An [update](super::TokenUpdate) applies these rules to what it changes, so that tokens from
///    before a rule can be updated.
///
/// ```
/// use tower_service_token::lifecycle::NewToken;
///
/// let token = NewToken::new("nightly build")
///     .with_roles(["deployer"])
///     .with_scopes(["projects:write"])
///     .with_expiry("30d".parse()?);
/// # Ok::<_, tower_service_token::lifecycle::ExpiryError>(())
/// ```
///
/// serde reads and writes the body of a creation in the management API: `name`, `description`,
/// `subject`, `roles`, `scopes`, `labels`, `not_before`, and `expires_at` or `expires_in`, of which
/// `null` means never. What the management API rejects as malformed is an error with the same text: an
/// unknown or repeated member, a wrong type, an array instead of an object, and a malformed time or
/// expiry. The rules above are applied when the token is created. The idempotency key is not part of it.
///
/// ```
/// use tower_service_token::lifecycle::NewToken;
///
/// let token: NewToken = serde_json::from_str(r#"{"name": "ci", "expires_in": "30d"}"#)?;
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct NewToken {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) roles: Vec<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) expiry: Option<Expiry>,
    pub(crate) not_before: Option<SystemTime>,
    pub(crate) idempotency_key: Option<String>,
}

impl NewToken {
    /// Creates a token with this name, 1 to 200 characters, and nothing else.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Sets the description, at most 2,000 characters. The default is no description.
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Sets the subject, on whose behalf the token acts, at most 200 characters. The default is no
    /// subject.
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Sets the owner, who manages the token: a user, a team or a tenant of the application, at most 200
    /// characters. A token with an owner manages at most the tokens of that owner, whatever its scopes.
    /// The default is the [owner](crate::lifecycle::Actor::confined_to) that the actor is confined to,
    /// or none. A holder that is not confined needs the scope `service-tokens:admin` to set it.
    pub fn with_owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Sets the [roles](crate::principal::Roles), at most 100. The default is none.
    pub fn with_roles<S: Into<String>>(mut self, roles: impl IntoIterator<Item = S>) -> Self {
        self.roles = roles.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the [scopes](crate::principal::Scopes), at most 100. The default is none.
    pub fn with_scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a label, at most 50. The key has 1 to 100 characters, the value at most 200.
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Sets the expiry. The default is that of the [policy](super::TokenPolicy).
    pub fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = Some(expiry);
        self
    }

    /// Sets when the token becomes valid, before its expiry. The default is immediately.
    pub fn with_not_before(mut self, time: SystemTime) -> Self {
        self.not_before = Some(time);
        self
    }

    /// Sets a key that makes retries of this creation safe: 1 to 255 visible ASCII characters, such as
    /// a random UUID for each token to create. The default is no key: each call creates a token.
    ///
    /// 1. An actor creates at most one token per key, also from concurrent processes. Every further
    ///    call returns [`AlreadyCreated`] with the record. Keys of different actors are independent.
    /// 2. The secret is not returned again. If the response was lost,
    ///    [rotate](crate::ServiceTokens::rotate) the token without a grace period.
    /// 3. A call with the same key and other fields fails with [`IdempotencyKeyReused`]. The expiry is
    ///    not compared, because it may be relative to the time of the call. Once the token was changed
    ///    or rotated, no field is compared.
    /// 4. A key stays in use until the record of the token is [purged](crate::ServiceTokens::purge).
    ///
    /// The key is not stored. The id of the token is derived from a hash of the key and the name of
    /// the actor.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_service_token::lifecycle::{LifecycleError, NewToken};
    /// use tower_service_token::{MemoryStore, ServiceTokens};
    ///
    /// # futures::executor::block_on(async {
    /// let tokens = ServiceTokens::new(MemoryStore::new());
    /// let wanted = NewToken::new("ci").with_idempotency_key("8e03978e-40d5-43dd-bc93-6894a57f9324");
    /// let _lost = tokens.create(wanted.clone()).await?;
    ///
    /// let issued = match tokens.create(wanted).await {
    ///     Err(LifecycleError::AlreadyCreated(record)) => {
    ///         tokens.rotate(record.id(), Duration::ZERO).await?
    ///     }
    ///     created => created?,
    /// };
    /// println!("new token: {}", issued.expose_secret());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # }).expect("no step fails");
    /// ```
    ///
    /// [`AlreadyCreated`]: super::LifecycleError::AlreadyCreated
    /// [`IdempotencyKeyReused`]: super::LifecycleError::IdempotencyKeyReused
    pub fn with_idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    pub(crate) fn idempotency_key(&self) -> Option<&str> {
        self.idempotency_key.as_deref()
    }
}

/// A created or rotated token with its secret. `Debug` does not show the secret.
#[derive(Debug)]
#[must_use = "the secret is returned only once"]
pub struct IssuedToken {
    pub(super) secret: MintedToken,
    pub(super) record: TokenRecord,
    pub(super) effective_within: Duration,
}

impl IssuedToken {
    /// Returns the secret. Show it once and do not store it.
    pub fn expose_secret(&self) -> &str {
        self.secret.expose_secret()
    }

    /// Returns the minted token.
    pub fn secret(&self) -> &MintedToken {
        &self.secret
    }

    /// Returns the record of the token.
    pub fn record(&self) -> &TokenRecord {
        &self.record
    }

    /// Returns the longest time until every node accepts the secret.
    pub fn effective_within(&self) -> Duration {
        self.effective_within
    }
}
