use std::borrow::Cow;
use std::fmt::Write;

use super::columns::{self, Attribute, millis, state_number};
use super::session::{Dialect, Value};
use crate::registry::{ListOrder, ListRequest};
use crate::store::{TokenState, TokenStatus};

/// A listing or count as one statement with its values.
///
/// The order of a page is that of an index, and so is where the page begins, so every page costs the
/// same. If another condition is more selective, a `+` keeps a database without statistics from using
/// an index on the state.
pub(super) struct ListQuery<'r> {
    has_statistics: bool,
    sql: String,
    values: Vec<Value<'r>>,
}

impl<'r> ListQuery<'r> {
    /// Selects one page of records, each as one column if the dialect has an expression for it.
    pub(super) fn page(request: &'r ListRequest, dialect: &Dialect) -> Self {
        let columns = match dialect.record_as_json {
            Some(array) => Cow::Borrowed(array),
            None => format!("t.{}", columns::columns!().replace(", ", ", t.")).into(),
        };
        let (mut query, key) = Self::matching(request, dialect.has_statistics, &columns);
        query.push_page(request, key);
        query
    }

    /// Counts the matching tokens.
    pub(super) fn count(request: &'r ListRequest, has_statistics: bool) -> Self {
        Self::matching(request, has_statistics, "COUNT(*) AS count").0
    }

    /// Returns whether rows can match: no text in PostgreSQL contains U+0000, and a value with one is
    /// an error.
    pub(super) fn is_satisfiable(&self, allows_nul: bool) -> bool {
        let has_nul =
            |value: &Value<'_>| matches!(value, Value::Text(Some(text)) if text.contains('\0'));
        allows_nul || !self.values.iter().any(has_nul)
    }

    pub(super) fn into_parts(self) -> (String, Vec<Value<'r>>) {
        (self.sql, self.values)
    }

    /// Returns the query without its order, and the columns of that order.
    fn matching(
        request: &'r ListRequest,
        has_statistics: bool,
        columns: &str,
    ) -> (Self, [&'static str; 2]) {
        let mut query = Self {
            has_statistics,
            sql: "SELECT ".to_owned(),
            values: Vec::new(),
        };
        let filter = request.filter();
        let mut attributes = attributes(request).into_iter();
        let is_narrow = filter.name.is_some()
            || filter.number.is_some()
            || filter.subject.is_some()
            || filter.owner.is_some();
        let by_creation = request.order() == ListOrder::CreatedAt;
        let driver = if by_creation && !is_narrow {
            attributes.next()
        } else {
            None
        };
        query.push(columns);
        query.push(if driver.is_some() {
            " FROM service_token_attributes a CROSS JOIN service_tokens t WHERE t.id = a.token_id"
        } else {
            " FROM service_tokens t WHERE 1 = 1"
        });
        if let Some(Attribute { kind, value }) = driver.clone() {
            query.condition("a.kind = ", kind);
            query.condition("a.value = ", Value::Text(Some(value)));
        }
        query.push_conditions(request, is_narrow);
        for attribute in attributes {
            query.push_attribute(attribute);
        }
        if let Some((key, value)) = &filter.label_or_none {
            query.push_label_or_none(key, value);
        }
        let key = match (request.order(), driver) {
            (ListOrder::CreatedAt, Some(_)) => ["a.listed_at", "a.token_id"],
            (ListOrder::CreatedAt, None) => ["t.listed_at", "t.id"],
            (ListOrder::ExpiresAt, _) => ["t.expires_at", "t.id"],
            (ListOrder::IdleSince, _) => ["t.idle_since", "t.id"],
        };
        (query, key)
    }

    /// Adds the conditions on columns of the token itself.
    fn push_conditions(&mut self, request: &'r ListRequest, is_narrow: bool) {
        let filter = request.filter();
        if let Some(name) = &filter.name {
            self.condition("t.name = ", name.as_str());
        }
        if let Some(number) = filter.number {
            self.condition("t.id % 10000000000000 = ", number);
        }
        if let Some(subject) = &filter.subject {
            self.condition("t.subject = ", subject.as_str());
        }
        if let Some(owner) = &filter.owner {
            self.condition("t.owner = ", owner.as_str());
        }
        self.push_status(request, is_narrow);
        if filter.without_revoked {
            // Without an index: most tokens are not revoked.
            self.push(" AND +t.state < 2");
        }
        if let Some(time) = filter.expires_before {
            self.condition("t.expires_at < ", millis(time));
        }
        if let Some(time) = filter.last_used_before {
            self.condition("t.idle_since < ", millis(time));
        }
    }

    fn push_status(&mut self, request: &ListRequest, is_narrow: bool) {
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
        let column = if self.has_statistics || is_narrowest {
            "t.state"
        } else {
            "+t.state"
        };
        write!(self.sql, " AND {column} = {state}").expect("writing to a string cannot fail");
        let now = millis(request.now());
        match status {
            TokenStatus::Active if self.has_statistics => {
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

    fn push_attribute(&mut self, Attribute { kind, value }: Attribute<'r>) {
        self.push(" AND EXISTS (SELECT 1 FROM service_token_attributes x WHERE x.token_id = t.id");
        self.condition("x.kind = ", kind);
        self.condition("x.value = ", Value::Text(Some(value)));
        self.push(")");
    }

    /// Uses a scalar subquery, because PostgreSQL builds a hash table of two `EXISTS` for each page.
    fn push_label_or_none(&mut self, key: &str, value: &str) {
        let Attribute { kind, value } = Attribute::label(key, value);
        self.push(" AND COALESCE((SELECT x.value = ");
        self.bind(Value::Text(Some(value)));
        self.push(" FROM service_token_attributes x WHERE x.token_id = t.id");
        self.condition("x.kind = ", kind);
        let prefix = Attribute::label_prefix(key);
        let start = format!("SUBSTR(x.value, 1, {}) = ", prefix.chars().count());
        self.condition(&start, prefix);
        self.push(" LIMIT 1), TRUE)");
    }

    fn push_page(&mut self, request: &ListRequest, [key, id]: [&str; 2]) {
        if let Some(after) = request.after() {
            write!(self.sql, " AND ({key}, {id}) > (").expect("writing to a string cannot fail");
            self.bind(after.millis());
            self.push(", ");
            self.bind(after.id().as_i64());
            self.push(")");
        }
        // A bound limit makes SQLite plan the statement twice.
        let limit = request.limit() + 1;
        write!(self.sql, " ORDER BY {key}, {id} LIMIT {limit}")
            .expect("writing to a string cannot fail");
    }

    fn condition(&mut self, left: &str, right: impl Into<Value<'r>>) {
        self.push(" AND ");
        self.push(left);
        self.bind(right);
    }

    fn bind(&mut self, value: impl Into<Value<'r>>) {
        self.values.push(value.into());
        write!(self.sql, "${}", self.values.len()).expect("writing to a string cannot fail");
    }

    fn push(&mut self, text: &str) {
        self.sql.push_str(text);
    }
}

/// Returns the attributes that a token must have, the most selective one first.
fn attributes(request: &ListRequest) -> Vec<Attribute<'_>> {
    let filter = request.filter();
    let role = filter.role.as_deref().map(Attribute::role);
    let scope = filter.scope.as_deref().map(Attribute::scope);
    let label = filter.label.as_ref();
    let label = label.map(|(key, value)| Attribute::label(key, value));
    [label, role, scope].into_iter().flatten().collect()
}
