use std::fmt::Write;

use super::columns::{Attribute, millis, state_number};
use super::session::Value;
use crate::registry::{ListOrder, ListRequest};
use crate::store::{TokenState, TokenStatus};

/// A listing as one statement and its values.
///
/// The order is that of an index, and so is where a page begins: a page costs the same wherever it
/// is. Where another condition is the narrower one by nature, those on the state are written so that
/// no index serves them for a database that does not count its rows.
pub(super) struct Listing {
    has_row_statistics: bool,
    sql: String,
    values: Vec<BoundValue>,
}

enum BoundValue {
    Int(i64),
    Text(String),
}

impl Listing {
    /// `has_row_statistics`: whether the database knows which index is the narrower one.
    pub(super) fn of(request: &ListRequest, has_row_statistics: bool) -> Self {
        let (mut listing, key) = Self::matching(request, has_row_statistics, &qualified_columns());
        listing.page(request, key);
        listing
    }

    /// How many tokens match, as one number.
    pub(super) fn count(request: &ListRequest, has_row_statistics: bool) -> Self {
        Self::matching(request, has_row_statistics, "COUNT(*)").0
    }

    /// The statement without its order, and the columns of that order.
    fn matching(
        request: &ListRequest,
        has_row_statistics: bool,
        columns: &str,
    ) -> (Self, [&'static str; 2]) {
        let mut listing = Self {
            has_row_statistics,
            sql: "SELECT ".to_owned(),
            values: Vec::new(),
        };
        let filter = request.filter();
        let mut attributes = attributes(request).into_iter();
        let is_narrow = filter.name.is_some() || filter.subject.is_some();
        let by_creation = request.order() == ListOrder::CreatedAt;
        let driver = if by_creation && !is_narrow {
            attributes.next()
        } else {
            None
        };
        listing.push(columns);
        listing.push(if driver.is_some() {
            " FROM service_token_attributes a CROSS JOIN service_tokens t WHERE t.id = a.token_id"
        } else {
            " FROM service_tokens t WHERE 1 = 1"
        });
        if let Some(Attribute { kind, value }) = &driver {
            listing.condition("a.kind = ", BoundValue::Int(*kind));
            listing.condition("a.value = ", BoundValue::Text(value.clone()));
        }
        listing.conditions(request, is_narrow);
        for attribute in attributes {
            listing.attribute(attribute);
        }
        if let Some((key, value)) = &filter.label_or_none {
            listing.label_or_none(key, value);
        }
        let key = match (request.order(), driver) {
            (ListOrder::CreatedAt, Some(_)) => ["a.listed_at", "a.token_id"],
            (ListOrder::CreatedAt, None) => ["t.listed_at", "t.id"],
            (ListOrder::ExpiresAt, _) => ["t.expires_at", "t.id"],
            (ListOrder::IdleSince, _) => ["t.idle_since", "t.id"],
        };
        (listing, key)
    }

    /// Before the statement stands a prefix, such as `EXPLAIN`.
    pub(super) fn text(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.sql)
    }

