//! Statements on a connection, the same for both databases.

use std::borrow::Cow;
use std::fmt;
use std::future::ready;

use futures_util::future::{BoxFuture, TryFutureExt};
use sqlx::database::HasStatementCache;
use sqlx::query::Query;
use sqlx::{
    Arguments, AssertSqlSafe, ColumnIndex, Connection, Database, Decode, Encode, Executor,
    IntoArguments, SqlSafeStr, SqlStr, Type,
};

/// A value for a placeholder (`$1`).
#[derive(Clone, PartialEq)]
pub(super) enum Value<'a> {
    Int(Option<i64>),
    Text(Option<Cow<'a, str>>),
    Bytes(Option<&'a [u8]>),
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(number: Option<i64>) -> Self {
        Self::Int(number)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Self::Text(text.map(Cow::Borrowed))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Some(text.into()))
    }
}

/// The text of a statement.
#[derive(Clone)]
pub(super) struct Statement {
    text: SqlStr,
    /// Whether the connection keeps the prepared statement.
    is_persistent: bool,
}

impl From<&'static str> for Statement {
    fn from(text: &'static str) -> Self {
        Self {
            text: text.into_sql_str(),
            is_persistent: true,
        }
    }
}

impl Statement {
    /// Creates a statement that is prepared for each use.
    pub(super) fn unprepared(text: String) -> Self {
        Self {
            text: AssertSqlSafe(text).into_sql_str(),
            is_persistent: false,
        }
    }

    /// Creates a statement that is planned for its values, and kept if the database plans a kept
    /// statement again for other values.
    pub(super) fn planned_for_values(text: String, dialect: &Dialect) -> Self {
        Self {
            is_persistent: dialect.replans_kept_statements,
            ..Self::unprepared(text)
        }
    }
}

/// The statements that differ between the databases.
pub(super) struct Dialect {
    /// Selects the records of a JSON array of IDs, and locks them in that order where several
    /// transactions write at a time.
    pub(super) get_and_lock: &'static str,
    /// Inserts a JSON array of attributes of the token `$1`, created at `$2`.
    pub(super) insert_attributes: &'static str,
    /// Revokes the tokens of a JSON array of pairs of ID and time. Their reserved names are free
    /// again.
    pub(super) revoke_many: &'static str,
    /// Moves last uses forward, given as a JSON array of pairs of ID and time.
    pub(super) touch: &'static str,
    /// Appends a JSON array of rows to the audit trail.
    pub(super) append_events: &'static str,
    /// Deletes the oldest events before `$1`, `$2` at most, and returns a row for each.
    pub(super) prune_events: &'static str,
    /// Notifies other processes of a JSON array of changes when the transaction is committed.
    pub(super) notify: &'static str,
    /// Deletes old notifications, if they are rows.
    pub(super) prune_notifications: Option<&'static str>,
    /// Takes the advisory lock `$1` until the transaction ends, if several transactions write at a
    /// time.
    pub(super) lock: Option<&'static str>,
    /// Selects whether the role of the connection may change tokens, as 0 or 1 in the column
    /// `may_update`, if the database has roles.
    pub(super) has_privilege: Option<&'static str>,
    /// Whether a kept statement is planned again if its plan depends on values that have changed.
    pub(super) replans_kept_statements: bool,
    /// Whether the planner knows which index is more selective.
    pub(super) has_statistics: bool,
    /// The columns of a record of the table `t` in one JSON array, if the driver reads one column
    /// in less time. See [`JsonRow`](super::json_row::JsonRow).
    pub(super) record_as_json: Option<&'static str>,
    /// Whether a text can contain the character U+0000.
    pub(super) allows_nul: bool,
    /// The prefix of a statement whose plan is wanted, and the column of the plan.
    pub(super) explain: (&'static str, &'static str),
    /// Returns a row if the table `service_token_schema` exists.
    pub(super) has_schema: &'static str,
    /// Returns a row if the table of tickets exists.
    pub(super) has_tickets: &'static str,
    /// Creates the table of tickets.
    pub(super) create_tickets: &'static str,
    /// One script per schema version.
    pub(super) migrations: &'static [&'static str],
}

/// A connection to one of the databases.
pub(super) trait Session: Driver {
    const DIALECT: Dialect;

    fn dialect(&self) -> Dialect {
        Self::DIALECT
    }
}

/// Takes an advisory lock until the transaction ends. A database with one writer at a time needs
/// none.
pub(super) async fn lock(session: &mut impl Session, key: i64) -> Result<(), sqlx::Error> {
    if let Some(lock) = session.dialect().lock {
        session.execute(lock, &[key.into()]).await?;
    }
    Ok(())
}

/// Runs statements. Implemented for the connections of every sqlx driver that knows the types in
/// use, so that no other code repeats these bounds.
///
/// The futures are boxed, as those of sqlx are. The compiler cannot prove that opaque futures of a
/// generic connection are `Send`.
pub(super) trait Driver: Send {
    type Row: NamedColumns + Send + Sync;

