use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::store::sql::failure;

/// How long a pool may take for a connection before the server is probed. A new connection usually takes
/// less.
const PROBE_DELAY: Duration = Duration::from_millis(200);

/// For how long callers share a refusal.
const REFUSAL_TTL: Duration = Duration::from_millis(100);

/// How long a server may take for the first response on a connection that it accepted.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);

/// How often a server that accepts connections is probed.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// `too_many_connections`: the server, the database or the role has no slot for another connection.
const NO_SLOT: &str = "53300";

const NO_RESPONSE: &str = "the server accepts connections, but does not respond: it is overloaded, or a \
     pooler such as PgBouncer has no free session";

/// `cannot_connect_now`: the server is starting up or shutting down.
const NOT_READY: &str = "57P03";

/// Finds out why a server refuses connections.
///
/// sqlx's pool retries refused connections until its timeout, and then reports only the timeout. If
/// acquiring a connection takes too long, this opens one beside the pool.
///
/// A pooler in session mode that has no session left accepts a connection, and answers on it once
/// another client leaves. That is no slot either.
pub(super) struct ConnectProbe {
    pool: PgPool,
    last: Mutex<Option<Probed>>,
}

struct Probed {
    at: Instant,
    refusal: Option<Refusal>,
}

/// The reason of a server that refuses connections.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
struct Refusal {
    reason: String,
    has_no_slot: bool,
}

impl ConnectProbe {
    pub(super) fn new(pool: PgPool) -> Self {
        let last = Mutex::new(None);
        Self { pool, last }
    }

    /// Acquires a connection from a pool.
    ///
    /// # Errors
    ///
    /// Returns the reason if the server refuses connections.
    pub(super) async fn watch<T>(
        &self,
        acquire: impl Future<Output = Result<T, sqlx::Error>> + Unpin,
    ) -> Result<T, sqlx::Error> {
        match select(acquire, pin!(self.refused())).await {
            Either::Left((acquired, _)) => acquired,
            Either::Right((refusal, _)) => Err(sqlx::Error::Io(io::Error::other(refusal))),
        }
    }

    /// Waits until the server refuses a connection.
    async fn refused(&self) -> Refusal {
        sleep(PROBE_DELAY).await;
        loop {
            // In a box, because few callers wait until here and the future is large.
            if let Some(refusal) = Box::pin(self.probe()).await {
                return refusal;
            }
            sleep(PROBE_INTERVAL).await;
        }
    }

    /// Returns the result of the last probe, or makes a new one. There is one at a time.
    async fn probe(&self) -> Option<Refusal> {
        let mut last = self.last.lock().await;
        if let Some(probed) = &*last
            && probed.at.elapsed() < probed.ttl()
        {
            return probed.refusal.clone();
        }
        let refusal = match self.pool.connect_options().connect().await {
            Ok(connection) => check_response(connection).await.err(),
            // The pool returns all other errors.
            Err(error) => Refusal::of(&error),
        };
        let at = Instant::now();
        last.insert(Probed { at, refusal }).refusal.clone()
    }
}

impl Probed {
    fn ttl(&self) -> Duration {
        match self.refusal {
            Some(_) => REFUSAL_TTL,
            None => PROBE_INTERVAL,
        }
    }
}

impl Refusal {
    /// Returns the refusal if sqlx's pool retries after this error.
    fn of(error: &sqlx::Error) -> Option<Self> {
        let has_no_slot = has_code(error, NO_SLOT);
        let reason = match error {
            sqlx::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                error.to_string()
            }
            error if has_no_slot || has_code(error, NOT_READY) => failure::message(error),
            _ => return None,
        };
        Some(Self {
            reason,
            has_no_slot,
        })
    }
}

/// Returns whether the server refused a connection because it has no slot for another one.
pub(super) fn has_no_slot(error: &sqlx::Error) -> bool {
    let sqlx::Error::Io(io) = error else {
        return has_code(error, NO_SLOT);
    };
    let refusal = io.get_ref().and_then(|it| it.downcast_ref::<Refusal>());
    refusal.is_some_and(|refusal| refusal.has_no_slot)
}

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    let error = error.as_database_error();
    error.is_some_and(|error| error.code().is_some_and(|it| it == code))
}

/// Returns a refusal if the server does not respond on a new connection. Other failures do not indicate
/// a missing slot.
async fn check_response(mut connection: PgConnection) -> Result<(), Refusal> {
    // No prepared statement: a pooler may share its session.
    match timeout(RESPONSE_TIMEOUT, connection.execute("SELECT 1")).await {
        Ok(_) => {
            let _ = timeout(RESPONSE_TIMEOUT, connection.close()).await;
            Ok(())
        }
        Err(_) => Err(Refusal {
            reason: NO_RESPONSE.to_owned(),
            has_no_slot: true,
        }),
    }
}
