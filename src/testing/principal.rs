use std::any::Any;
use std::time::SystemTime;

use crate::authorize::Caller;
use crate::digest::TokenDigest;
use crate::principal::Principal;
use crate::store::TokenRecord;
use crate::token::{DisplayId, TokenId};

/// Starts a [`Principal`] for a test, from the name of its token.
///
/// No store and no token is involved. The id is derived from the name, so that equal names have equal
/// ids and a snapshot stays the same.
///
/// ```
/// use tower_service_token::Principal;
/// use tower_service_token::principal::Requirement;
/// use tower_service_token::testing;
///
/// let caller: Principal = testing::principal("ci")
///     .with_roles(["deployer"])
///     .with_scopes(["projects:read"])
///     .with_label("team", "web")
///     .into();
/// assert!(caller.require(Requirement::any_role(["deployer"])).is_ok());
/// assert!(caller.require(Requirement::all_scopes(["projects:write"])).is_err());
/// ```
pub fn principal(name: impl Into<Box<str>>) -> PrincipalBuilder {
    let name = name.into();
    let digest = TokenDigest::of(&format!("a test principal: {name}"));
    let bytes = digest.as_bytes().iter().take(8);
    let hash = bytes.fold(0, |hash, byte| hash << 8 | u64::from(*byte));
    let id = TokenId::from_hash(hash);
    TokenRecord::new(id, digest).with_name(name).into()
}

/// Builds a [`Principal`] for a test. See [`principal`].
///
/// Every field that a `Principal` shows can be set. A [`TokenRecord`] converts to a builder, so that
/// a principal can be the holder of a token in a registry.
#[derive(Clone, Debug)]
#[must_use]
pub struct PrincipalBuilder {
    record: TokenRecord,
    id: TokenId,
    is_stale: bool,
    uses_previous_secret: bool,
}

impl PrincipalBuilder {
    /// Sets the id of the token. The default is derived from the name.
    pub fn with_id(mut self, id: TokenId) -> Self {
        self.id = id;
        self
    }

    /// Sets the [id that is shown](Principal::display_id). The default is the id.
    pub fn with_display_id(self, id: impl Into<Option<DisplayId>>) -> Self {
        self.map(|record| record.with_display_id(id))
    }

    /// Adds a [value](Principal::data) of the application, or replaces the one of this type. By default
    /// there is none.
    pub fn with_data<T: Any + Send + Sync>(self, value: T) -> Self {
        self.map(|record| record.with_data(value))
    }

    /// Sets whom the token acts for. The default is no subject.
    pub fn with_subject<'a>(self, subject: impl Into<Option<&'a str>>) -> Self {
        self.map(|record| record.with_subject(subject))
    }

    /// Sets the owner, who manages the token. The default is no owner.
    pub fn with_owner<'a>(self, owner: impl Into<Option<&'a str>>) -> Self {
        self.map(|record| record.with_owner(owner))
    }

    /// Sets the [roles](crate::principal::Roles). The default is none.
    pub fn with_roles<S: AsRef<str>>(self, roles: impl IntoIterator<Item = S>) -> Self {
        self.map(|record| record.with_roles(roles))
    }

    /// Sets the [scopes](crate::principal::Scopes). The default is none.
    pub fn with_scopes<S: AsRef<str>>(self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.map(|record| record.with_scopes(scopes))
    }

    /// Adds a label, or replaces the one with this key. By default there is none.
    pub fn with_label(self, key: impl Into<Box<str>>, value: impl Into<Box<str>>) -> Self {
        self.map(|record| record.with_label(key, value))
    }

    /// Sets when the token expires, to the millisecond. The default is no expiry. A time in the past is
    /// not an error: only a layer rejects expired tokens.
    pub fn with_expires_at(self, time: impl Into<Option<SystemTime>>) -> Self {
        self.map(|record| record.with_expires_at(time))
    }

    /// Marks the record as [older](Principal::is_stale) than its store normally returns. By default it is
    /// not.
    pub fn mark_stale(mut self) -> Self {
        self.is_stale = true;
        self
    }

    /// Presents the [previous secret](Principal::uses_previous_secret). The default is the current one.
    pub fn use_previous_secret(mut self) -> Self {
        self.uses_previous_secret = true;
        self
    }

    fn map(mut self, change: impl FnOnce(TokenRecord) -> TokenRecord) -> Self {
        self.record = change(self.record);
        self
    }
}

impl From<TokenRecord> for PrincipalBuilder {
    fn from(record: TokenRecord) -> Self {
        Self {
            id: record.id(),
            record,
            is_stale: false,
            uses_previous_secret: false,
        }
    }
}

impl From<PrincipalBuilder> for Principal {
    fn from(builder: PrincipalBuilder) -> Self {
        let record = builder
            .record
            .with_test_fields(builder.id, builder.is_stale);
        Self::for_test(record, builder.uses_previous_secret)
    }
}

impl From<PrincipalBuilder> for Caller {
    fn from(builder: PrincipalBuilder) -> Self {
        Self::Token(builder.into())
    }
}
