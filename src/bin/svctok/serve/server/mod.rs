//! Accepts connections and serves an app on them by HTTP/1.1 and HTTP/2, with bounds on what clients
//! can occupy. hyper and tower-http bound neither the connections nor the memory of all requests.
//!
//! 1. A listener has a limit of connections. Beyond it, the longest idle connection is closed, first
//!    one of a client address that has more than a quarter of them. If none is idle, a few more
//!    connections are accepted for health and metrics alone.
//! 2. All requests and responses in flight share a budget of bytes. Beyond it, the client with the
//!    most bytes loses its oldest exchange that waits for its client, or the new request is rejected
//!    with 503. A client address holds at most a quarter of what the service works on, and less
//!    beside others. Health and metrics have a budget of their own on each listener.
//! 3. A body that makes no progress for 10 s is aborted, whatever else its connection does.

mod activity;
mod body;
mod budget;
mod budget_layer;
mod connection;
mod connection_table;
mod descriptors;
mod exchange;
mod in_flight;
mod rejection_log;
mod request_service;
#[cfg(test)]
mod tests;
mod write_timeout;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tower::Service;
use tower_service_token::limits::{ClientAddress, TrustedProxies};

use self::activity::Activity;
pub(super) use self::budget_layer::EnforceBudget;
use self::connection::{Connection, stopped};
use self::connection_table::ConnectionTable;
pub(super) use self::descriptors::max_connections;
pub(super) use self::in_flight::InFlight;
use self::request_service::Listener;
use super::log_limiter::LogLimiter;
use crate::failure::{Failure, FailureKind};

/// Connections beyond the limit, for health and metrics alone.
const RESERVED_CONNECTIONS: usize = 8;

/// Connections that are closing and still have a socket. Beyond this number, the listener
/// accepts no connection until one of them has closed, so that descriptors suffice.
const CLOSING_CONNECTIONS: usize = 16;

/// The pause after an error that is not about one connection, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The interval between two log lines about such errors.
const ERROR_INTERVAL: Duration = Duration::from_secs(10);

pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let tried = format!("cannot listen on {address}");
        Failure::context(FailureKind::Rejected, tried, &error)
    })
}

pub(super) fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    let address = listener.local_addr();
    address.map_err(|error| Failure::context(FailureKind::Rejected, "no address", &error))
}

/// Accepts connections on one address.
pub(super) struct Server {
    socket: TcpListener,
    listener: Listener,
    proxies: TrustedProxies,
    table: Arc<ConnectionTable>,
    reserved: Arc<ConnectionTable>,
    errors: LogLimiter,
}

impl Server {
    /// Serves `app`, which must [enforce the budget](EnforceBudget). Metrics have the name of the
    /// listener.
    pub(super) fn new(
        name: &'static str,
        socket: TcpListener,
        app: impl Service<Request, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
        in_flight: Arc<InFlight>,
    ) -> Self {
        let gauge = metrics::gauge!("svctok_connections", "listener" => name);
        Self {
            socket,
            listener: Listener {
                name,
                app: Arc::new(app),
                tls: None,
                in_flight,
                health_in_flight: InFlight::for_health(),
            },
            proxies: TrustedProxies::default(),
            table: ConnectionTable::new(16, gauge.clone()),
            reserved: ConnectionTable::new(RESERVED_CONNECTIONS, gauge),
            errors: LogLimiter::new(1, ERROR_INTERVAL),
        }
    }

    /// Sets the limit of concurrent connections. The default is 16.
    pub(super) fn with_max_connections(mut self, connections: usize) -> Self {
        let gauge = metrics::gauge!("svctok_connections", "listener" => self.listener.name);
        self.table = ConnectionTable::new(connections, gauge);
        self
    }

    pub(super) fn with_tls(mut self, tls: Option<TlsAcceptor>) -> Self {
        self.listener.tls = tls;
        self
    }

    /// Declares the addresses of proxies, which may have more than a client's share of the
    /// connections. The default is none.
    pub(super) fn with_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Accepts connections until `stopping` is true, then waits for open requests.
    pub(super) async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut sweeping = JoinSet::new();
        sweeping.spawn(Arc::clone(&self.listener.health_in_flight).sweep());
        let listener = Arc::new(self.listener.clone());
        let max_sockets = self.table.max() + RESERVED_CONNECTIONS + CLOSING_CONNECTIONS;
        let mut connections = JoinSet::new();
        loop {
            let has_room = connections.len() < max_sockets;
            let accepted = tokio::select! {
                () = stopped(&mut stopping) => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.socket.accept(), if has_room => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if let Some(connection) = self.admit(&listener, peer) {
                        connections.spawn(connection.serve(stream, stopping.clone()));
                    }
                }
                Err(error) if is_connection_error(&error) => {}
                Err(error) => self.handle_accept_error(&error).await,
            }
        }
        drop(self.socket);
        while connections.join_next().await.is_some() {}
    }

    /// Adds a connection to a table, and closes another one if it is full. Returns `None` if there is
    /// no room.
    fn admit(&self, listener: &Arc<Listener>, peer: SocketAddr) -> Option<Connection> {
        let is_proxy = self.proxies.contains(peer.ip().to_canonical());
        let client = (!is_proxy).then(|| ClientAddress::new(peer.ip()).network());
        let activity = Arc::new(Activity::new(client));
        let (guard, is_reserved) = if let Some(guard) = self.table.insert(&activity) {
            (guard, false)
        } else if let Some(guard) = self.reserved.insert(&activity) {
            (guard, true)
        } else {
            connection::count_closed(listener.name, "refused");
            return None;
        };
        Some(Connection {
            listener: Arc::clone(listener),
            peer,
            activity,
            is_reserved,
            guard: Some(guard),
        })
    }

    /// Closes an idle connection, because the usual cause is a lack of descriptors.
    async fn handle_accept_error(&self, error: &io::Error) {
        if let Some(skipped) = self.errors.next() {
            let count = skipped + 1;
            tracing::error!(%error, count, "cannot accept a connection");
        }
        self.table.make_room();
        sleep(ACCEPT_PAUSE).await;
    }
}

fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
