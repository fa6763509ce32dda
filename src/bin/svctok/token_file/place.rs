use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::error::TokenFileError;

/// Where a token file stands, all links followed, and the names beside it that a writer uses.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) target: PathBuf,
}

/// Held by the one writer of a file. The file that is locked goes when the lock does.
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

/// What is to be the file, under another name. It is gone if it does not become the file.
pub(super) struct Draft<'a> {
    place: &'a Place,
    path: PathBuf,
}

impl Place {
    pub(super) fn of(path: &Path) -> Result<Self, TokenFileError> {
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
        let path = self.beside(".lock");
        loop {
            let file = open_private(OpenOptions::new().create(true), &path);
            let file = file.map_err(|error| unwritable(&path, error))?;
            lock(&file).map_err(|error| unwritable(&path, error))?;
            // Whoever held it before may have removed the file: then others lock another one.
            if is_at(&file, &path) {
                return Ok(Lock { path, file });
            }
            if path.is_symlink() {
                return Err(unwritable(&path, io::Error::other("it is a link")));
            }
        }
    }

    /// Writes the text beside the file. The lock says that nobody else does.
    pub(super) fn draft(
        &self,
        text: &str,
        like: Option<&Metadata>,
        _: &Lock,
    ) -> Result<Draft<'_>, TokenFileError> {
        // What its reader asks of a name.
        let path = self.beside(".new.toml");
        let failed = |error| unwritable(&self.target, error);
        // A writer that was killed left it.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut file = open_private(OpenOptions::new().create_new(true), &path).map_err(failed)?;
        let draft = Draft { place: self, path };
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| like.map_or(Ok(()), |like| make_like(&file, like)))
            .and_then(|()| file.sync_all());
        written.map_err(failed)?;
        Ok(draft)
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.target.file_name().unwrap_or_default());
        name.push(end);
        self.target.with_file_name(name)
    }
}

impl Draft<'_> {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it the file, for good when this returns.
    pub(super) fn finish(self) -> Result<(), TokenFileError> {
        let target = &self.place.target;
        fs::rename(&self.path, target)
            .and_then(|()| sync_directory(target))
            .map_err(|error| unwritable(target, error))
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // It is gone if it was renamed.
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked: else it may be the one that another holds by now.
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

pub(super) fn unwritable(path: &Path, source: io::Error) -> TokenFileError {
    let path = path.to_owned();
    TokenFileError::Unwritable { path, source }
}

/// A file that only its owner can read, whatever the umask.
fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.write(true).open(path)
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
fn is_at(file: &File, path: &Path) -> bool {
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
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Gives the file the owner and the mode of another.
#[cfg(unix)]
fn make_like(file: &File, like: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};

    let own = file.metadata()?;
    let changed = |own: u32, like: u32| (own != like).then_some(like);
    let (user, group) = (
        changed(own.uid(), like.uid()),
        changed(own.gid(), like.gid()),
    );
    if user.is_some() || group.is_some() {
        fchown(file, user, group)?;
    }
    // The last, as another owner may take bits of it.
    file.set_permissions(like.permissions())
}

#[cfg(not(unix))]
fn make_like(file: &File, like: &Metadata) -> io::Result<()> {
    file.set_permissions(like.permissions())
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
