//! The configuration and the output of a child process.

use std::env;
use std::io::{Write, stdin, stdout};
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower_service_token::registry::TokenRegistry;
use tower_service_token::store::sql::{PostgresStore, SqliteStore};

/// The environment variable that makes this binary a child process.
pub(crate) const CONFIG_VARIABLE: &str = "SERVICE_TOKEN_TEST_NODE";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ProcessConfig {
    pub(crate) role: Role,
    /// The path of a SQLite file, or the URL of a PostgreSQL database.
    pub(crate) store: String,
    pub(crate) ttl: Duration,
    pub(crate) negative_ttl: Duration,
    pub(crate) deadline: Duration,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Role {
    /// A server with a protected route, which manages tokens by commands on stdin.
    Server,
    /// Creates and changes tokens until it is killed, and reports each change.
    Mutator,
    /// Changes tokens that other contenders change too, and reports all changes at the end.
    Contender { name: String, shared: Vec<i64> },
}

impl ProcessConfig {
    pub(crate) fn new(role: Role, store: &str) -> Self {
        Self {
            role,
            store: store.to_owned(),
            ttl: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(10),
            // Longer than any operation takes on a busy machine.
            deadline: Duration::from_secs(30),
        }
    }

    pub(crate) fn with_ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    pub(crate) fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Returns the configuration if this is a child process.
    pub(crate) fn from_env() -> Option<Self> {
        let process_config = env::var(CONFIG_VARIABLE).ok()?;
        Some(serde_json::from_str(&process_config).unwrap())
    }

    pub(crate) async fn open(&self) -> Arc<dyn TokenRegistry> {
        open(&self.store, self.deadline).await
    }
}

/// Opens the store with its audit trail.
pub(crate) async fn open(store: &str, deadline: Duration) -> Arc<dyn TokenRegistry> {
    if store.starts_with("postgres") {
        let store = PostgresStore::connect(store).await.unwrap();
        Arc::new(store.with_deadline(deadline).keep_audit_trail())
    } else {
        let store = SqliteStore::open(store).await.unwrap();
        Arc::new(store.with_deadline(deadline).keep_audit_trail())
    }
}

/// Returns the lines on stdin. The channel closes when the test ends.
pub(crate) fn stdin_lines() -> UnboundedReceiver<String> {
    let (sender, receiver) = unbounded_channel();
    thread::spawn(move || {
        for line in stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Prints a line and flushes it, so that the test reads it before the next step starts.
pub(crate) fn print_line(line: &str) {
    let mut out = stdout().lock();
    let written = out.write_all(format!("{line}\n").as_bytes());
    if written.and_then(|()| out.flush()).is_err() {
        // The test has ended.
        process::exit(1);
    }
}
