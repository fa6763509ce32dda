//! Files that only their owner can read.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Creates a file for writing that only its owner can read, whatever the umask.
///
/// # Errors
///
/// Returns an error if the file exists or cannot be created.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    open_private_file(OpenOptions::new().create_new(true), path)
}

/// Opens a file for writing, and creates it with mode 0600 if the options say so.
///
/// # Errors
///
/// Returns an error if the file cannot be opened or created.
pub fn open_private_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.write(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creates_a_file_for_its_owner_and_replaces_none() {
        let name = format!("svctok-private-file-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let created = create_private_file(&path).and_then(|file| file.metadata());
        let again = create_private_file(&path);
        std::fs::remove_file(&path).expect("the file was created");
        let created = created.expect("a temporary directory is writable");
        #[cfg(unix)]
        {
            let permissions = created.permissions();
            let mode = std::os::unix::fs::PermissionsExt::mode(&permissions);
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(created.is_file());
        let error = again.expect_err("the file exists");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
