use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::private_file::create_private_file;
use crate::store::StoreError;

/// How often reads compare the file.
const INTERVAL: Duration = Duration::from_millis(250);

/// The path of an open database. Detects when the path leads to another file or to none: SQLite keeps
/// writing to an unlinked file, and those writes are lost.
///
/// Compares the file without opening it, because closing it would release the locks of SQLite.
pub(super) struct DatabaseFile {
    path: PathBuf,
    /// Set by the first check. `None` if there was no file.
    identity: OnceLock<Option<FileId>>,
    /// The write-ahead log and its index, which exist as long as a connection is open.
    wal: OnceLock<Vec<(PathBuf, FileId)>>,
    last: Mutex<CheckResult>,
}

#[derive(Clone, Copy)]
struct CheckResult {
    at: Instant,
    is_same: bool,
}

/// Device and inode.
#[cfg(unix)]
type FileId = (u64, u64);

/// An open file can be neither removed nor replaced.
#[cfg(not(unix))]
type FileId = ();

impl DatabaseFile {
    /// Takes an absolute path. Check it for the first time after the first connection: opening a file
    /// for writing may replace it by a copy, as in the layers of a container image.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            identity: OnceLock::new(),
            wal: OnceLock::new(),
            last: Mutex::new(CheckResult {
                at: Instant::now(),
                is_same: true,
            }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the file is the one that was opened, and has a write-ahead log beside it.
    pub(super) fn has_wal(&self) -> bool {
        let known = self.identity.get().copied().flatten();
        let is_same = known.is_some_and(|known| identity(&self.path).is_ok_and(|it| it == known));
        is_same && self.beside("-wal").is_some_and(|log| log.exists())
    }

    /// Compares the write-ahead log too from now on, if there is one. Only for a store whose connections
    /// stay open, because the last one that closes removes the log.
    pub(super) fn track_wal(&self) {
        let log = ["-wal", "-shm"].into_iter().filter_map(|suffix| {
            let path = self.beside(suffix)?;
            let identity = identity(&path).ok()?;
            Some((path, identity))
        });
        let _ = self.wal.set(log.collect());
    }

    /// Returns the path of a file that SQLite puts beside the database.
    fn beside(&self, suffix: &str) -> Option<PathBuf> {
        let mut path = self.path.canonicalize().ok()?.into_os_string();
        path.push(suffix);
        Some(path.into())
    }

    /// Returns an error if the path leads to another file than the one that was opened.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let is_same = self.is_same();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_same != is_same {
            log(&self.path, is_same);
        }
        *last = CheckResult {
            at: Instant::now(),
            is_same,
        };
        drop(last);
        self.outcome(is_same)
    }

    /// As [`check`](Self::check), with a result that is up to 250 ms old.
    pub(super) fn check_at_interval(&self) -> Result<(), StoreError> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.at.elapsed() < INTERVAL {
            return self.outcome(last.is_same);
        }
        self.check()
    }

    fn is_same(&self) -> bool {
        let is = |path: &Path, known: FileId| identity(path).is_ok_and(|it| it == known);
        let known = self.identity.get_or_init(|| identity(&self.path).ok());
        let mut log = self.wal.get().into_iter().flatten();
        known.is_some_and(|known| is(&self.path, known))
            && log.all(|(path, known)| is(path, *known))
    }

    fn outcome(&self, is_same: bool) -> Result<(), StoreError> {
        if is_same {
            return Ok(());
        }
        let path = self.path.display();
        let message = format!("{path} was removed or replaced; restart the service");
        Err(StoreError::unavailable(message))
    }
}

/// Creates the file, accessible to its owner only, unless it exists. SQLite gives the files beside it
/// the same mode.
pub(super) fn create(path: &Path) -> io::Result<()> {
    match create_private_file(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;

    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<FileId> {
    fs::metadata(path).map(drop)
}

#[cfg(not(feature = "tracing"))]
fn log(_: &Path, _: bool) {}

#[cfg(feature = "tracing")]
fn log(path: &Path, is_same: bool) {
    let path = path.display();
    if is_same {
        tracing::info!(target: "tower_service_token", "{path} is the open database again");
    } else {
        tracing::error!(
            target: "tower_service_token",
            "{path} was removed or replaced while it was open; lookups and changes fail until the \
             service restarts",
        );
    }
}
