use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use crate::clock::UnixMillis;
use crate::store::{TokenRecord, TokenState, TokenStatus};
use crate::token::TokenId;

/// A filter of tokens. Every condition must hold; without conditions all tokens match.
///
/// ```
/// use tower_service_token::registry::TokenFilter;
/// use tower_service_token::store::TokenStatus;
///
/// let filter = TokenFilter::new().with_role("deployer").with_status(TokenStatus::Active);
/// assert_eq!(filter.role.as_deref(), Some("deployer"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenFilter {
    /// The name is exactly this.
    pub name: Option<String>,
    /// The id has this [number](TokenId::number).
    pub number: Option<i64>,
    /// The token has this role.
    pub role: Option<String>,
    /// The token has this scope literally. Wildcards are not expanded.
    pub scope: Option<String>,
    /// The token acts for this subject.
    pub subject: Option<String>,
    /// The token belongs to this owner.
    pub owner: Option<String>,
    /// The token has this status.
    pub status: Option<TokenStatus>,
    /// Leaves out revoked tokens.
    pub without_revoked: bool,
    /// The token has a label with this key and value.
    pub label: Option<(String, String)>,
    /// The token has a label with this key and value, or no label with this key.
    pub label_or_none: Option<(String, String)>,
    /// The token expires, or expired, before this time.
    pub expires_before: Option<SystemTime>,
    /// The token was not used since this time, or, if never used, not created since.
    pub last_used_before: Option<SystemTime>,
}

impl TokenFilter {
    /// Creates a filter that matches all tokens.
    pub fn new() -> Self {
        Self::default()
    }

    /// Matches only tokens with this name.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Matches only tokens whose id has this [number](TokenId::number).
    pub fn with_number(mut self, number: i64) -> Self {
        self.number = Some(number);
        self
    }

    /// Matches only tokens with this role.
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.role = Some(role.into());
        self
    }

    /// Matches only tokens with this scope, literally.
    pub fn with_scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Matches only tokens that act for this subject.
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Matches only tokens of this owner.
    pub fn with_owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Matches only tokens with this status.
    pub fn with_status(mut self, status: TokenStatus) -> Self {
        self.status = Some(status);
        self
    }

    /// Leaves out revoked tokens. By default they are listed.
    pub fn without_revoked(mut self) -> Self {
        self.without_revoked = true;
        self
    }

    /// Matches only tokens with this label.
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.label = Some((key.into(), value.into()));
        self
    }

    /// Matches only tokens with this label, or without a label of this key.
    pub fn with_label_or_none(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.label_or_none = Some((key.into(), value.into()));
        self
    }

    /// Matches only tokens that expire, or expired, before this time.
    pub fn with_expires_before(mut self, time: SystemTime) -> Self {
        self.expires_before = Some(time);
        self
    }

    /// Matches only tokens that were not used since this time, or, if never used, not created
    /// since.
    pub fn with_last_used_before(mut self, time: SystemTime) -> Self {
        self.last_used_before = Some(time);
        self
    }

    /// Returns whether the filter matches all tokens.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether the filter matches this token. `now` decides which tokens have expired.
    pub fn matches(&self, record: &TokenRecord, now: SystemTime) -> bool {
        let is = |wanted: &Option<String>, holds: &dyn Fn(&str) -> bool| {
            wanted.as_deref().is_none_or(holds)
        };
        let has_label = |(key, value): &(String, String)| record.label(key) == Some(value);
        let has_label_or_none =
            |(key, value): &(String, String)| record.label(key).is_none_or(|label| label == value);
        is(&self.name, &|name| record.name() == name)
            && self
                .number
                .is_none_or(|number| record.id().number() == number)
            && is(&self.role, &|role| record.roles().contains(role))
            && is(&self.scope, &|scope| {
                record.scopes().iter().any(|held| held == scope)
            })
            && is(&self.subject, &|subject| record.subject() == Some(subject))
            && is(&self.owner, &|owner| record.owner() == Some(owner))
            && self
                .status
                .is_none_or(|status| record.status(now) == status)
            && !(self.without_revoked && record.state() == TokenState::Revoked)
            && self.label.as_ref().is_none_or(has_label)
            && self.label_or_none.as_ref().is_none_or(has_label_or_none)
            && self.expires_before.is_none_or(|time| {
                record
                    .expiry()
                    .is_some_and(|expiry| expiry < UnixMillis::from(time))
            })
            && self
                .last_used_before
                .is_none_or(|time| ListOrder::IdleSince.key(record) < UnixMillis::from(time))
    }
}

/// A request for one page of the tokens that a filter matches.
#[derive(Clone, Debug)]
pub struct ListRequest {
    filter: TokenFilter,
    now: SystemTime,
    limit: usize,
    after: Option<Cursor>,
}

impl ListRequest {
    /// The maximum number of tokens on a page.
    pub const MAX_LIMIT: usize = 1000;

    /// Creates a request for the first 50 tokens. `now` decides which tokens have expired.
    pub fn new(filter: TokenFilter, now: SystemTime) -> Self {
        Self {
            filter,
            now,
            limit: 50,
            after: None,
        }
    }

