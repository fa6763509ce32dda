//! A private PostgreSQL cluster, created with the installed binaries.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Stop;
use crate::port::ReservedPort;

const MAX_CONNECTIONS: u32 = 200;

pub(super) const CLUSTER_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) struct Cluster {
    binaries: PathBuf,
    pub(super) folder: PathBuf,
    /// Reserved while the server is stopped, so that it can start again on the same port.
    pub(super) port: ReservedPort,
    pub(super) max_connections: u32,
    owner: Option<Owner>,
    /// The parent shell of the server. It stops the server when this process ends.
    supervisor: Mutex<Option<Child>>,
}

#[derive(Clone)]
struct Owner {
    user: u32,
    group: u32,
}

impl Cluster {
    /// Creates an empty directory for a server.
    pub(super) fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let binaries = binaries().ok_or("PostgreSQL is not installed")?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("svctok-postgres-{}-{number}", std::process::id());
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let owner = owner()?;
        if let Some(owner) = &owner {
            std::os::unix::fs::chown(&folder, Some(owner.user), Some(owner.group))
                .map_err(|error| error.to_string())?;
        }
        Ok(Self {
            binaries,
            folder,
            port: ReservedPort::new(),
            max_connections: MAX_CONNECTIONS,
            owner,
            supervisor: Mutex::new(None),
        })
    }

    pub(super) fn initialize(&self) -> Result<(), String> {
        let mut initdb = self.command("initdb");
        initdb.args(["--auth=trust", "--username=tokens", "--encoding=UTF8"]);
        initdb.args(["--no-locale", "--no-sync"]);
        let output = initdb.arg("-D").arg(self.data()).output();
        let output = output.map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!(
                "initdb: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        Ok(())
    }

    pub(super) fn start(&self) -> Result<(), String> {
        let mut server = self.supervised(&self.binaries.join("postgres"), "QUIT", "log")?;
        server.arg("-D").arg(self.data());
        server.arg("-k").arg(&self.folder);
        server.args(["-h", "127.0.0.1", "-p", &self.port_number()]);
        server.args(["-N", &self.max_connections.to_string()]);
        let supervisor = server.spawn().map_err(|error| error.to_string())?;
        *self.supervisor.lock().unwrap() = Some(supervisor);
        let deadline = Instant::now() + CLUSTER_TIMEOUT;
        while !self.is_ready() {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!("PostgreSQL does not start: {log}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Returns the command of a shell that runs a server with a log file in the directory, and
    /// sends the server this signal when this process ends.
    pub(super) fn supervised(
        &self,
        program: &Path,
        signal: &str,
        log: &str,
    ) -> Result<Command, String> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join(log))
            .map_err(|error| error.to_string())?;
        // The shell's read returns when this process ends for any reason.
        let script = r#"exec 3<&0; "$@" </dev/null & server=$!
            cat <&3 >/dev/null; kill -$0 $server 2>/dev/null; wait $server"#;
        let mut shell = self.as_owner("sh");
        shell.args(["-c", script, signal]).arg(program);
        shell
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        Ok(shell)
    }

    fn is_ready(&self) -> bool {
        let mut ready = Command::new(self.binaries.join("pg_isready"));
        ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port_number()]);
        ready.status().is_ok_and(|status| status.success())
    }

    pub(super) fn stop(&self, mode: Stop) {
        let mode = match mode {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        let mut stop = self.command("pg_ctl");
        stop.args(["stop", "-w", "-s", "-m", mode])
            .arg("-D")
            .arg(self.data());
        let stopped = stop.output().unwrap();
        let stderr = String::from_utf8_lossy(&stopped.stderr);
        assert!(stopped.status.success(), "pg_ctl: {stderr}");
        self.release();
    }

    /// Closes the pipe that the shell reads, and waits until the shell ends.
    pub(super) fn release(&self) {
        if let Some(mut supervisor) = self.supervisor.lock().unwrap().take() {
            drop(supervisor.stdin.take());
            let _ = supervisor.wait();
        }
    }

    pub(super) fn signal(&self, name: &str) {
        let pids = self.processes();
        let mut kill = Command::new("sh");
        kill.arg("-c")
            .arg(format!("kill -{name} {}", pids.join(" ")));
        assert!(kill.status().unwrap().success());
        if name == "STOP" {
            for pid in &pids {
                wait_until_stopped(pid);
            }
        }
    }

    /// Returns the process IDs of the postmaster and its children.
    pub(super) fn processes(&self) -> Vec<String> {
        let pid = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let postmaster: u32 = pid.lines().next().unwrap().parse().unwrap();
        let mut pids = vec![postmaster.to_string()];
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            // The state and the parent follow the name in parentheses.
            let parent = stat.rsplit(')').next().unwrap().split_whitespace().nth(1);
            if parent == Some(&postmaster.to_string()) {
                pids.push(entry.file_name().into_string().unwrap());
            }
        }
        pids
    }

    fn port_number(&self) -> String {
        self.port.address().port().to_string()
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn command(&self, name: &str) -> Command {
        self.as_owner(self.binaries.join(name))
    }

    fn as_owner(&self, program: impl AsRef<Path>) -> Command {
        let mut command = match &self.owner {
            None => Command::new(program.as_ref()),
            Some(Owner { user, group }) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={user}"));
                command.arg(format!("--regid={group}"));
                command.arg("--clear-groups");
                command.arg(program.as_ref());
                command
            }
        };
        // The user that runs the server may not have access to the directory of the tests.
        command.current_dir("/").env("LC_ALL", "C");
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.release();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Waits until a process that received `SIGSTOP` has stopped or ended.
fn wait_until_stopped(pid: &str) {
    let start = Instant::now();
    while let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The state follows the name in parentheses.
        if stat.rsplit(") ").next().unwrap().starts_with(['T', 'Z']) {
            return;
        }
        assert!(start.elapsed() < CLUSTER_TIMEOUT, "{stat} does not stop");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Returns the directory of the server binaries on the path, or else of the newest ones where
/// Debian installs them.
fn binaries() -> Option<PathBuf> {
    let has_all = |folder: &PathBuf| {
        ["initdb", "postgres", "pg_ctl", "pg_isready"]
            .iter()
            .all(|name| folder.join(name).exists())
    };
    let path = env::var_os("PATH").unwrap_or_default();
    if let Some(folder) = env::split_paths(&path).find(has_all) {
        return Some(folder);
    }
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, folder)| has_all(folder))
        .collect();
    versions.sort_unstable();
    versions.pop().map(|(_, folder)| folder)
}

/// Returns the user that runs the server if this process is root.
fn owner() -> Result<Option<Owner>, String> {
    use std::os::unix::fs::MetadataExt;
    let own = fs::metadata("/proc/self").map_err(|error| error.to_string())?;
    if own.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    let find = |name: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            let user = fields.nth(1)?.parse().ok()?;
            let group = fields.next()?.parse().ok()?;
            Some(Owner { user, group })
        })
    };
    let owner = find("postgres").or_else(|| find("nobody"));
    owner.map(Some).ok_or_else(|| {
        "this process is root, and no other user exists to run PostgreSQL".to_owned()
    })
}
