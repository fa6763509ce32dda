use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tower_service_token::internal::{create_private_file, open_private_file};

use super::error::TokenFileError;

/// Where a token file stands, all links followed, and the names beside it that a writer uses.
#[derive(Debug)]
pub(super) struct AtomicWriter {
    pub(super) target: PathBuf,
}

/// Held by the one writer of a file. The file that is locked goes when the lock does.
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

/// What is to be the file, under another name. It is gone if it does not become the file.
pub(super) struct TemporaryFile<'a> {
    writer: &'a AtomicWriter,
    path: PathBuf,
}

impl AtomicWriter {
    pub(super) fn new(path: &Path) -> Result<Self, TokenFileError> {
        let target = match path.canonicalize() {
            Ok(target) => target,
            // A link to nothing is there.
            Err(error) if path.symlink_metadata().is_ok() => return Err(unwritable(path, error)),
            Err(_) => {
                let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
                let directory = directory.unwrap_or(Path::new(".")).canonicalize();
                let directory = directory.map_err(|error| unwritable(path, error))?;
                directory.join(path.file_name().unwrap_or_default())
            }
        };
        Ok(Self { target })
    }

    /// Waits until no other process, and nobody else in this one, writes the file.
    pub(super) fn lock(&self) -> Result<Lock, TokenFileError> {
        let path = self.sibling(".lock");
        loop {
            let file = open_private_file(OpenOptions::new().create(true), &path);
            let file = file.map_err(|error| unwritable(&path, error))?;
            lock(&file).map_err(|error| unwritable(&path, error))?;
            // Whoever held it before may have removed the file: then others lock another one.
            if is_same_file(&file, &path) {
                return Ok(Lock { path, file });
            }
            if path.is_symlink() {
                return Err(unwritable(&path, io::Error::other("it is a link")));
            }
        }
    }

    /// Writes the text beside the file. The lock says that nobody else does.
    pub(super) fn write_temporary(
        &self,
        text: &str,
        original: Option<&Metadata>,
        _: &Lock,
    ) -> Result<TemporaryFile<'_>, TokenFileError> {
        // What its reader asks of a name.
        let path = self.sibling(".new.toml");
        let failed = |error| unwritable(&self.target, error);
        // A writer that was killed left it.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut file = create_private_file(&path).map_err(failed)?;
        let temporary = TemporaryFile { writer: self, path };
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| original.map_or(Ok(()), |original| copy_owner_and_mode(&file, original)))
            .and_then(|()| file.sync_all());
        written.map_err(failed)?;
        Ok(temporary)
    }

    fn sibling(&self, end: &str) -> PathBuf {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.target.file_name().unwrap_or_default());
        name.push(end);
        self.target.with_file_name(name)
    }
}

impl TemporaryFile<'_> {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it the file, for good when this returns.
    pub(super) fn persist(self) -> Result<(), TokenFileError> {
        let target = &self.writer.target;
        fs::rename(&self.path, target)
            .and_then(|()| sync_directory(target))
            .map_err(|error| unwritable(target, error))
    }
}

impl Drop for TemporaryFile<'_> {
    fn drop(&mut self) {
        // It is gone if it was renamed.
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked: else it may be the one that another holds by now.
        if is_same_file(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

pub(super) fn unwritable(path: &Path, source: io::Error) -> TokenFileError {
    let path = path.to_owned();
    TokenFileError::Unwritable { path, source }
}

#[expect(
    clippy::incompatible_msrv,
    reason = "SQLite and PostgreSQL, which this tool has, need Rust 1.94"
)]
fn lock(file: &File) -> io::Result<()> {
    file.lock()
}

/// Whether the path names this very file.
#[cfg(unix)]
fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let inode = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let (file, path) = (
        file.metadata().map(inode),
        path.symlink_metadata().map(inode),
    );
    matches!((file, path), (Ok(file), Ok(path)) if file == path)
}

/// A file that is open stays where it is.
#[cfg(not(unix))]
fn is_same_file(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Gives the file the owner and the mode of another.
#[cfg(unix)]
fn copy_owner_and_mode(file: &File, original: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};

    let own = file.metadata()?;
    let changed = |own: u32, original: u32| (own != original).then_some(original);
    let (user, group) = (
        changed(own.uid(), original.uid()),
        changed(own.gid(), original.gid()),
    );
    if user.is_some() || group.is_some() {
        fchown(file, user, group)?;
    }
    // The last, as another owner may take bits of it.
    file.set_permissions(original.permissions())
}

#[cfg(not(unix))]
fn copy_owner_and_mode(file: &File, original: &Metadata) -> io::Result<()> {
    file.set_permissions(original.permissions())
}

#[cfg(unix)]
fn sync_directory(file: &Path) -> io::Result<()> {
    let directory = file
        .parent()
        .map_or(Ok(()), |it| File::open(it)?.sync_all());
    match directory {
        // Not every file system can.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
