#[cfg(feature = "postgres")]
use sqlx::postgres::{PgConnection, PgRow, Postgres};
#[cfg(feature = "sqlite")]
use sqlx::sqlite::{Sqlite, SqliteConnection, SqliteRow};
use sqlx::{Arguments, Database, Decode, Encode, SqlSafeStr, SqlStr, Type};

/// A connection to one of the databases. What is asked of it reads the same for both.
pub(super) enum Session<'c> {
    #[cfg(feature = "sqlite")]
    Sqlite(&'c mut SqliteConnection),
    #[cfg(feature = "postgres")]
    Postgres(&'c mut PgConnection),
}

/// A value for a `$N`.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Int(Option<i64>),
    Text(Option<&'a str>),
    Bytes(Option<&'a [u8]>),
}

/// A statement, and whether the connection keeps it prepared.
pub(super) struct Statement {
    text: SqlStr,
    is_persistent: bool,
    is_single_row: bool,
}

/// One row of an answer.
pub(super) enum Row {
    #[cfg(feature = "sqlite")]
    Sqlite(SqliteRow),
    #[cfg(feature = "postgres")]
    Postgres(PgRow),
}

impl From<&'static str> for Statement {
    fn from(text: &'static str) -> Self {
        Self {
            text: text.into_sql_str(),
            is_persistent: true,
            is_single_row: false,
        }
    }
}

impl Statement {
    /// One of many forms, planned for the values it comes with.
    pub(super) fn unprepared(text: impl SqlSafeStr) -> Self {
        Self {
            text: text.into_sql_str(),
            is_persistent: false,
            is_single_row: false,
        }
    }

    /// Nobody waits for a second row.
    pub(super) fn single_row(text: &'static str) -> Self {
        Self {
            is_single_row: true,
            ..text.into()
        }
    }
}

impl Session<'_> {
    /// Returns how many rows were changed.
    pub(super) async fn execute(
        &mut self,
        statement: impl Into<Statement>,
        values: &[Value<'_>],
    ) -> Result<u64, sqlx::Error> {
        let Statement {
            text,
            is_persistent,
            ..
        } = statement.into();
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => {
                let query =
                    sqlx::query_with(text, arguments::<Sqlite>(values)?).persistent(is_persistent);
                Ok(query.execute(&mut **connection).await?.rows_affected())
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => {
                let query = sqlx::query_with(text, arguments::<Postgres>(values)?)
                    .persistent(is_persistent);
                Ok(query.execute(&mut **connection).await?.rows_affected())
            }
        }
    }

    pub(super) async fn rows(
        &mut self,
        statement: impl Into<Statement>,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let Statement {
            text,
            is_persistent,
            is_single_row,
        } = statement.into();
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => {
                let query =
                    sqlx::query_with(text, arguments::<Sqlite>(values)?).persistent(is_persistent);
                let rows = if is_single_row {
                    let row = query.fetch_optional(&mut **connection).await?;
                    row.into_iter().collect()
                } else {
                    query.fetch_all(&mut **connection).await?
                };
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => {
                let query = sqlx::query_with(text, arguments::<Postgres>(values)?)
                    .persistent(is_persistent);
                let rows = if is_single_row {
                    let row = query.fetch_optional(&mut **connection).await?;
                    row.into_iter().collect()
                } else {
                    query.fetch_all(&mut **connection).await?
                };
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Runs a text of several statements.
    pub(super) async fn script(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => {
                sqlx::raw_sql(text).execute(&mut **connection).await?;
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => {
                sqlx::raw_sql(text).execute(&mut **connection).await?;
            }
        }
        Ok(())
    }
}

impl Row {
    pub(super) fn int(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(row) => cell(row, column),
            #[cfg(feature = "postgres")]
            Self::Postgres(row) => cell(row, column),
        }
    }

    pub(super) fn text(&self, column: usize) -> Result<Option<&str>, sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(row) => cell(row, column),
            #[cfg(feature = "postgres")]
            Self::Postgres(row) => cell(row, column),
        }
    }

    pub(super) fn bytes(&self, column: usize) -> Result<Option<&[u8]>, sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(row) => cell(row, column),
            #[cfg(feature = "postgres")]
            Self::Postgres(row) => cell(row, column),
        }
    }
}

fn cell<'r, R, T>(row: &'r R, column: usize) -> Result<Option<T>, sqlx::Error>
where
    R: sqlx::Row,
    usize: sqlx::ColumnIndex<R>,
    T: Decode<'r, R::Database> + Type<R::Database>,
{
    row.try_get(column)
}

fn arguments<'a, D: Database>(values: &[Value<'a>]) -> Result<D::Arguments, sqlx::Error>
where
    Option<i64>: Encode<'a, D> + Type<D>,
    Option<&'a str>: Encode<'a, D> + Type<D>,
    Option<&'a [u8]>: Encode<'a, D> + Type<D>,
{
    let mut arguments = D::Arguments::default();
    for value in values {
        let added = match *value {
            Value::Int(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
            Value::Bytes(bytes) => arguments.add(bytes),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}
