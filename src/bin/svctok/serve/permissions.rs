//! Warnings about files that other users can write or read.

use std::path::{Path, PathBuf};

/// Warns if other users can write the database, and so mint tokens, or replace it in its folder.
pub(super) fn warn_about_database(path: &Path) {
    let Ok(path) = path.canonicalize() else {
        return;
    };
    for file in [path.clone(), sibling(&path, "-wal"), sibling(&path, "-shm")] {
        warn_if(
            &file,
            is_writable,
            "other users can write the token database",
        );
    }
    if let Some(folder) = path.parent() {
        let warning = "other users can replace the token database: its folder is writable";
        warn_if(folder, is_replaceable, warning);
    }
}

/// Warns if other users can access a file with a secret, such as `TLS key`.
pub(super) fn warn_about_secret(path: &Path, name: &str) {
    let warning = format!("other users can read or write the {name}");
    warn_if(path, is_accessible, &warning);
}

fn sibling(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn is_writable(mode: u32) -> bool {
    mode & 0o022 != 0
}

/// The sticky bit prevents other users from removing or renaming files.
fn is_replaceable(mode: u32) -> bool {
    is_writable(mode) && mode & 0o1000 == 0
}

fn is_accessible(mode: u32) -> bool {
    mode & 0o077 != 0
}

#[cfg(unix)]
fn warn_if(path: &Path, is_bad: fn(u32) -> bool, warning: &str) {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    // A missing file needs no warning.
    let Ok(file) = fs::metadata(path) else {
        return;
    };
    let mode = file.permissions().mode() & 0o7777;
    if is_bad(mode) {
        tracing::warn!(path = %path.display(), mode = format_args!("{mode:04o}"), "{warning}");
    }
}

#[cfg(not(unix))]
fn warn_if(_: &Path, _: fn(u32) -> bool, _: &str) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies_modes() {
        for (mode, writable, replaceable, accessible) in [
            (0o600, false, false, false),
            (0o644, false, false, true),
            (0o640, false, false, true),
            (0o660, true, true, true),
            (0o602, true, true, true),
            (0o1777, true, false, true),
            (0o755, false, false, true),
        ] {
            let found = (is_writable(mode), is_replaceable(mode), is_accessible(mode));
            assert_eq!(found, (writable, replaceable, accessible), "{mode:o}");
        }
    }
}
