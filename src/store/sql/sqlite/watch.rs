use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::store::sql::notice;
use crate::store::sql::session::{Session, Value};
use crate::store::{ChangeFeed, TokenChange};

const VERSION: &str = "PRAGMA data_version";

const LAST: &str = "SELECT COALESCE(MAX(seq), 0) FROM service_token_changes";

/// The last change that was seen, if it is still there, and those after it.
const SINCE: &str =
    "SELECT seq, change FROM service_token_changes WHERE seq >= $1 ORDER BY seq LIMIT $2";

/// More changes than these at once are told as one of everything.
const AT_ONCE: u32 = 1000;

/// Tells of what any connection changes, those of other processes too: looks whether the file
/// changed, which reads no table, and then reads the log of changes.
///
/// 1. When it begins, and begins again after a failure, anything may have changed before; that is
///    told. The failure itself is not: what caches hold is as old as they allow and no older, and
///    they may need it while the file cannot be read.
/// 2. What this process changed is told once more.
pub(super) async fn watch(options: SqliteConnectOptions, feed: ChangeFeed, interval: Duration) {
    loop {
        // Ends by an error only. What went wrong shows in the requests as well.
        let _ = follow(&options, &feed, interval).await;
        tokio::time::sleep(interval).await;
    }
}

async fn follow(
    options: &SqliteConnectOptions,
    feed: &ChangeFeed,
    interval: Duration,
) -> Result<(), sqlx::Error> {
    let mut connection = options.connect().await?;
    let mut version = first_number(&mut connection, VERSION).await?;
    let mut seen = first_number(&mut connection, LAST).await?;
    feed.publish(&TokenChange::Everything);
    loop {
        tokio::time::sleep(interval).await;
        let now = first_number(&mut connection, VERSION).await?;
        if now != version {
            version = now;
            seen = tell(&mut connection, feed, seen).await?;
        }
    }
}

/// Tells of the changes after `seen`, and returns the last one.
async fn tell(
    connection: &mut SqliteConnection,
    feed: &ChangeFeed,
    seen: i64,
) -> Result<i64, sqlx::Error> {
    let values = [Value::Int(Some(seen)), Value::Int(Some(AT_ONCE.into()))];
    let rows = Session::Sqlite(connection).rows(SINCE, &values).await?;
    let mut changes = Vec::new();
    for row in &rows {
        changes.push((
            row.int(0)?.unwrap_or(0),
            notice::read(row.text(1)?.unwrap_or("")),
        ));
    }
    let first = changes.first().map_or(0, |(seq, _)| *seq);
    // The first change of all has the number 1, and so none before it.
    let has_gap = if seen == 0 { first > 1 } else { first != seen };
    if has_gap || changes.len() >= AT_ONCE as usize {
        let last = first_number(connection, LAST).await?;
        feed.publish(&TokenChange::Everything);
        return Ok(last);
    }
    for (_, change) in changes.iter().filter(|(seq, _)| *seq > seen) {
        feed.publish(change);
    }
    Ok(changes.last().map_or(seen, |(seq, _)| *seq))
}

async fn first_number(
    connection: &mut SqliteConnection,
    statement: &'static str,
) -> Result<i64, sqlx::Error> {
    let rows = Session::Sqlite(connection).rows(statement, &[]).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(row.int(0)?.unwrap_or(0))
}
