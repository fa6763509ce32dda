use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use etcetera::BaseStrategy;
use tower_service_token::TokenStore;
use tower_service_token::store::StoreError;
use tower_service_token::store::file::FileStore;
use tower_service_token::store::file::TokenFile;
use tower_service_token::store::sql::{PostgresStore, SqliteStore};

use crate::failure::{Failure, FailureKind, OrFail};
use crate::output::create_private_directory;
use crate::store_handle::StoreHandle;

/// The URL of a token store: `sqlite:PATH`, `postgres://…` or `file:PATH`.
///
/// `Debug` and `Display` show no user, password or query of a PostgreSQL URL.
#[derive(Clone)]
pub(crate) enum StoreUrl {
    Sqlite(PathBuf),
    Postgres(String),
    File(PathBuf),
}

/// How a store in SQL is opened.
#[derive(Clone, Copy, Default)]
pub(crate) struct StoreOptions {
    pub(crate) audit_retention: AuditRetention,
    /// How many connections to PostgreSQL are used at a time, if not as many as by default.
    pub(crate) database_connections: Option<u32>,
}

/// How long a store in SQL keeps audit events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AuditRetention {
    #[default]
    Forever,
    For(Duration),
    /// Records no events. Existing events stay.
    Off,
}

/// A store that was opened.
#[derive(Clone)]
pub(crate) enum OpenedStore {
    /// A store that owns its tokens.
    Registry(Arc<dyn StoreHandle>),
    /// A token file, which the service does not write.
    ReadOnly(Arc<dyn TokenStore>),
}

/// Sets the audit trail of a store in SQL. The methods are inherent, so that no function can be
/// generic over them.
macro_rules! with_audit_trail {
    ($store:expr, $audit_retention:expr) => {
        match $audit_retention {
            AuditRetention::Forever => $store.keep_audit_trail(),
            AuditRetention::For(retention) => {
                $store.keep_audit_trail().with_audit_retention(retention)
            }
            AuditRetention::Off => $store,
        }
    };
}

impl OpenedStore {
    /// Closes the store. Afterwards a SQLite database is one complete file, unless another process
    /// has it open.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        match self {
            Self::Registry(store) => store.close().await,
            Self::ReadOnly(_) => Ok(()),
        }
    }
}

impl StoreUrl {
    /// Opens the store to read it, or to serve it. A token file is reloaded when it changes. A missing
    /// SQLite file is created.
    pub(crate) async fn open(&self, options: StoreOptions) -> Result<OpenedStore, Failure> {
        match self {
            Self::File(path) => {
                let store = self.opened(FileStore::open(path))?;
                Ok(OpenedStore::ReadOnly(Arc::new(store)))
            }
            store => {
                let registry = store.open_registry(options).await;
                registry.map(OpenedStore::Registry)
            }
        }
    }

    /// Opens the store to change its tokens. A missing SQLite file is created; a missing token file
    /// is created with the first token. Changes record audit events, which only a service deletes.
    pub(crate) async fn open_registry(
        &self,
        options: StoreOptions,
    ) -> Result<Arc<dyn StoreHandle>, Failure> {
        Ok(match self {
            Self::Sqlite(path) => {
                let store = self.opened(SqliteStore::open(path).await)?;
                Arc::new(with_audit_trail!(store, options.audit_retention))
            }
            Self::Postgres(url) => {
                let mut store = self.opened(PostgresStore::connect(url).await)?;
                if let Some(connections) = options.database_connections {
                    store = store.with_max_connections(connections);
                }
                Arc::new(with_audit_trail!(store, options.audit_retention))
            }
            Self::File(path) => Arc::new(self.opened(TokenFile::open(path))?),
        })
    }

    fn opened<T, E: Error>(&self, opened: Result<T, E>) -> Result<T, Failure> {
        opened.or_fail(FailureKind::Unreachable, format_args!("cannot open {self}"))
    }

    /// Returns the SQLite file in the user's data directory. Creates its folder with mode 0700.
    pub(crate) fn create_default() -> Result<Self, Failure> {
        let hint =
            |failure: Failure| failure.with_hint("specify a store by --store or SVCTOK_STORE");
        let strategy = etcetera::choose_base_strategy();
        let strategy = strategy.or_fail(FailureKind::Usage, "cannot find the data directory");
        let folder = strategy.map_err(hint)?.data_dir().join("svctok");
        let attempted = format_args!("cannot create {}", folder.display());
        let created = create_private_directory(&folder);
        created
            .or_fail(FailureKind::Unreachable, attempted)
            .map_err(hint)?;
        Ok(Self::Sqlite(folder.join("tokens.db")))
    }

    /// Returns the URL with an absolute path.
    pub(crate) fn absolute(self) -> Result<Self, Failure> {
        let absolute = |path: PathBuf| {
            std::path::absolute(path).or_fail(FailureKind::Usage, "cannot resolve the path")
        };
        Ok(match self {
            Self::Sqlite(path) => Self::Sqlite(absolute(path)?),
            Self::File(path) => Self::File(absolute(path)?),
            Self::Postgres(url) => Self::Postgres(url),
        })
    }

    /// Returns the whole URL, including the password.
    pub(crate) fn expose_secret(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::File(path) => format!("file:{}", path.display()),
            Self::Postgres(url) => url.clone(),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        match text.split_once(':') {
            Some((_, "")) => Err("the path is missing".to_owned()),
            Some(("sqlite", path)) => Ok(Self::Sqlite(path.into())),
            Some(("file", path)) => Ok(Self::File(path.into())),
            _ => Err("a store is sqlite:PATH, postgres://… or file:PATH".to_owned()),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Postgres(url) => {
                let (_, rest) = url.split_once("://").unwrap_or_default();
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (authority, rest) = rest.split_at(end);
                // With an unencoded `@`, the end of the password is ambiguous.
                if authority.matches('@').count() > 1 || rest.contains('@') {
                    return f.write_str("postgres://***");
                }
                let host = authority.rsplit('@').next().unwrap_or_default();
                let path = rest.split(['?', '#']).next().unwrap_or_default();
                write!(f, "postgres://{host}{path}")
            }
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_omits_user_password_and_query() {
        for (url, shown) in [
            (
                "postgres://u:hush@db:5432/t?sslpassword=hush",
                "postgres://db:5432/t",
            ),
            ("postgres://u:hu@sh@db:5432/t", "postgres://***"),
            ("postgres://u:hu/sh?@db:5432/t", "postgres://***"),
            ("postgres://db/t?password=hu@sh", "postgres://***"),
            ("postgresql:///t?host=/run&password=hush", "postgres:///t"),
            ("sqlite:/var/lib/t.db", "sqlite:/var/lib/t.db"),
            ("file:t.toml", "file:t.toml"),
        ] {
            let parsed: StoreUrl = url.parse().expect(url);
            assert_eq!(parsed.to_string(), shown);
        }
    }

    #[test]
    fn rejects_unknown_schemes() {
        for url in ["", "t.db", "sqlite:", "file:", "mysql://db/t", "memory:"] {
            assert!(url.parse::<StoreUrl>().is_err(), "{url}");
        }
    }
}
