//! A primary and a hot standby behind a name that moves, with a store that connects by that name.

use std::error::Error;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use test_support::postgres::Postgres;
use test_support::stall::Stopwatch;
use tower_service_token::registry::RegistryError;
use tower_service_token::store::sql::PostgresStore;
use tower_service_token::store::{StoreErrorKind, TokenRecord};

use crate::database::{Server, Store, TestDatabase, minted, write};
use crate::failover_proxy::FailoverProxy;

/// Within which changes work once a primary is back.
pub(crate) const BOUND: Duration = Duration::from_secs(5);

const DEADLINE: Duration = Duration::from_secs(2);

/// Longer than any successful step takes.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// A primary with a standby, and a store that connects to them by a name.
pub(crate) struct Replicas {
    pub(crate) primary: Arc<Postgres>,
    pub(crate) standby: Arc<Postgres>,
    pub(crate) name: FailoverProxy,
    pub(crate) store: Store,
    pub(crate) record: TokenRecord,
    pub(crate) url: String,
}

impl Replicas {
    pub(crate) async fn new() -> Self {
        Self::with(async |url| PostgresStore::connect(&url).await.unwrap()).await
    }

    /// The store is made for a URL.
    pub(crate) async fn with(store: impl AsyncFnOnce(String) -> PostgresStore) -> Self {
        let primary = Arc::new(Postgres::private().unwrap());
        let url = primary.create_database().await;
        // Makes the tables, so that the standby has them from the start.
        PostgresStore::connect(&url).await.unwrap();
        let standby = on_a_thread(&primary, |primary| primary.standby().unwrap()).await;
        let name = FailoverProxy::start(primary.address()).await;
        let store = store(name.url(&url)).await;
        let store = Store::Postgres(store).with_deadline(DEADLINE);
        let record = minted();
        store.insert(&write(&record)).await.unwrap();
        let replicas = Self {
            primary,
            standby: Arc::new(standby),
            name,
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
        let begun = Stopwatch::start();
        while pool.number("SELECT COUNT(*) FROM service_tokens").await == 0 {
            assert!(
                begun.elapsed_without_stalls() < TIMEOUT,
                "the standby does not follow"
            );
            pause().await;
        }
        pool.close().await;
    }

    /// Looks the token up on several connections at once.
    pub(crate) async fn find(&self) {
        let lookups = (0..8).map(|_| self.store.find_by_digest(self.record.digest()));
        for found in futures::future::join_all(lookups).await {
            assert!(found.unwrap().is_some(), "a good token was not found");
        }
    }

    pub(crate) async fn change(&self) -> Result<(), RegistryError> {
        self.store.insert(&write(&minted())).await
    }

    /// How long it takes from now until a change works.
    pub(crate) async fn recovers(&self) -> Duration {
        let begun = Stopwatch::start();
        while let Err(error) = self.change().await {
            assert!(
                begun.elapsed_without_stalls() < BOUND,
                "changes still fail: {}",
                cause(&error)
            );
            pause().await;
        }
        let took = begun.elapsed_without_stalls();
        assert!(took < BOUND, "changes work after {took:?}");
        took
    }

    /// No connection of the pool leads to a server that cannot serve.
    pub(crate) async fn assert_recovered(&self) {
        let changes = (0..10).map(|_| self.change());
        for changed in futures::future::join_all(changes).await {
            changed.unwrap_or_else(|error| panic!("{}", cause(&error)));
        }
    }
}

/// Why a change could not be made; the store is unavailable.
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

pub(crate) async fn on_a_thread<T: Send + 'static>(
    server: &Arc<Postgres>,
    work: impl FnOnce(&Postgres) -> T + Send + 'static,
) -> T {
    let server = Arc::clone(server);
    tokio::task::spawn_blocking(move || work(&server))
        .await
        .unwrap()
}

/// Thaws the server when dropped, so that it can be stopped.
pub(crate) struct Frozen(pub(crate) Arc<Postgres>);

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.resume();
    }
}

/// The address in a URL.
pub(crate) fn server_of(url: &str) -> SocketAddr {
    let options: PgConnectOptions = url.parse().unwrap();
    let address = (options.get_host(), options.get_port());
    address.to_socket_addrs().unwrap().next().unwrap()
}
