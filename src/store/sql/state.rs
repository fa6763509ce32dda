use std::time::SystemTime;

use super::columns::{millis, time};
use super::failure::Failure;
use super::operation::Operation;
use super::session::{Row, Session, Value};
use super::tables::Tables;
use crate::store::StoreError;

/// A database of version 1 that holds tokens had an administrator, as far as anyone can say.
const CREATE: &str = "INSERT INTO service_token_store (id, store_id, initialized_at) \
     SELECT 1, $1, (SELECT MIN(listed_at) FROM service_tokens) WHERE TRUE \
     ON CONFLICT (id) DO NOTHING";

const READ: &str = "SELECT store_id, initialized_at FROM service_token_store WHERE id = 1";

const INITIALIZE: &str = "UPDATE service_token_store SET initialized_at = $1 \
     WHERE id = 1 AND initialized_at IS NULL";

const CHECK_WRITABLE: &str =
    "UPDATE service_token_store SET write_checks = write_checks + 1 WHERE id = 1";

const HAS_PRIVILEGE: &str = "SELECT has_table_privilege('service_tokens', 'UPDATE')::INT::BIGINT";

/// What a SQL store records about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreState {
    store_id: Box<str>,
    initialized_at: Option<SystemTime>,
}

impl StoreState {
    /// Returns the random ID that the database got when its tables were created. A backup of it has
    /// the same ID, another database never has.
    pub fn store_id(&self) -> &str {
        &self.store_id
    }

    /// Returns when the store was first marked (`mark_initialized`) as having had
    /// an administrator. `None` if it never was.
    ///
    /// For a database of schema version 1 this is when the oldest of its tokens was created, if it
    /// held any when it was migrated.
    pub fn initialized_at(&self) -> Option<SystemTime> {
        self.initialized_at
    }

    fn read(row: &Row) -> Result<Option<Self>, sqlx::Error> {
        let Some(store_id) = row.text(0)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            store_id: store_id.into(),
            initialized_at: row.int(1)?.map(time),
        }))
    }
}

/// Inserts the row, if it is not there, with a new ID.
pub(super) async fn create(session: &mut Session<'_>) -> Result<(), sqlx::Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| sqlx::Error::Configuration(error.into()))?;
    let id = hex::encode(id);
    session.execute(CREATE, &[Value::Text(Some(&id))]).await?;
    Ok(())
}

impl Tables {
    pub(super) async fn state(&self) -> Result<Option<StoreState>, StoreError> {
        let rows = match self.read(|| READ.into(), &[]).await {
            Ok(rows) => rows,
            Err(Failure::Sql(error)) if is_not_permitted(&error) => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        let state = rows.first().map(StoreState::read).transpose();
        let state = state.map_err(Failure::from)?.flatten();
        state.map(Some).ok_or_else(missing_row)
    }

    pub(super) async fn mark_initialized(&self, at: SystemTime) -> Result<(), StoreError> {
        let at = [Value::Int(Some(millis(at)))];
        self.change(Operation::Execute(INITIALIZE, &at)).await?;
        Ok(())
    }

    /// Checks whether a role that may not write this table may change tokens. PostgreSQL has found by
    /// then that the server is not read-only.
    async fn check_privilege(&self) -> Result<(), StoreError> {
        let rows = self.read(|| HAS_PRIVILEGE.into(), &[]).await?;
        let may = rows.first().map_or(Ok(None), |row| row.int(0));
        match may.map_err(Failure::from)? {
            Some(1) => Ok(()),
            _ => Err(StoreError::unavailable(
                "the database role may not change tokens (SQLSTATE 42501)",
            )),
        }
    }

    pub(super) async fn check_writable(&self) -> Result<(), StoreError> {
        match self.change(Operation::Execute(CHECK_WRITABLE, &[])).await {
            Ok(changed) if changed.rows == 0 => Err(missing_row()),
            Ok(_) => Ok(()),
            Err(Failure::Sql(error)) if is_not_permitted(&error) => self.check_privilege().await,
            Err(failure) => Err(failure.into()),
        }
    }
}

fn is_not_permitted(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "42501")
}

fn missing_row() -> StoreError {
    StoreError::corrupt("the table service_token_store has no row")
}