    fn execute<'a>(
        &'a mut self,
        statement: &'static str,
        values: &[Value<'_>],
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        let rows = self.rows(statement.into(), values);
        Box::pin(rows.map_ok(drop))
    }

    /// Returns the first row.
    fn row<'a>(
        &'a mut self,
        statement: Statement,
        values: &[Value<'_>],
    ) -> BoxFuture<'a, Result<Option<Self::Row>, sqlx::Error>>;

    fn rows<'a>(
        &'a mut self,
        statement: Statement,
        values: &[Value<'_>],
    ) -> BoxFuture<'a, Result<Vec<Self::Row>, sqlx::Error>>;

    /// Runs a text of several statements.
    fn script<'a>(&'a mut self, text: &'static str) -> BoxFuture<'a, Result<(), sqlx::Error>>;
}

impl<C, D> Driver for C
where
    C: Connection<Database = D>,
    D: Database<Connection = C, Row: NamedColumns> + HasStatementCache,
    D::Arguments: IntoArguments<D>,
    for<'c> &'c mut C: Executor<'c, Database = D>,
    Option<i64>: for<'q> Encode<'q, D> + Type<D>,
    for<'q> Option<&'q str>: Encode<'q, D> + Type<D>,
    for<'q> Option<&'q [u8]>: Encode<'q, D> + Type<D>,
{
    type Row = D::Row;

    fn row<'a>(
        &'a mut self,
        statement: Statement,
        values: &[Value<'_>],
    ) -> BoxFuture<'a, Result<Option<Self::Row>, sqlx::Error>> {
        match query(statement, values) {
            Ok(query) => self.fetch_optional(query),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn rows<'a>(
        &'a mut self,
        statement: Statement,
        values: &[Value<'_>],
    ) -> BoxFuture<'a, Result<Vec<Self::Row>, sqlx::Error>> {
        match query(statement, values) {
            Ok(query) => self.fetch_all(query),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn script<'a>(&'a mut self, text: &'static str) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        Box::pin(Executor::execute(self, sqlx::raw_sql(text)).map_ok(drop))
    }
}

fn query<D>(
    statement: Statement,
    values: &[Value<'_>],
) -> Result<Query<'static, D, D::Arguments>, sqlx::Error>
where
    D: Database<Arguments: IntoArguments<D>> + HasStatementCache,
    Option<i64>: for<'q> Encode<'q, D> + Type<D>,
    for<'q> Option<&'q str>: Encode<'q, D> + Type<D>,
    for<'q> Option<&'q [u8]>: Encode<'q, D> + Type<D>,
{
    let mut arguments = D::Arguments::default();
    for value in values {
        let added = match value {
            Value::Int(number) => arguments.add(*number),
            Value::Text(text) => arguments.add(text.as_deref()),
            Value::Bytes(bytes) => arguments.add(*bytes),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(sqlx::query_with(statement.text, arguments).persistent(statement.is_persistent))
}

/// A column of a row, by its name. Its position, where it is known, takes less time to find.
#[derive(Clone, Copy)]
pub(super) struct Column {
    name: &'static str,
    position: Option<usize>,
}

impl Column {
    pub(super) const fn at(position: usize, name: &'static str) -> Self {
        Self {
            name,
            position: Some(position),
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.name
    }

    pub(super) fn position(self) -> Option<usize> {
        self.position
    }
}

impl From<&'static str> for Column {
    fn from(name: &'static str) -> Self {
        Self {
            name,
            position: None,
        }
    }
}

/// Errors contain the name.
impl fmt::Debug for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.name, f)
    }
}

impl<R: sqlx::Row> ColumnIndex<R> for Column
where
    for<'n> &'n str: ColumnIndex<R>,
    usize: ColumnIndex<R>,
{
    fn index(&self, row: &R) -> Result<usize, sqlx::Error> {
        match self.position {
            Some(position) => position.index(row),
            None => self.name.index(row),
        }
    }
}

/// Reads the columns of a row.
pub(super) trait NamedColumns {
    fn int(&self, column: impl Into<Column>) -> Result<Option<i64>, sqlx::Error>;
    fn text(&self, column: impl Into<Column>) -> Result<Option<&str>, sqlx::Error>;
    fn bytes(&self, column: impl Into<Column>) -> Result<Option<&[u8]>, sqlx::Error>;
}

impl<R> NamedColumns for R
where
    R: sqlx::Row,
    for<'n> &'n str: ColumnIndex<R>,
    usize: ColumnIndex<R>,
    i64: for<'r> Decode<'r, R::Database> + Type<R::Database>,
    for<'r> &'r str: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
{
    fn int(&self, column: impl Into<Column>) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column.into())
    }

    fn text(&self, column: impl Into<Column>) -> Result<Option<&str>, sqlx::Error> {
        self.try_get(column.into())
    }

    fn bytes(&self, column: impl Into<Column>) -> Result<Option<&[u8]>, sqlx::Error> {
        self.try_get(column.into())
    }
}
