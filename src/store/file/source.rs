use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::codec::{self, Format};
use super::error::{Cause, Location, MAX_BYTES};
use super::token_scan;
use crate::store::TokenRecord;

const MAX_READ_ATTEMPTS: usize = 3;

/// A path and its format. Each access resolves symbolic links again.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) format: Format,
}

/// Metadata by which a change of the file is detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    length: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    inode: (u64, u64),
    #[cfg(unix)]
    changed: (i64, i64),
}

impl Source {
    pub(super) fn new(path: &Path) -> Result<Self, Cause> {
        let format = Format::from_path(path)?;
        let path = path.to_owned();
        Ok(Self { path, format })
    }

    /// Returns `None` if the file is missing or inaccessible.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        fs::metadata(&self.path).ok().as_ref().map(Fingerprint::of)
    }

    /// Reads the file. Returns an error if it changes meanwhile.
    ///
    /// The text is wiped when dropped, because it may contain tokens by mistake.
    pub(super) fn read(&self) -> Result<Zeroizing<String>, Cause> {
        for _ in 0..MAX_READ_ATTEMPTS {
            // Checked first, because opening a pipe waits for a writer.
            check(&fs::metadata(&self.path)?)?;
            let file = File::open(&self.path)?;
            let before = file.metadata()?;
            check(&before)?;
            let room = usize::try_from(before.len()).map_or(0, |length| length + 1);
            let mut bytes = Zeroizing::new(Vec::with_capacity(room));
            (&file).take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
            let after = file.metadata()?;
            let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if content_fingerprint(&before) == content_fingerprint(&after) && read == after.len() {
                let text = String::from_utf8(std::mem::take(&mut *bytes));
                return text.map(Zeroizing::new).map_err(|_| Cause::NotUtf8);
            }
        }
        Err(Cause::Changing)
    }

    pub(super) fn parse(&self, text: &str) -> Result<Vec<TokenRecord>, Cause> {
        if let Some(line) = token_scan::find_token_line(text) {
            let location = Location::line(line);
            return Err(Cause::Token { location });
        }
        codec::records(self.format, text)
    }
}

impl Fingerprint {
    fn of(file: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;

        Self {
            length: file.len(),
            modified: file.modified().ok(),
            #[cfg(unix)]
            inode: (file.dev(), file.ino()),
            #[cfg(unix)]
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// Metadata that changes only if the file is written, not if another file is renamed over it.
fn content_fingerprint(file: &Metadata) -> (u64, Option<SystemTime>) {
    (file.len(), file.modified().ok())
}

fn check(file: &Metadata) -> Result<(), Cause> {
    if !file.is_file() {
        return Err(Cause::NotAFile);
    }
    #[cfg(unix)]
    {
        const OTHERS_WRITE: u32 = 0o022;
        let permissions = file.permissions();
        let mode = std::os::unix::fs::PermissionsExt::mode(&permissions) & 0o7777;
        if mode & OTHERS_WRITE != 0 {
            return Err(Cause::Insecure { mode });
        }
    }
    if file.len() > MAX_BYTES {
        return Err(Cause::TooLarge);
    }
    Ok(())
}
