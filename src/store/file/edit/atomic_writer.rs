use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::private_file::{create_private_file, open_private_file};
use crate::store::file::token_file_error::TokenFileError;

/// Replaces a file atomically, and holds a lock against other writers.
pub(super) struct AtomicWriter {
    /// The file, with all links resolved.
    target: PathBuf,
    lock_path: PathBuf,
    lock: File,
}

impl AtomicWriter {
    /// Waits until no other writer, of this process or another, holds the lock of the file.
    pub(super) fn lock(path: &Path) -> Result<Self, TokenFileError> {
        let target = resolve(path).map_err(|error| TokenFileError::unwritable(path, error))?;
        let lock_path = sibling(&target, ".lock");
        let failed = |error| TokenFileError::unwritable(&lock_path, error);
        loop {
            let lock = open_private_file(OpenOptions::new().create(true), &lock_path);
            let lock = lock.and_then(wait_for_lock).map_err(failed)?;
            // The previous holder removes the lock file. Another writer may then lock a new one.
            if is_same_file(&lock, &lock_path) {
                return Ok(Self {
                    target,
                    lock_path,
                    lock,
                });
            }
            if lock_path.is_symlink() {
                return Err(failed(io::Error::other("it is a symbolic link")));
            }
        }
    }

    /// Replaces the file with a new one that has this text and the owner and mode of the original.
    /// The change is durable when this returns. Does nothing and returns `false` if `is_unchanged`
    /// returns `false`.
    pub(super) fn replace(
        &self,
        text: &str,
        original: Option<&Metadata>,
        is_unchanged: impl FnOnce() -> bool,
    ) -> Result<bool, TokenFileError> {
        let temporary = sibling(&self.target, ".new.toml");
        let replaced = write_temporary(&temporary, text, original).and_then(|()| {
            if !is_unchanged() {
                return Ok(false);
            }
            fs::rename(&temporary, &self.target)?;
            sync_directory(&self.target)?;
            Ok(true)
        });
        // Fails if the file was renamed.
        let _ = fs::remove_file(&temporary);
        replaced.map_err(|error| TokenFileError::unwritable(&self.target, error))
    }
}

impl Drop for AtomicWriter {
    fn drop(&mut self) {
        // Removed while locked: later, the path may be the lock of another writer.
        if is_same_file(&self.lock, &self.lock_path) {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

fn resolve(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(_) if path.symlink_metadata().is_err() => {
            let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
            let directory = directory.unwrap_or(Path::new(".")).canonicalize()?;
            Ok(directory.join(path.file_name().unwrap_or_default()))
        }
        // A link to a missing file is an error.
        resolved => resolved,
    }
}

fn sibling(target: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(suffix);
    target.with_file_name(name)
}

fn write_temporary(path: &Path, text: &str, original: Option<&Metadata>) -> io::Result<()> {
    // Left by a writer that was killed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = create_private_file(path)?;
    file.write_all(text.as_bytes())?;
    if let Some(original) = original {
        copy_owner_and_mode(&file, original)?;
    }
    file.sync_all()
}

#[expect(
    clippy::incompatible_msrv,
    reason = "the feature `cli` includes SQLite and PostgreSQL, which need Rust 1.94"
)]
fn wait_for_lock(file: File) -> io::Result<File> {
    file.lock()?;
    Ok(file)
}

#[cfg(unix)]
fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let inode = |metadata: &Metadata| (metadata.dev(), metadata.ino());
    let (file, path) = (file.metadata(), path.symlink_metadata());
    matches!((file, path), (Ok(file), Ok(path)) if inode(&file) == inode(&path))
}

/// An open file cannot be replaced here.
#[cfg(not(unix))]
fn is_same_file(_: &File, path: &Path) -> bool {
    path.exists()
}

fn copy_owner_and_mode(file: &File, original: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};

        let own = file.metadata()?;
        let user = Some(original.uid()).filter(|user| *user != own.uid());
        let group = Some(original.gid()).filter(|group| *group != own.gid());
        if user.is_some() || group.is_some() {
            fchown(file, user, group)?;
        }
    }
    // Last, because a change of the owner may clear bits of the mode.
    file.set_permissions(original.permissions())
}

/// Makes the rename of a file durable. Only Unix can open a directory.
fn sync_directory(file: &Path) -> io::Result<()> {
    let directory = file.parent().filter(|_| cfg!(unix));
    match directory.map(|directory| File::open(directory)?.sync_all()) {
        // Not every file system supports it.
        Some(Err(error)) if error.kind() != ErrorKind::InvalidInput => Err(error),
        _ => Ok(()),
    }
}
