//! `PgBouncer` in front of a private server.

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use super::Postgres;
use super::cluster::CLUSTER_TIMEOUT;
use crate::port::ReservedPort;

/// A pooler that ends with the test process.
pub struct Pooler {
    port: ReservedPort,
    /// The parent shell of the pooler.
    supervisor: Child,
}

impl Pooler {
    /// Finds the program.
    ///
    /// # Errors
    ///
    /// Returns an error if `PgBouncer` is not installed.
    pub fn find() -> Result<PathBuf, String> {
        let path = env::var_os("PATH").unwrap_or_default();
        // Debian installs it in a directory that is only on an administrator's path.
        let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let mut programs = folders.map(|folder| folder.join("pgbouncer"));
        let found = programs.find(|program| program.exists());
        found.ok_or_else(|| "PgBouncer is not installed".to_owned())
    }

    /// Starts a pooler for all databases of a private server, with these lines in its settings.
    ///
    /// # Errors
    ///
    /// Returns an error if `PgBouncer` is not installed or does not work here.
    pub fn start(server: &Postgres, settings: &str) -> Result<Self, String> {
        let port = ReservedPort::new();
        let cluster = server.cluster();
        let address = server.address();
        let name = format!("pooler-{}", port.address().port());
        let file = cluster.folder.join(&name);
        let text = format!(
            "[databases]\n* = host={} port={} user=tokens\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = any\n{settings}\n",
            address.ip(),
            address.port(),
            port.address().port(),
        );
        fs::write(&file, text).map_err(|error| error.to_string())?;
        let mut command = cluster.supervised(&Self::find()?, "TERM", &format!("{name}.log"))?;
        let supervisor = command.arg(&file).spawn();
        let pooler = Self {
            port,
            supervisor: supervisor.map_err(|error| error.to_string())?,
        };
        let deadline = Instant::now() + CLUSTER_TIMEOUT;
        while TcpStream::connect(pooler.address()).is_err() {
            if Instant::now() > deadline {
                let log = fs::read_to_string(cluster.folder.join(format!("{name}.log")));
                return Err(format!(
                    "PgBouncer does not start: {}",
                    log.unwrap_or_default()
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(pooler)
    }

    /// Returns the URL of a database through the pooler.
    pub fn url_of(&self, url: &str) -> String {
        format!(
            "postgres://tokens@{}/{}",
            self.address(),
            super::database_of(url)
        )
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}
