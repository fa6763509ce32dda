//! The file beside a SQLite database that records that the database had an administrator.
//!
//! It survives if the database is deleted or not mounted, so that the next start can distinguish a
//! lost database from a new one. It contains the store's ID and has mode 0600.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, FailureKind, OrFail};
use crate::output::SecretFile;

const SUFFIX: &str = ".initialized";

pub(crate) struct Marker {
    path: PathBuf,
    database: PathBuf,
}

impl Marker {
    pub(crate) fn new(database: &Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push(SUFFIX);
        Self {
            path: path.into(),
            database: database.to_owned(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns an error if the marker exists and the database does not.
    pub(crate) fn check_not_lost(&self) -> Result<(), Failure> {
        if self.store_id()?.is_none() || self.database.exists() {
            return Ok(());
        }
        let (database, marker) = (self.database.display(), self.path.display());
        let message = format!("{database} is missing, and {marker} shows that it was initialized");
        Err(Failure::rejected(message).with_hint("mount or restore the database"))
    }

    /// Returns the ID of the store that was initialized here, if one was.
    pub(crate) fn store_id(&self) -> Result<Option<String>, Failure> {
        match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            text => {
                let attempted = format_args!("cannot read {}", self.path.display());
                let text = text.or_fail(FailureKind::Rejected, attempted)?;
                Ok(Some(text.trim().to_owned()))
            }
        }
    }

    /// Writes the marker durably.
    pub(crate) fn write(&self, store_id: &str) -> Result<(), Failure> {
        SecretFile::open(&self.path, true)?.persist(&format!("{store_id}\n"))?;
        let attempted = format_args!("cannot sync the folder of {}", self.path.display());
        sync_folder(&self.path).or_fail(FailureKind::Rejected, attempted)
    }
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    use std::fs::File;

    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    match File::open(folder.unwrap_or(Path::new(".")))?.sync_all() {
        // Not every file system supports it.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