    pub(super) fn values(&self) -> Vec<Value<'_>> {
        let values = self.values.iter().map(|value| match value {
            BoundValue::Int(number) => Value::Int(Some(*number)),
            BoundValue::Text(text) => Value::Text(Some(text)),
        });
        values.collect()
    }

    /// The conditions on columns of the token itself.
    fn conditions(&mut self, request: &ListRequest, is_narrow: bool) {
        let filter = request.filter();
        if let Some(name) = &filter.name {
            self.condition("t.name = ", BoundValue::Text(name.clone()));
        }
        if let Some(subject) = &filter.subject {
            self.condition("t.subject = ", BoundValue::Text(subject.clone()));
        }
        self.status(request, is_narrow);
        if filter.without_revoked {
            // No index: most tokens of most stores are not revoked.
            self.push(" AND +t.state < 2");
        }
        if let Some(time) = filter.expires_before {
            self.condition("t.expires_at < ", BoundValue::Int(millis(time)));
        }
        if let Some(time) = filter.last_used_before {
            self.condition("t.idle_since < ", BoundValue::Int(millis(time)));
        }
    }

    fn status(&mut self, request: &ListRequest, is_narrow: bool) {
        let Some(status) = request.filter().status else {
            return;
        };
        let state = match status {
            TokenStatus::Active | TokenStatus::Expired => TokenState::Active,
            TokenStatus::Disabled => TokenState::Disabled,
            TokenStatus::Revoked => TokenState::Revoked,
        };
        let state = state_number(state);
        let is_narrowest = !is_narrow && request.order() != ListOrder::IdleSince;
        let column = if self.has_row_statistics || is_narrowest {
            "t.state"
        } else {
            "+t.state"
        };
        write!(self.sql, " AND {column} = {state}").expect("a text takes any text");
        let now = BoundValue::Int(millis(request.now()));
        match status {
            TokenStatus::Active if self.has_row_statistics => {
                self.condition("(t.expires_at IS NULL OR t.expires_at > ", now);
                self.push(")");
            }
            TokenStatus::Active => {
                self.condition("COALESCE(t.expires_at, 9223372036854775807) > ", now);
            }
            TokenStatus::Expired => self.condition("t.expires_at <= ", now),
            TokenStatus::Disabled | TokenStatus::Revoked => {}
        }
    }

    fn attribute(&mut self, Attribute { kind, value }: Attribute) {
        self.push(" AND EXISTS (SELECT 1 FROM service_token_attributes x WHERE x.token_id = t.id");
        self.condition("x.kind = ", BoundValue::Int(kind));
        self.condition("x.value = ", BoundValue::Text(value));
        self.push(")");
    }

    /// A scalar subquery: PostgreSQL would make a hash table of two `EXISTS` for each page.
    fn label_or_none(&mut self, key: &str, value: &str) {
        let Attribute { kind, value } = Attribute::label(key, value);
        self.push(" AND COALESCE((SELECT x.value = ");
        self.bind(BoundValue::Text(value));
        self.push(" FROM service_token_attributes x WHERE x.token_id = t.id");
        self.condition("x.kind = ", BoundValue::Int(kind));
        let prefix = Attribute::label_prefix(key);
        let start = format!("SUBSTR(x.value, 1, {}) = ", prefix.chars().count());
        self.condition(&start, BoundValue::Text(prefix));
        self.push(" LIMIT 1), TRUE)");
    }

    fn page(&mut self, request: &ListRequest, [key, id]: [&str; 2]) {
        if let Some(after) = request.after() {
            write!(self.sql, " AND ({key}, {id}) > (").expect("a text takes any text");
            self.bind(BoundValue::Int(after.millis()));
            self.push(", ");
            self.bind(BoundValue::Int(after.id().as_i64()));
            self.push(")");
        }
        write!(self.sql, " ORDER BY {key}, {id} LIMIT ").expect("a text takes any text");
        let limit = i64::try_from(request.limit()).unwrap_or(i64::MAX - 1);
        self.bind(BoundValue::Int(limit + 1));
    }

    fn condition(&mut self, left: &str, right: BoundValue) {
        self.push(" AND ");
        self.push(left);
        self.bind(right);
    }

    fn bind(&mut self, value: BoundValue) {
        self.values.push(value);
        write!(self.sql, "${}", self.values.len()).expect("a text takes any text");
    }

    fn push(&mut self, text: &str) {
        self.sql.push_str(text);
    }
}

fn attributes(request: &ListRequest) -> Vec<Attribute> {
    let filter = request.filter();
    let role = filter.role.as_deref().map(Attribute::role);
    let scope = filter.scope.as_deref().map(Attribute::scope);
    let label = filter.label.as_ref();
    let label = label.map(|(key, value)| Attribute::label(key, value));
    [label, role, scope].into_iter().flatten().collect()
}

fn qualified_columns() -> String {
    let columns = super::columns::columns!().split(", ");
    let columns: Vec<_> = columns.map(|column| format!("t.{column}")).collect();
    columns.join(", ")
}
