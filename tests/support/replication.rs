//! Hot standbys of a private server, and how servers fail.

use std::net::SocketAddr;

use super::{Cluster, Postgres};

impl Postgres {
    /// Makes a hot standby of this private server, which follows it.
    ///
    /// # Errors
    ///
    /// The binaries are not installed, or do not work here.
    pub(crate) fn standby(&self) -> Result<Self, String> {
        let standby = Cluster::new()?;
        let address = self.address();
        let mut backup = standby.command("pg_basebackup");
        backup.args(["-R", "--checkpoint=fast", "--no-sync", "-U", "tokens"]);
        backup.args(["-h", &address.ip().to_string()]);
        backup.args(["-p", &address.port().to_string()]);
        let made = backup.arg("-D").arg(standby.data()).output();
        let made = made.map_err(|error| error.to_string())?;
        if !made.status.success() {
            let error = String::from_utf8_lossy(&made.stderr);
            return Err(format!("pg_basebackup: {error}"));
        }
        Self::run_by(standby)
    }

    /// Where the private server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.cluster().port.address()
    }

    /// Returns the URL of this server's copy of the database at `url`.
    pub(crate) fn url_of(&self, url: &str) -> String {
        format!("{}/{}", self.server, super::database_of(url))
    }

    /// Makes a primary of a standby.
    pub(crate) fn promote(&self) {
        let cluster = self.cluster();
        let mut promote = cluster.command("pg_ctl");
        promote.args(["promote", "-w", "-s", "-D"]);
        let promoted = promote.arg(cluster.data()).output().unwrap();
        let error = String::from_utf8_lossy(&promoted.stderr);
        assert!(promoted.status.success(), "pg_ctl: {error}");
    }

    /// Kills all processes of the server by SIGKILL.
    pub(crate) fn crash(&self) {
        self.cluster().signal("KILL");
        self.cluster().release();
    }
}
