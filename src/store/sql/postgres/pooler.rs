use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::time::timeout;

use crate::store::sql::open_error::{OpenStoreError, OpenStoreErrorKind};
use crate::store::sql::schema::CONNECT_TIMEOUT;

/// Identifies the session that a statement runs in. Processes of different servers may have the same ID.
const SESSION: &str = "SELECT pid::TEXT || ' ' || backend_start::TEXT \
     FROM pg_stat_get_activity(pg_backend_pid())";

/// How long the check may take. A pooler may have no session for the second connection.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Other clients of a pooler change which session is free, so one round may not detect that it shares
/// them.
const ROUNDS: usize = 4;

const SHARED_SESSIONS: &str = "the server shares sessions between clients, as PgBouncer does in \
     transaction mode, which prepared statements and LISTEN do not work with: connect to PostgreSQL \
     itself, or to a pool in session mode";

/// Checks that each connection has a session of its own, as prepared statements and `LISTEN` need.
///
/// # Errors
///
/// Returns an error if the server is unreachable, or is a pooler that shares sessions.
pub(super) async fn check_sessions(options: &PgConnectOptions) -> Result<(), OpenStoreError> {
    let connect = timeout(CONNECT_TIMEOUT, options.connect());
    let mut first: PgConnection = connect.await.map_err(|_| OpenStoreError::timed_out())??;
    let shares = timeout(CHECK_TIMEOUT, async {
        let mut second = options.connect().await?;
        let shares = share_sessions(&mut first, &mut second).await;
        second.close().await?;
        shares
    });
    // If there is no second session, or the statement fails, nothing is known.
    let shares = matches!(shares.await, Ok(Ok(true)));
    let _ = timeout(CHECK_TIMEOUT, first.close()).await;
    if shares {
        let kind = OpenStoreErrorKind::Configuration;
        return Err(OpenStoreError::new(kind, SHARED_SESSIONS));
    }
    Ok(())
}

/// Returns whether two open connections use the same session, or one of them uses several.
async fn share_sessions(
    first: &mut PgConnection,
    second: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    let (of_first, of_second) = (session(first).await?, session(second).await?);
    if of_first == of_second {
        return Ok(true);
    }
    for _ in 0..ROUNDS {
        // Twice, because a pooler may use its sessions in turn.
        if session(first).await? != of_first
            || session(first).await? != of_first
            || session(second).await? != of_second
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Prepares no statement: a shared session may already have one of the same name.
async fn session(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let row = sqlx::raw_sql(SESSION).fetch_one(connection).await?;
    row.try_get(0)
}
