//! Accepts connections and serves an app on them, by HTTP/1.1 and HTTP/2, with bounds on what
//! clients can occupy.
//!
//! 1. A listener has a limit of connections. Beyond it, the longest idle connection makes room, first
//!    of all of a client address that has more than a quarter of them. If none is idle, a few more
//!    connections are accepted for health and metrics alone.
//! 2. All requests and responses in flight share a budget of bytes. Beyond it, the client that holds
//!    most of it loses its oldest exchange that waits for its client, or the newcomer is refused by
//!    503. Of what the service works on, a client address holds at most a quarter, and less beside
//!    others. Health and metrics have a budget of their own on each listener.
//! 3. A body that makes no progress for 10 s ends, whatever else its connection does.

mod activity;
mod body;
mod budget_layer;
mod budget;
mod connection;
mod connection_table;
mod descriptors;
mod exchange;
#[cfg(test)]
mod exchange_tests;
mod in_flight;
mod log_throttle;
mod rejection_log;
mod request_service;
mod stream_executor;
#[cfg(test)]
mod tests;
mod write_timeout;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tower_service_token::limits::ClientAddress;

use self::activity::Activity;
pub(super) use self::budget_layer::with_budget;
use self::connection::{Connection, stopped};
use self::connection_table::ConnectionTable;
pub(super) use self::descriptors::max_connections;
pub(super) use self::in_flight::InFlight;
use self::log_throttle::LogThrottle;
use crate::failure::{Failure, FailureKind};

/// Connections beyond the limit, for health and metrics alone.
const RESERVED_CONNECTIONS: usize = 8;

/// Connections that are closing and still have a socket. Beyond this number, the listener
/// accepts no connection until one of them has closed, so that descriptors suffice.
const CLOSING_CONNECTIONS: usize = 16;

/// After an error that is not of one connection, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let tried = format!("cannot listen on {address}");
        Failure::context(FailureKind::Refused, tried, &error)
    })
}

pub(super) fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    let address = listener.local_addr();
    address.map_err(|error| Failure::context(FailureKind::Refused, "no address", &error))
}

/// Accepts connections on one address.
pub(super) struct Server {
    name: &'static str,
    listener: TcpListener,
    app: Router,
    tls: Option<TlsAcceptor>,
    in_flight: Arc<InFlight>,
    health_in_flight: Arc<InFlight>,
    max_connections: usize,
    is_proxy: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    table: Arc<Mutex<ConnectionTable>>,
    reserved: Arc<Mutex<ConnectionTable>>,
    errors: LogThrottle,
}

impl Server {
    /// Serves `app`, which must be [`with_budget()`]; metrics name the listener.
    pub(super) fn new(
        name: &'static str,
        listener: TcpListener,
        app: Router,
        in_flight: Arc<InFlight>,
    ) -> Self {
        Self {
            name,
            listener,
            app,
            tls: None,
            in_flight,
            health_in_flight: InFlight::for_health(),
            max_connections: 16,
            is_proxy: Arc::new(|_| false),
            table: Arc::default(),
            reserved: Arc::default(),
            errors: LogThrottle::default(),
        }
    }

    /// How many connections there may be at a time. The default is 16.
    pub(super) fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    pub(super) fn with_tls(mut self, tls: Option<TlsAcceptor>) -> Self {
        self.tls = tls;
        self
    }

    /// Declares the addresses of proxies, which may have more than a client's share of the
    /// connections. The default is none.
    pub(super) fn with_proxies(
        mut self,
        is_proxy: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.is_proxy = Arc::new(is_proxy);
        self
    }

    /// Accepts connections until `stopping` is true, then waits for open requests.
    pub(super) async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut sweeping = JoinSet::new();
        sweeping.spawn(Arc::clone(&self.health_in_flight).sweep());
        let mut connections = JoinSet::new();
        loop {
            let has_room = connections.len() < self.max_sockets();
            let accepted = tokio::select! {
                () = stopped(&mut stopping) => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept(), if has_room => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if let Some(connection) = self.admit(peer) {
                        connections.spawn(self.serve(connection, stream, stopping.clone()));
                    }
                }
                Err(error) if is_connection_error(&error) => {}
                Err(error) => self.handle_accept_error(&error).await,
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }

    fn max_sockets(&self) -> usize {
        self.max_connections + RESERVED_CONNECTIONS + CLOSING_CONNECTIONS
    }

    /// Finds a place for a connection, if need be by closing another. Without one it is closed.
    fn admit(&self, peer: SocketAddr) -> Option<Connection> {
        let is_proxy = (self.is_proxy)(peer.ip().to_canonical());
        let client = (!is_proxy).then(|| ClientAddress::new(peer.ip()).network());
        let activity = Arc::new(Activity::new());
        let max = self.max_connections;
        let is_reserved = if try_insert(&self.table, client, &activity, max) {
            false
        } else if try_insert(&self.reserved, client, &activity, RESERVED_CONNECTIONS) {
            true
        } else {
            connection::count_closed(self.name, "refused");
            return None;
        };
        Some(Connection {
            listener: self.name,
            peer,
            activity,
            client,
            is_reserved,
            app: self.app.clone(),
            tls: self.tls.clone(),
            in_flight: Arc::clone(&self.in_flight),
            health_in_flight: Arc::clone(&self.health_in_flight),
        })
    }

    fn serve(
        &self,
        connection: Connection,
        stream: TcpStream,
        stopping: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let table = if connection.is_reserved {
            Arc::clone(&self.reserved)
        } else {
            Arc::clone(&self.table)
        };
        let gauge = metrics::gauge!("svctok_connections", "listener" => self.name);
        let id = connection.activity.id();
        let guard = ConnectionGuard::new(table, id, gauge);
        async move {
            connection.serve(stream, stopping).await;
            drop(guard);
        }
    }

    /// Closes an idle connection, because descriptors are what usually lacks.
    async fn handle_accept_error(&self, error: &io::Error) {
        if let Some(count) = self.errors.record() {
            tracing::error!(%error, count, "cannot accept a connection");
        }
        let max = self.max_connections;
        lock(&self.table).make_room(None, max);
        sleep(ACCEPT_PAUSE).await;
    }
}

/// A connection's entry in a table and in the gauge, removed on drop, whatever ends its task.
struct ConnectionGuard {
    table: Arc<Mutex<ConnectionTable>>,
    id: u64,
    gauge: metrics::Gauge,
}

impl ConnectionGuard {
    fn new(table: Arc<Mutex<ConnectionTable>>, id: u64, gauge: metrics::Gauge) -> Self {
        gauge.increment(1);
        Self { table, id, gauge }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        lock(&self.table).remove(self.id);
        self.gauge.decrement(1);
    }
}

fn try_insert(
    table: &Mutex<ConnectionTable>,
    client: Option<IpAddr>,
    activity: &Arc<Activity>,
    max: usize,
) -> bool {
    let mut table = lock(table);
    if table.len() >= max && !table.make_room(client, max) {
        return false;
    }
    table.insert(client, Arc::clone(activity));
    true
}

fn lock(table: &Mutex<ConnectionTable>) -> std::sync::MutexGuard<'_, ConnectionTable> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
