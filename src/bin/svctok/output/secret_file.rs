use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tower_service_token::internal::create_private_file;

use crate::failure::{Failure, FailureKind};

/// A file that only its owner can read, and that is there wholly or not at all.
///
/// It is opened before there is a secret, so that none is made that cannot be kept; what is
/// written stands under another name until it is [finished](Self::persist).
pub(crate) struct SecretFile {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    replace: bool,
}

impl SecretFile {
    /// With `replace`, a file that is there is replaced; else it is an error.
    pub(crate) fn open(path: &Path, replace: bool) -> Result<Self, Failure> {
        let failed = |error: &io::Error| failure(path, error);
        if !replace && path.symlink_metadata().is_ok() {
            return Err(failed(&ErrorKind::AlreadyExists.into()));
        }
        check_replaceable(path)?;
        // A link stays one: what it points to is replaced.
        let path = if replace {
            path.canonicalize().unwrap_or_else(|_| path.to_owned())
        } else {
            path.to_owned()
        };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let nanos = now.unwrap_or_default().as_nanos();
        name.push(format!(".{}-{nanos}.new", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = create_private_file(&temporary).map_err(|it| failed(&it))?;
        Ok(Self {
            path,
            temporary,
            file,
            replace,
        })
    }

    /// Writes the text and gives the file its name.
    pub(crate) fn persist(mut self, text: &str) -> Result<(), Failure> {
        let written = self
            .file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_all())
            .and_then(|()| {
                if self.replace {
                    return fs::rename(&self.temporary, &self.path);
                }
                // Unlike a renaming, this fails if somebody made the file meanwhile.
                match fs::hard_link(&self.temporary, &self.path) {
                    // Not every file system has links.
                    Err(error)
                        if error.kind() != ErrorKind::AlreadyExists && !self.path.exists() =>
                    {
                        fs::rename(&self.temporary, &self.path)
                    }
                    linked => linked,
                }
            });
        written.map_err(|error| failure(&self.path, &error))
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        // It is gone if it was renamed.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Refuses what a file cannot be put in the place of: a device or a pipe would be gone for everyone,
/// and that a directory stays one would show after the secret was made.
fn check_replaceable(path: &Path) -> Result<(), Failure> {
    let is_other = path.metadata().is_ok_and(|it| !it.is_file());
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    // `new/` and `new/.` are directories, which need not be there.
    if is_other || !path.as_os_str().as_encoded_bytes().ends_with(name) || name.is_empty() {
        let path = path.display();
        return Err(Failure::refused(format!("{path} is no file")).with_hint("name a file"));
    }
    Ok(())
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    if error.kind() == ErrorKind::AlreadyExists {
        return Failure::refused(format!("{path} is there already"))
            .with_hint("name another file, or replace it with --force");
    }
    Failure::context(
        FailureKind::Refused,
        format_args!("cannot write {path}"),
        error,
    )
}