    /// Sets the maximum number of tokens on the page, clamped to 1 to
    /// [`MAX_LIMIT`](Self::MAX_LIMIT).
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit.clamp(1, Self::MAX_LIMIT);
        self
    }

    /// Starts after the page that ended with this cursor.
    ///
    /// # Errors
    ///
    /// Returns an error if the cursor is from a listing in another order, which means with another
    /// filter.
    pub fn with_cursor(mut self, cursor: Cursor) -> Result<Self, CursorError> {
        if cursor.order != self.order() {
            return Err(CursorError(()));
        }
        self.after = Some(cursor);
        Ok(self)
    }

    /// Returns the filter.
    pub fn filter(&self) -> &TokenFilter {
        &self.filter
    }

    /// Returns the time at which expiry is evaluated.
    pub fn now(&self) -> SystemTime {
        self.now
    }

    /// Returns the maximum number of tokens on the page.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns where the previous page ended.
    pub fn after(&self) -> Option<&Cursor> {
        self.after.as_ref()
    }

    /// Returns the order of the listing: by the time that the filter compares, so that an index can
    /// serve it.
    pub fn order(&self) -> ListOrder {
        if self.filter.last_used_before.is_some() {
            ListOrder::IdleSince
        } else if self.filter.expires_before.is_some()
            || self.filter.status == Some(TokenStatus::Expired)
        {
            ListOrder::ExpiresAt
        } else {
            ListOrder::CreatedAt
        }
    }

    /// Creates a page from matching records in order. Pass one record more than the limit if there are
    /// more.
    pub fn page(&self, mut records: Vec<TokenRecord>) -> TokenPage {
        let has_more = records.len() > self.limit;
        records.truncate(self.limit);
        let last = records.last().filter(|_| has_more);
        let next = last.map(|record| Cursor::at(self.order(), record));
        TokenPage { records, next }
    }

    /// Selects the page from all records, for a registry in memory.
    pub fn select<'a>(&self, records: impl IntoIterator<Item = &'a TokenRecord>) -> TokenPage {
        let order = self.order();
        let mut selected: Vec<(Cursor, &TokenRecord)> = records
            .into_iter()
            .map(|record| (Cursor::at(order, record), record))
            .filter(|(cursor, _)| self.after.as_ref().is_none_or(|after| cursor > after))
            .filter(|(_, record)| self.filter.matches(record, self.now))
            .collect();
        // Sorts only the records of the page, so that a page takes linear time.
        if self.limit + 1 < selected.len() {
            selected.select_nth_unstable_by_key(self.limit, |(cursor, _)| *cursor);
            selected.truncate(self.limit + 1);
        }
        selected.sort_unstable_by_key(|(cursor, _)| *cursor);
        let records = selected.into_iter().take(self.limit + 1);
        self.page(records.map(|(_, record)| record.clone()).collect())
    }
}

/// The time that tokens are listed by, earliest first. Equal times are ordered by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ListOrder {
    /// By creation.
    CreatedAt,
    /// By expiry.
    ExpiresAt,
    /// By last use, or by creation if there was none.
    IdleSince,
}

impl ListOrder {
    /// Returns the sort key of a record. An unknown time counts as the epoch.
    pub(crate) fn key(self, record: &TokenRecord) -> UnixMillis {
        let time = match self {
            Self::CreatedAt => record.created_at(),
            Self::ExpiresAt => record.expires_at(),
            Self::IdleSince => record.last_used_at().or(record.created_at()),
        };
        time.map_or(UnixMillis::from_millis(0), UnixMillis::from)
    }
}

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct TokenPage {
    /// The tokens, in the [order](ListOrder) of the listing.
    pub records: Vec<TokenRecord>,
    /// The cursor of the next page, if there is one.
    pub next: Option<Cursor>,
}

/// The end of a page. Its text form is opaque and safe in a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    order: ListOrder,
    key: UnixMillis,
    id: TokenId,
}

impl Cursor {
    /// Creates the cursor of this record in a listing of this order.
    pub fn at(order: ListOrder, record: &TokenRecord) -> Self {
        Self {
            order,
            key: order.key(record),
            id: record.id(),
        }
    }

    /// Returns the time of the last record, in milliseconds since the Unix epoch.
    pub fn millis(&self) -> i64 {
        self.key.as_millis()
    }

    /// Returns the id of the last record.
    pub fn id(&self) -> TokenId {
        self.id
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.order {
            ListOrder::CreatedAt => 'c',
            ListOrder::ExpiresAt => 'e',
            ListOrder::IdleSince => 'i',
        };
        write!(f, "{order}{:x}-{}", self.millis(), self.id)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let order = match text.as_bytes().first()? {
                b'c' => ListOrder::CreatedAt,
                b'e' => ListOrder::ExpiresAt,
                b'i' => ListOrder::IdleSince,
                _ => return None,
            };
            let (millis, id) = text[1..].split_once('-')?;
            let millis = u64::from_str_radix(millis, 16).ok()?.cast_signed();
            Some(Self {
                order,
                key: UnixMillis::from_millis(millis),
                id: id.parse().ok()?,
            })
        };
        parse().ok_or(CursorError(()))
    }
}

/// A text is not a cursor, or the cursor belongs to another listing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this listing; begin again without one")]
pub struct CursorError(());
