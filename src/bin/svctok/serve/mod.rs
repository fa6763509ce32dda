//! A token service in one process.
//!
//! 1. The command line is checked before the store is opened, and the address is bound before a
//!    token is minted.
//! 2. Requests read the store through a cache that follows its change feed. A `file:` store is in
//!    memory and has no cache.
//! 3. No request waits for the log: if stderr blocks, lines are dropped.
//! 4. A stop accepts no more connections, lets requests finish, writes the last uses, and closes the
//!    store. A failed start closes the store too.

mod app;
mod bootstrap;
mod health;
mod layers;
mod log_limiter;
mod logs;
mod metrics_endpoint;
mod permissions;
mod request_log;
mod server;
mod startup_state;
mod stop;
mod tls;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use self::app::ServiceParts;
use self::health::Health;
use self::metrics_endpoint::MetricsEndpoint;
use self::server::{InFlight, Server};
use self::stop::StopSignals;
use crate::args::ServeArgs;
use crate::environment::Environment;
use crate::failure::{Failure, FailureKind};
use crate::marker::Marker;
use crate::store_url::{OpenedStore, StoreUrl};

/// What is set up before the store is opened.
struct Frontend {
    tls: Option<TlsAcceptor>,
    max_connections: usize,
    listener: TcpListener,
    metrics_endpoint: MetricsEndpoint,
}

/// An open store.
struct Backend {
    store: OpenedStore,
    /// Of a SQLite database.
    marker: Option<Marker>,
}

pub(crate) async fn serve(args: ServeArgs) -> Result<(), Failure> {
    let _logs = logs::start(&args)?;
    let mut signals = StopSignals::register().map_err(|error| {
        Failure::context(FailureKind::Rejected, "cannot handle signals", &error)
    })?;
    let frontend = Frontend {
        tls: tls::acceptor(&args)?,
        max_connections: server::max_connections(args.max_connections)?,
        listener: server::bind(args.listen).await?,
        metrics_endpoint: MetricsEndpoint::install(args.metrics_listen).await?,
    };
    logs::register_metrics();
    let close = async |backend: Backend| {
        if let Err(failure) = stop::close(&backend.store).await {
            tracing::error!(error = failure.message(), "cannot stop cleanly");
        }
    };
    let opened = stop::open_unless_stopped(open(&args), signals.next(), close).await?;
    let Some(backend) = opened else {
        return Ok(());
    };
    let served = run(&args, frontend, &backend, &mut signals).await;
    let closed = stop::close(&backend.store).await;
    tracing::info!("stopped");
    served.and(closed)
}

/// Serves the store until a signal, and writes the last uses.
async fn run(
    args: &ServeArgs,
    frontend: Frontend,
    backend: &Backend,
    signals: &mut StopSignals,
) -> Result<(), Failure> {
    let (stopping, stopped) = watch::channel(false);
    let health = Arc::new(Health::new(backend.store.clone(), stopped.clone()));
    first_token(backend, args).await?;
    let ServiceParts { app, flush_task } = app::build(backend.store.clone(), args);
    let in_flight = InFlight::new();
    tokio::spawn(Arc::clone(&in_flight).sweep());
    let app = app
        .merge(health::routes(&health))
        .merge(frontend.metrics_endpoint.routes(&health, &in_flight)?);

    let scheme = frontend.tls.as_ref().map_or("http", |_| "https");
    let address = server::address(&frontend.listener)?;
    tracing::info!("listening on {scheme}://{address}");
    let app = layers::with_layers(app, args.client_address_layer());
    let server = Server::new("service", frontend.listener, app, in_flight)
        .with_tls(frontend.tls)
        .with_max_connections(frontend.max_connections)
        .with_proxies(args.trusted_proxies());
    let serving = tokio::spawn(server.run(stopped));

    signals.next().await;
    let limit = args.shutdown_timeout;
    tracing::info!("stopping: requests have {limit:?} to finish");
    // An error means that the server has ended.
    let _ = stopping.send(true);
    stop::drain(serving, limit, signals.next()).await;
    if let Some(flush_task) = flush_task {
        stop::flush(flush_task).await;
    }
    Ok(())
}

/// Mints the first token of a new store.
async fn first_token(backend: &Backend, args: &ServeArgs) -> Result<(), Failure> {
    let OpenedStore::Registry(store) = &backend.store else {
        return Ok(());
    };
    let file = args.bootstrap_token_file();
    if let Some(file) = file {
        permissions::warn_about_secret(file, "administrator token");
    }
    bootstrap::bootstrap(store, file, backend.marker.as_ref(), args.bootstrap).await
}

async fn open(args: &ServeArgs) -> Result<Backend, Failure> {
    let url = match &args.store {
        Some(url) => Some(url.clone()),
        None => Environment::read()?.target.store,
    };
    let url = url.map_or_else(StoreUrl::create_default, Ok)?;
    if matches!(url, StoreUrl::File(_)) && args.has_bootstrap_flag() {
        return Err(Failure::usage(
            "a file: store cannot mint tokens: leave out --bootstrap and --bootstrap-token-file",
        ));
    }
    if !matches!(url, StoreUrl::Postgres(_)) && args.database_connections.is_some() {
        return Err(Failure::usage(
            "--database-connections is for a postgres:// store",
        ));
    }
    let marker = match &url {
        StoreUrl::Sqlite(path) => Some(startup_state::check_not_lost(path, args.bootstrap)?),
        _ => None,
    };
    let store = url.open(args.store_options()).await?;
    if let StoreUrl::Sqlite(path) = &url {
        permissions::warn_about_database(path);
    }
    tracing::info!(store = %url, "opened the token store");
    Ok(Backend { store, marker })
}
