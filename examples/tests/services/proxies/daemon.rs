//! A third-party server that runs without privileges in its own folder.

use std::fs::{self, File, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use test_support::port::ReservedPort;
use test_support::process::PROCESS_TIMEOUT;

const POLL_INTERVAL: Duration = Duration::from_millis(10);

pub(crate) fn installed(files: &[&str]) -> bool {
    files.iter().all(|file| Path::new(file).exists())
}

/// A folder that any user may write to, removed after the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("svctok-proxies-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new folder");
        fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("its owner");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("a new file");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server process, stopped on drop.
pub(crate) struct Daemon {
    child: Child,
    port: ReservedPort,
    // The server removes its pid file from this folder when it exits.
    folder: Folder,
}

impl Daemon {
    /// Starts `command`, which stays in the foreground, and waits until it listens.
    pub(crate) fn start(folder: Folder, port: ReservedPort, command: &[&str]) -> Self {
        let log = File::create(folder.path().join("stderr")).expect("a new file");
        let child = unprivileged(command)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut daemon = Self {
            child,
            port,
            folder,
        };
        daemon.wait_until_it_listens();
        daemon
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.address().port()
    }

    fn wait_until_it_listens(&mut self) {
        let deadline = Instant::now() + PROCESS_TIMEOUT;
        while TcpStream::connect(self.port.address()).is_err() {
            let status = self.child.try_wait().expect("the child can be polled");
            if status.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.path().join("stderr"));
                panic!(
                    "the server does not listen ({status:?}): {}",
                    log.unwrap_or_default()
                );
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Daemon {
    /// Sends SIGTERM, so that the server cleans up, and kills it after a timeout.
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        let _ = Command::new("kill").arg(id).status();
        let deadline = Instant::now() + PROCESS_TIMEOUT;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(POLL_INTERVAL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the command as the user `nobody` if this process is root.
fn unprivileged(command: &[&str]) -> Command {
    let id = Command::new("id").arg("-u").output().expect("POSIX has id");
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let drop = if id.stdout == b"0\n" {
        &nobody[..]
    } else {
        &[]
    };
    let words: Vec<_> = drop.iter().chain(command).collect();
    let mut all = Command::new(words[0]);
    all.args(&words[1..]);
    all
}
