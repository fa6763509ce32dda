use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tower_service_token::internal::create_private_file;

use crate::failure::{Failure, FailureKind};

/// A file that only its owner can read, written atomically.
///
/// Open it before the secret is issued, so that the secret cannot get lost. It has a temporary name
/// until it is [persisted](Self::persist).
pub(crate) struct SecretFile {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    replace: bool,
}

impl SecretFile {
    /// Creates the temporary file. Without `replace`, it is an error if the file exists.
    pub(crate) fn open(path: &Path, replace: bool) -> Result<Self, Failure> {
        if !replace && path.symlink_metadata().is_ok() {
            return Err(failure(path, &ErrorKind::AlreadyExists.into()));
        }
        check_replaceable(path)?;
        // A symlink stays: its target is replaced.
        let target = path.canonicalize().ok().filter(|_| replace);
        let path = target.unwrap_or_else(|| path.to_owned());
        let mut name = path.file_name().unwrap_or_default().to_owned();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let nanos = now.unwrap_or_default().as_nanos();
        name.push(format!(".{}-{nanos}.new", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = create_private_file(&temporary).map_err(|it| failure(&path, &it))?;
        Ok(Self {
            path,
            temporary,
            file,
            replace,
        })
    }

    /// Writes the text and renames the file.
    pub(crate) fn persist(mut self, text: &str) -> Result<(), Failure> {
        let written = self.write(text);
        written.map_err(|error| failure(&self.path, &error))
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.write_all(text.as_bytes())?;
        self.file.sync_all()?;
        if self.replace {
            return fs::rename(&self.temporary, &self.path);
        }
        // Unlike a rename, this fails if another process created the file meanwhile.
        match fs::hard_link(&self.temporary, &self.path) {
            // Not every file system has hard links.
            Err(error) if error.kind() != ErrorKind::AlreadyExists && !self.path.exists() => {
                fs::rename(&self.temporary, &self.path)
            }
            linked => linked,
        }
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        // After a rename there is nothing to remove.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Creates a directory and its parents, with mode 0700.
pub(crate) fn create_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Returns whether a path is `-` or a name of stdout, such as `/dev/stdout`. Stdout may be a file,
/// which must not be replaced.
pub(crate) fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
        || descriptor(path).is_some_and(|(folder, number)| {
            let own = Path::new("/proc/self/fd").canonicalize();
            let is_own = folder == Path::new("/dev/fd") || own.is_ok_and(|own| own == folder);
            is_own && number == "1"
        })
}

/// Returns the folder and the number of an open file that a path such as `/dev/stdout` leads to.
fn descriptor(path: &Path) -> Option<(PathBuf, OsString)> {
    const MAX_LINKS: usize = 40;

    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let folder = path.parent()?.canonicalize().ok()?;
        let is_table = folder.starts_with("/proc") || folder.starts_with("/dev");
        if is_table && folder.ends_with("fd") {
            return Some((folder, path.file_name()?.to_owned()));
        }
        path = folder.join(fs::read_link(&path).ok()?);
    }
    None
}

/// Returns an error for a device, a pipe or a directory: replacing a device would break it for other
/// programs, and a directory would fail only after the secret was issued.
fn check_replaceable(path: &Path) -> Result<(), Failure> {
    let is_other = path.metadata().is_ok_and(|it| !it.is_file()) || descriptor(path).is_some();
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    // `new/` and `new/.` are directories even if they do not exist.
    if is_other || !path.as_os_str().as_encoded_bytes().ends_with(name) || name.is_empty() {
        let message = format!("{} is not a regular file", path.display());
        return Err(Failure::rejected(message).with_hint("specify a regular file"));
    }
    Ok(())
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    if error.kind() == ErrorKind::AlreadyExists {
        return Failure::rejected(format!("{path} already exists"))
            .with_hint("specify another file, or replace it with --force");
    }
    let attempted = format_args!("cannot write {path}");
    Failure::context(FailureKind::Rejected, attempted, error)
}
