//! The file beside a SQLite database that says that the database had an administrator.
//!
//! It outlives a database that is deleted or not mounted, so that the next start can tell it from a
//! new one. It holds the store's ID, for its owner alone (mode 0600).

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, FailureKind};
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

    /// Returns an error if the marker is there and the database is not.
    pub(crate) fn check_not_lost(&self) -> Result<(), Failure> {
        if self.store_id()?.is_none() || self.database.exists() {
            return Ok(());
        }
        let (database, marker) = (self.database.display(), self.path.display());
        let message = format!("{database} is missing, and {marker} shows that it was initialized");
        Err(Failure::refused(message).with_hint("mount or restore the database"))
    }

    /// Returns the ID of the store that was initialized here, if one was.
    pub(crate) fn store_id(&self) -> Result<Option<String>, Failure> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let tried = format_args!("cannot read {}", self.path.display());
                Err(Failure::context(FailureKind::Refused, tried, &error))
            }
        }
    }

    /// Writes the marker, for good when this returns.
    pub(crate) fn write(&self, store_id: &str) -> Result<(), Failure> {
        SecretFile::open(&self.path, true)?.persist(&format!("{store_id}\n"))?;
        sync_folder(&self.path).map_err(|error| {
            let tried = format_args!("cannot sync the folder of {}", self.path.display());
            Failure::context(FailureKind::Refused, tried, &error)
        })
    }
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    use std::fs::File;

    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    match File::open(folder.unwrap_or(Path::new(".")))?.sync_all() {
        // Not every file system can.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
