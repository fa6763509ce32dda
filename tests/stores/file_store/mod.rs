//! `FileStore` and `TokenFile`: the format, invalid files, and changes of the file.
//!
//! 1. [Fields](fields) and their defaults, in both formats.
//! 2. [Invalid files](invalid_files): each error names the location and quotes no content.
//! 3. [Reloading](reloading) a file that is replaced or rewritten.
//! 4. [Logs and metrics](logs_and_metrics).
//! 5. [Corrupted files](corrupted_files): truncated, merged or re-encoded.
//! 6. `TokenFile`, which edits a file.

mod corrupted_files;
mod fields;
mod invalid_files;
mod logs_and_metrics;
mod reloading;
#[cfg(all(feature = "cli", feature = "testing"))]
mod token_file;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tower_service_token::TokenStore;
use tower_service_token::clock::ManualClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::store::file::{FileStore, FileStoreOptions};
use tower_service_token::store::{Cached, Credential, DenialKind, TokenRecord, verdict};
use tower_service_token::token::PresentedToken;

/// A temporary directory of one test, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("file-store-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Creates a file with mode 0600.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        write(&path, text);
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes a file in place, or creates it.
fn write(path: &Path, text: &str) {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Writes another file and renames it over this one, as an editor does.
fn replace(path: &Path, text: &str) {
    let temporary = path.with_extension("new");
    write(&temporary, text);
    fs::rename(temporary, path).unwrap();
}

/// Returns a TOML file with one token. Its digest is on line 2, and `fields` start on line 3.
fn toml_with_token(token: &str, fields: &str) -> String {
    let digest = TokenDigest::of(token);
    let end = if fields.is_empty() { "" } else { "\n" };
    format!("[[tokens]]\ndigest = \"{digest}\"\n{fields}{end}")
}

/// Opens a store that does not poll its file.
fn open_without_polling(path: &Path) -> FileStore {
    let options = FileStoreOptions::new().with_poll_interval(None);
    options.open(path).unwrap()
}

fn store_from_toml(text: &str) -> FileStore {
    let folder = Folder::new();
    open_without_polling(&folder.write("tokens.toml", text))
}

fn find(store: &FileStore, token: &str) -> Option<TokenRecord> {
    let credential = Credential::new(PresentedToken::new(token).unwrap());
    match store.find_cached(&credential) {
        Cached::Found(record) => Some(record),
        Cached::NotFound => None,
        Cached::Miss => panic!("a file store never misses"),
    }
}

fn verdict_for(store: &FileStore, token: &str, now: SystemTime) -> Result<(), DenialKind> {
    let credential = Credential::new(PresentedToken::new(token).unwrap());
    let outcome = verdict(find(store, token), &credential, &ManualClock::new(now));
    outcome.map(drop).map_err(|denial| denial.kind())
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// 2027-01-31T00:00:00Z.
const JANUARY_31: u64 = 1_801_353_600;
const DAY: u64 = 24 * 60 * 60;
