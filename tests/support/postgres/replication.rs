//! Hot standbys of a private server, and failures of servers.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::Postgres;
use super::cluster::{CLUSTER_TIMEOUT, Cluster};

impl Postgres {
    /// Creates a hot standby that follows this private server.
    ///
    /// # Errors
    ///
    /// Returns an error if the binaries are not installed or do not work here.
    pub fn standby(&self) -> Result<Self, String> {
        let standby = Cluster::new()?;
        let address = self.address();
        let mut backup = standby.command("pg_basebackup");
        backup.args(["-R", "--checkpoint=fast", "--no-sync", "-U", "tokens"]);
        backup.args(["-h", &address.ip().to_string()]);
        backup.args(["-p", &address.port().to_string()]);
        let output = backup.arg("-D").arg(standby.data()).output();
        let output = output.map_err(|error| error.to_string())?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            return Err(format!("pg_basebackup: {error}"));
        }
        Self::run_by(standby)
    }

    /// Returns the address of the private server.
    pub fn address(&self) -> SocketAddr {
        self.cluster().port.address()
    }

    /// Returns the URL of this server's copy of the database at `url`.
    pub fn url_of(&self, url: &str) -> String {
        format!("{}/{}", self.server, super::database_of(url))
    }

    /// Promotes a standby.
    pub fn promote(&self) {
        let cluster = self.cluster();
        let mut promote = cluster.command("pg_ctl");
        promote.args(["promote", "-w", "-s", "-D"]);
        let promoted = promote.arg(cluster.data()).output().unwrap();
        let error = String::from_utf8_lossy(&promoted.stderr);
        assert!(promoted.status.success(), "pg_ctl: {error}");
    }

    /// Kills all processes of the server with SIGKILL.
    pub fn crash(&self) {
        let cluster = self.cluster();
        // A stopped postmaster forks no more children.
        cluster.signal("STOP");
        let pids = cluster.processes();
        cluster.signal("KILL");
        cluster.release();
        // The server cannot start while one of these processes holds the shared memory.
        let start = Instant::now();
        while pids.iter().any(|pid| is_running(pid)) {
            assert!(start.elapsed() < CLUSTER_TIMEOUT, "{pids:?} do not end");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn is_running(pid: &str) -> bool {
    // The state follows the name in parentheses.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap().starts_with(['X', 'Z']))
}
