//! A token service in one process.
//!
//! 1. What can be wrong with the command line is found out before the store is opened, and the
//!    address is taken before a token is minted.
//! 2. The store is asked through a cache with its change feed; a `file:` store is in memory anyway.
//! 3. Nothing waits for the log: if its reader stalls, lines are dropped, and requests are answered.
//! 4. Stopping: no connection is accepted any more, requests finish, last uses are written, the store
//!    is closed.

mod app;
mod bootstrap;
mod default_store;
mod first_start;
mod health;
mod logs;
mod marker;
mod observation;
mod permissions;
mod requests;
mod server;
mod stop;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tower_service_token::store::Flushing;

use self::app::Service;
use self::bootstrap::Bootstrap;
use self::health::Health;
use self::marker::Marker;
use self::observation::Observation;
use self::server::{InFlight, Server};
use self::stop::StopSignals;
use crate::args::ServeArgs;
use crate::environment::Environment;
use crate::failure::{Failure, FailureKind};
use crate::store_url::{OpenedStore, StoreUrl};

/// How long the last uses may take to be written when all else has ended.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn serve(args: ServeArgs) -> Result<(), Failure> {
    let _logs = logs::start(&args)?;
    let tls = tls::acceptor(&args)?;
    let max_connections = server::max_connections(args.max_connections)?;
    let listener = server::bind(args.listen).await?;
    let observation = Observation::begin(args.metrics_listen).await?;
    logs::register_metrics();
    let (opened, marker) = open(&args).await?;

    let (stopping, stopped) = watch::channel(false);
    let health = Arc::new(Health::new(opened.clone(), stopped.clone()));
    let mut signals = StopSignals::heard()?;
    first_token(&opened, marker.as_ref(), &args).await?;
    let Service { app, flushing } = app::service(opened.clone());
    let in_flight = InFlight::new();
    tokio::spawn(Arc::clone(&in_flight).sweep());
    let app = app
        .merge(health::routes(&health))
        .merge(observation.routes(&health, &in_flight)?);

    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!("listening on {scheme}://{}", server::address(&listener)?);
    let app = requests::observed(server::bounded(app)).layer(args.client_address_layer());
    let server = Server::new("service", listener, app, in_flight);
    let proxies = args.trusted_proxies();
    let server = server
        .with_tls(tls)
        .with_max_connections(max_connections)
        .with_proxies(move |address| proxies.contains(address));
    let serving = tokio::spawn(server.run(stopped));

    signals.next().await;
    let patience = args.shutdown_timeout;
    tracing::info!("stopping: requests may take {patience:?} to finish");
    // Nobody hears it if the server has ended, which it does not by itself.
    let _ = stopping.send(true);
    tokio::select! {
        ended = timeout(patience, serving) => if ended.is_err() {
            tracing::warn!("some requests did not finish in time");
        },
        () = signals.next() => tracing::warn!("asked again: some requests did not finish"),
    }
    finish(flushing, &opened).await
}

/// Writes the last uses, and closes the store.
async fn finish(flushing: Option<Flushing>, opened: &OpenedStore) -> Result<(), Failure> {
    if let Some(flushing) = flushing {
        write_last_uses(flushing).await;
    }
    let closed = opened.close().await;
    tracing::info!("stopped");
    closed.map_err(|error| Failure::of(FailureKind::Unreachable, "cannot close the store", &error))
}

/// Mints the first token of a new store. The store is closed if that fails.
async fn first_token(
    opened: &OpenedStore,
    marker: Option<&Marker>,
    args: &ServeArgs,
) -> Result<(), Failure> {
    let OpenedStore::Registry(store) = opened else {
        return Ok(());
    };
    let file = args.bootstrap_token_file.as_deref();
    if let Some(file) = file {
        permissions::warn_about_token(file);
    }
    let bootstrap = Bootstrap {
        file,
        marker,
        is_confirmed: args.bootstrap,
    };
    let minted = bootstrap::bootstrap(store, &bootstrap).await;
    if minted.is_err() {
        // That it was not closed matters less.
        let _ = opened.close().await;
    }
    minted
}

async fn open(args: &ServeArgs) -> Result<(OpenedStore, Option<Marker>), Failure> {
    let place = match &args.store {
        Some(place) => Some(place.clone()),
        None => Environment::read()?.store,
    };
    let place = place.map_or_else(default_store::make, Ok)?;
    let marker = match &place {
        StoreUrl::Sqlite(path) => Some(first_start::check_not_lost(path, args.bootstrap)?),
        _ => None,
    };
    let opened = place.open_to_serve(args.audit_retention).await?;
    if matches!(opened, OpenedStore::ReadOnly(_)) && args.mints() {
        return Err(Failure::usage(
            "the tokens of a file: store are made elsewhere: leave out --bootstrap and \
             --bootstrap-token-file",
        ));
    }
    if let StoreUrl::Sqlite(path) = &place {
        permissions::warn_about_database(path);
    }
    tracing::info!(store = %place, "tokens are kept here");
    Ok((opened, marker))
}

async fn write_last_uses(flushing: Flushing) {
    match timeout(FLUSH_TIMEOUT, flushing.stop()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the last uses were not written"),
        Err(_) => tracing::error!("the last uses were not written in time"),
    }
}
