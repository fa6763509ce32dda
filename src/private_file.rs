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
