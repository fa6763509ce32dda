//! A primary and a hot standby behind a [`FailoverProxy`], with a store that connects through it.

use std::error::Error;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use test_support::postgres::{Postgres, on_blocking_thread};
use test_support::stall::Stopwatch;
use tower_service_token::registry::RegistryError;
use tower_service_token::store::sql::PostgresStore;
use tower_service_token::store::{StoreErrorKind, TokenRecord};

use crate::database::{Server, Store, TestDatabase, minted, write};
use crate::failover_proxy::FailoverProxy;

/// The maximum time until changes succeed after a primary is available again.
pub(crate) const MAX_RECOVERY: Duration = Duration::from_secs(5);

const DEADLINE: Duration = Duration::from_secs(2);

/// The timeout of a step. Successful steps are much faster.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// A primary with a standby, and a store that connects to them through a proxy.
pub(crate) struct Replicas {
    pub(crate) primary: Arc<Postgres>,
    pub(crate) standby: Arc<Postgres>,
    pub(crate) proxy: FailoverProxy,
    pub(crate) store: Store,
    pub(crate) record: TokenRecord,
    pub(crate) url: String,
}

impl Replicas {
    pub(crate) async fn new() -> Self {
        Self::with(async |url| PostgresStore::connect(&url).await.unwrap()).await
    }

    /// Starts the servers and the proxy. `store` opens a store at the URL of the proxy.
    pub(crate) async fn with(store: impl AsyncFnOnce(String) -> PostgresStore) -> Self {
        let primary = Arc::new(Postgres::private().unwrap());
        let url = primary.create_database().await;
        // Creates the tables, so that the standby has them from the start.
        PostgresStore::connect(&url).await.unwrap();
        let standby = on_blocking_thread(&primary, |primary| primary.standby().unwrap()).await;
        let proxy = FailoverProxy::start(primary.address()).await;
        let store = store(proxy.url(&url)).await;
        let store = Store::Postgres(store).with_deadline(DEADLINE);
        let record = minted();
        store.insert(&write(&record)).await.unwrap();
        let replicas = Self {
            primary,
            standby: Arc::new(standby),
            proxy,
            store,
            record,
            url,
        };
        replicas.wait_for_standby().await;
        replicas
    }

    /// Waits until the standby has the token.
    pub(crate) async fn wait_for_standby(&self) {
        let url = self.standby.url_of(&self.url);
        let server = Server(Arc::clone(&self.standby));
        let pool = TestDatabase::Postgres { server, url }.pool(1).await;
        let started = Stopwatch::start();
        while pool.number("SELECT COUNT(*) FROM service_tokens").await == 0 {
            assert!(
                started.elapsed_without_stalls() < TIMEOUT,
                "the standby does not replicate the token"
            );
            pause().await;
        }
        pool.close().await;
    }

    /// Looks the token up on several connections concurrently.
    pub(crate) async fn find(&self) {
        let lookups = (0..8).map(|_| self.store.find_by_digest(self.record.digest()));
        for found in futures::future::join_all(lookups).await {
            assert!(found.unwrap().is_some(), "a valid token was not found");
        }
    }

    pub(crate) async fn change(&self) -> Result<(), RegistryError> {
        self.store.insert(&write(&minted())).await
    }

    /// Waits until a change succeeds. Returns the time that this takes.
    pub(crate) async fn wait_for_recovery(&self) -> Duration {
        let started = Stopwatch::start();
        while let Err(error) = self.change().await {
            assert!(
                started.elapsed_without_stalls() < MAX_RECOVERY,
                "changes still fail: {}",
                cause(&error)
            );
            pause().await;
        }
        let elapsed = started.elapsed_without_stalls();
        assert!(elapsed < MAX_RECOVERY, "changes succeed after {elapsed:?}");
        elapsed
    }

    /// Asserts that every connection of the pool leads to a server that accepts changes.
    pub(crate) async fn assert_recovered(&self) {
        let changes = (0..10).map(|_| self.change());
        for changed in futures::future::join_all(changes).await {
            changed.unwrap_or_else(|error| panic!("{}", cause(&error)));
        }
    }
}

/// Returns the cause of an error. Asserts that the store is unavailable.
pub(crate) fn cause(error: &RegistryError) -> String {
    let RegistryError::Store(error) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    error.source().unwrap().to_string()
}

pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// Returns the address in a URL.
pub(crate) fn server_of(url: &str) -> SocketAddr {
    let options: PgConnectOptions = url.parse().unwrap();
    let address = (options.get_host(), options.get_port());
    address.to_socket_addrs().unwrap().next().unwrap()
}
