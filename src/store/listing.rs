use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use super::{TokenRecord, TokenState, TokenStatus};
use crate::clock::Timestamp;
use crate::token::TokenId;

/// Which tokens are meant. Every condition must hold; without any, all tokens are meant.
///
/// ```
/// use tower_service_token::store::{TokenFilter, TokenStatus};
///
/// let filter = TokenFilter::new().with_role("deployer").with_status(TokenStatus::Active);
/// assert_eq!(filter.role.as_deref(), Some("deployer"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenFilter {
    /// Its name is exactly this.
    pub name: Option<String>,
    /// It has this role.
    pub role: Option<String>,
    /// It has this scope, to the letter; what wildcards cover does not count.
    pub scope: Option<String>,
    /// It acts for this subject.
    pub subject: Option<String>,
    /// It has this status.
    pub status: Option<TokenStatus>,
    /// Leaves out revoked tokens.
    pub without_revoked: bool,
    /// It has a label with this key and value.
    pub label: Option<(String, String)>,
    /// It has a label with this key and value, or no label with this key.
    pub label_or_none: Option<(String, String)>,
    /// It expires, or expired, before this time.
    pub expires_before: Option<SystemTime>,
    /// It was not used since this time; one never used, not created since.
    pub last_used_before: Option<SystemTime>,
}

impl TokenFilter {
    /// Means all tokens.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only tokens with this name.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only tokens with this role.
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.role = Some(role.into());
        self
    }

    /// Only tokens with this scope, to the letter.
    pub fn with_scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Only tokens that act for this subject.
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Only tokens with this status.
    pub fn with_status(mut self, status: TokenStatus) -> Self {
        self.status = Some(status);
        self
    }

    /// Leaves out revoked tokens. By default they are listed.
    pub fn without_revoked(mut self) -> Self {
        self.without_revoked = true;
        self
    }

    /// Only tokens with this label.
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.label = Some((key.into(), value.into()));
        self
    }

    /// Keeps tokens with this label or without its key. The default is no label filter.
    pub fn with_label_or_none(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.label_or_none = Some((key.into(), value.into()));
        self
    }

    /// Only tokens that expire, or expired, before this time.
    pub fn with_expires_before(mut self, time: SystemTime) -> Self {
        self.expires_before = Some(time);
        self
    }

    /// Only tokens not used since this time, and, if never used, not created since.
    pub fn with_last_used_before(mut self, time: SystemTime) -> Self {
        self.last_used_before = Some(time);
        self
    }

    /// Whether all tokens are meant.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this token is meant; `now` tells which tokens have expired.
    pub fn matches(&self, record: &TokenRecord, now: SystemTime) -> bool {
        let is = |wanted: &Option<String>, holds: &dyn Fn(&str) -> bool| {
            wanted.as_deref().is_none_or(holds)
        };
        let has_label = |(key, value): &(String, String)| {
            record
                .labels()
                .any(|label| label == (key.as_str(), value.as_str()))
        };
        let has_label_or_none = |(key, value): &(String, String)| {
            let mut labels = record.labels();
            let label = labels.find(|(known, _)| *known == key.as_str());
            label.is_none_or(|(_, known)| known == value.as_str())
        };
        is(&self.name, &|name| record.name() == name)
            && is(&self.role, &|role| record.roles().contains(role))
            && is(&self.scope, &|scope| {
                record.scopes().iter().any(|held| held == scope)
            })
            && is(&self.subject, &|subject| record.subject() == Some(subject))
            && self
                .status
                .is_none_or(|status| record.status(now) == status)
            && !(self.without_revoked && record.state() == TokenState::Revoked)
            && self.label.as_ref().is_none_or(has_label)
            && self.label_or_none.as_ref().is_none_or(has_label_or_none)
            && self.expires_before.is_none_or(|time| {
                record
                    .expiry()
                    .is_some_and(|expiry| expiry < Timestamp::from(time))
            })
            && self
                .last_used_before
                .is_none_or(|time| ListOrder::IdleSince.key(record) < Timestamp::from(time))
    }
}

/// What a registry is asked for: one page of the tokens that a filter means.
#[derive(Clone, Debug)]
pub struct ListRequest {
    filter: TokenFilter,
    now: SystemTime,
    limit: usize,
    after: Option<Cursor>,
}

impl ListRequest {
    /// The most tokens that a page has.
    pub const MAX_LIMIT: usize = 1000;

    /// The first page, of 50 tokens; `now` tells which tokens have expired.
    pub fn new(filter: TokenFilter, now: SystemTime) -> Self {
        Self {
            filter,
            now,
            limit: 50,
            after: None,
        }
    }

    /// How many tokens a page has at most, from 1 to [`MAX_LIMIT`](Self::MAX_LIMIT); other numbers
    /// are brought into that range.
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit.clamp(1, Self::MAX_LIMIT);
        self
    }

    /// The page after the one that ended with this cursor.
    ///
    /// # Errors
    ///
    /// The cursor is of a listing in another order, so with another filter.
    pub fn with_cursor(mut self, cursor: Cursor) -> Result<Self, CursorError> {
        if cursor.order != self.order() {
            return Err(CursorError(()));
        }
        self.after = Some(cursor);
        Ok(self)
    }

    /// Which tokens are meant.
    pub fn filter(&self) -> &TokenFilter {
        &self.filter
    }

    /// The time by which tokens have expired.
    pub fn now(&self) -> SystemTime {
        self.now
    }

    /// How many tokens a page has at most.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Where the page before ended.
    pub fn after(&self) -> Option<&Cursor> {
        self.after.as_ref()
    }

    /// The order in which the tokens are listed: that of the time the filter speaks of, so that an
    /// index serves it.
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

    /// Makes a page of records that are meant and in order, one more than the limit if there are
    /// more.
    pub fn page(&self, mut records: Vec<TokenRecord>) -> TokenPage {
        let has_more = records.len() > self.limit;
        records.truncate(self.limit);
        let last = records.last().filter(|_| has_more);
        let next = last.map(|record| Cursor::at(self.order(), record));
        TokenPage { records, next }
    }

    /// The page out of all records there are: for a registry that keeps them in memory.
    pub fn select<'a>(&self, records: impl IntoIterator<Item = &'a TokenRecord>) -> TokenPage {
        let order = self.order();
        let mut meant: Vec<(Cursor, &TokenRecord)> = records
            .into_iter()
            .map(|record| (Cursor::at(order, record), record))
            .filter(|(cursor, _)| self.after.as_ref().is_none_or(|after| cursor > after))
            .filter(|(_, record)| self.filter.matches(record, self.now))
            .collect();
        // Only what the page needs is sorted: one page costs linear time.
        if self.limit + 1 < meant.len() {
            meant.select_nth_unstable_by_key(self.limit, |(cursor, _)| *cursor);
            meant.truncate(self.limit + 1);
        }
        meant.sort_unstable_by_key(|(cursor, _)| *cursor);
        let records = meant.into_iter().take(self.limit + 1);
        self.page(records.map(|(_, record)| record.clone()).collect())
    }
}

/// By which time tokens are listed, the earliest first; of the same time, by id.
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
    /// What a record is sorted by. A time that is not known counts as the epoch.
    pub(super) fn key(self, record: &TokenRecord) -> Timestamp {
        let time = match self {
            Self::CreatedAt => record.created_at(),
            Self::ExpiresAt => record.expires_at(),
            Self::IdleSince => record.last_used_at().or(record.created_at()),
        };
        time.map_or(Timestamp::from_millis(0), Timestamp::from)
    }
}

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct TokenPage {
    /// The tokens, in the [order](ListOrder) of the listing.
    pub records: Vec<TokenRecord>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

/// Where a page ended. As text it is opaque, and safe in a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    order: ListOrder,
    key: Timestamp,
    id: TokenId,
}

impl Cursor {
    /// The place of this record in a listing of this order.
    pub fn at(order: ListOrder, record: &TokenRecord) -> Self {
        Self {
            order,
            key: order.key(record),
            id: record.id(),
        }
    }

    /// The time of the last record, in milliseconds since the Unix epoch.
    pub fn millis(&self) -> i64 {
        self.key.as_millis()
    }

    /// The id of the last record.
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
                key: Timestamp::from_millis(millis),
                id: id.parse().ok()?,
            })
        };
        parse().ok_or(CursorError(()))
    }
}

/// A text is not a cursor, or not one of this listing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this listing; begin again without one")]
pub struct CursorError(());
