use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;

use super::error::{Cause, FileStoreError};
use super::shared::Shared;
use super::source::Source;
use super::status::FileStatus;
use super::watch;
use crate::digest::TokenDigest;
use crate::store::{Cached, ChangeListener, Credential, StoreError, TokenRecord, TokenStore};
use crate::token::TokenId;

const MIN_POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A read-only store of the token digests in a file, which is reloaded when it changes.
///
/// 1. The file is TOML (`*.toml`) or JSON (`*.json`). Its array `tokens` has an entry per token,
///    with a `digest` and other [fields](#the-file). It holds digests, never tokens: a file that
///    contains a token, even in a comment, is rejected.
/// 2. A file with an error is not used at all. A request sees either the old or the new tokens.
/// 3. Opening a file that cannot be used is an error. If a file that is in use becomes invalid,
///    missing or insecure, its last valid tokens stay in use, [`FileStatus::error`] reports the
///    cause, and the file is used again once it is valid.
/// 4. A lookup reads memory. It takes no lock, allocates nothing, does not access the file, and
///    takes the same time for one token and for many.
/// 5. Clones share the tokens. The thread that watches the file ends when the last clone is dropped.
///
/// ```
/// use tower_service_token::ServiceTokenLayer;
/// use tower_service_token::store::file::FileStore;
///
/// # let directory = std::env::temp_dir().join(format!("tokens-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("tokens.toml");
/// std::fs::write(&path, r#"
///     [[tokens]]
///     name = "ci"
///     digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
///     roles = ["deployer"]
///     expires_at = "2027-01-31"
/// "#)?;
/// # #[cfg(unix)]
/// # std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
/// let store = FileStore::open(&path)?;
/// assert_eq!(store.status().tokens(), 1);
/// let layer = ServiceTokenLayer::new(store);
/// # std::fs::remove_dir_all(directory)?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// # The file
///
/// ```toml
/// [[tokens]]
/// name = "ci"
/// digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
/// id = "7Hq2mX9bTe"
/// roles = ["deployer"]
/// scopes = ["projects:write"]
/// subject = "team-a"
/// description = "nightly build"
/// labels = { workspace = "w1" }
/// expires_at = "2027-01-31"
/// not_before = "2026-01-01T00:00:00Z"
/// state = "active"
/// ```
///
/// JSON has the same names: `{"tokens": [{"name": "ci", "digest": "sha256:…"}]}`.
///
/// | field | value | default |
/// |---|---|---|
/// | `digest` | the [digest](crate::digest) of the whole token: `printf %s "$TOKEN" \| sha256sum` | required |
/// | `id` | the [id](crate::token::TokenId) of the token | derived from the digest; does not reveal it |
/// | `name`, `subject`, `owner` | strings without control characters | none |
/// | `description` | a string | none |
/// | `roles`, `scopes` | [roles](crate::principal::Roles) and [scopes](crate::principal::Scopes), each once | none: nothing is allowed |
/// | `labels` | strings by name | none |
/// | `expires_at` | RFC 3339, or a date: through the end of that day, UTC | never |
/// | `not_before` | RFC 3339, or a date: from the start of that day, UTC | always |
/// | `state` | `active`, `disabled` or `revoked` | `active` |
///
/// Anything else is an error, including a repeated id or digest, an empty role, and a file without
/// `tokens`, which may be incomplete. An empty list is `tokens = []`. The maximum size is 256 MiB.
///
/// # Changes of the file
///
/// The store checks the file every [second](FileStoreOptions::with_poll_interval). It follows
/// symbolic links each time, so that the file may be replaced, rewritten, or switched by a link, as
/// Kubernetes does with `..data`. A change takes effect within two intervals after the last write,
/// and within three if the file is replaced continually. [`reload`](Self::reload) does not wait.
/// Caches that [subscribed](TokenStore::subscribe) are cleared.
///
/// **Write another file and rename it to this one.** The store reads a rewritten file once it has
/// not changed for an interval. If the writer dies between two entries, the first part of a TOML
/// file is a valid file; JSON ends with a bracket.
///
/// # Permissions
///
/// Anyone who can write to the file can grant access. On Unix, the store rejects a file that its group or
/// others can write to; if `umask` causes that, run `chmod go-w`. Others may read the file, because a
/// digest grants nothing and Kubernetes mounts files with mode 0644. The owner and the directory are
/// not checked: make sure that no other user can write to the directory.
///
/// # Logs and metrics
///
/// With the feature `tracing`, each new failure is logged at level `ERROR` with the fields `error`,
/// `source` and `tokens`, and each new set of tokens and each recovery at level `INFO`. The target
/// is `tower_service_token`. With `metrics`, `service_token_file_reloads_total` counts both by
/// `outcome` (`loaded` or `failed`). A lasting failure is reported once.
#[derive(Clone)]
pub struct FileStore(pub(super) Arc<Shared>);

impl FileStore {
    /// Opens and watches a file with the default [options](FileStoreOptions).
    ///
    /// Blocks while it reads the file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be used or no thread can be started.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileStoreError> {
        FileStoreOptions::new().open(path)
    }

    /// Reads the file now. Blocks meanwhile.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be used. The last valid tokens stay in use.
    pub fn reload(&self) -> Result<(), FileStoreError> {
        self.0.load()
    }

    /// Returns the number of tokens in use, when they were read, and the error of the file, if any.
    pub fn status(&self) -> FileStatus {
        self.0.status().clone()
    }

    /// Returns why the current file is not in use, or `None` if it is.
    pub fn last_error(&self) -> Option<FileStoreError> {
        self.0.status().error.clone()
    }

    /// Returns the path of the file, as it was given.
    pub fn path(&self) -> &Path {
        &self.0.source.path
    }

    /// Returns the tokens in use, in no particular order.
    /// [`ListRequest::select`](crate::registry::ListRequest::select) filters and sorts them.
    pub fn records(&self) -> Vec<TokenRecord> {
        self.0.records()
    }
}

#[async_trait]
impl TokenStore for FileStore {
    fn find_cached(&self, credential: &Credential<'_>) -> Cached {
        let found = self.0.find(credential.digest());
        found.map_or(Cached::NotFound, Cached::Found)
    }

    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        Ok(self.0.find(credential.digest()))
    }

    async fn find_again(
        &self,
        _: TokenId,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        Ok(self.0.find(digest))
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.0.feed.subscribe(listener);
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore")
            .field("path", &self.0.source.path)
            .field("status", &self.status())
            .finish()
    }
}

/// Options of a [`FileStore`].
///
/// ```no_run
/// use std::time::Duration;
/// use tower_service_token::store::file::FileStoreOptions;
///
/// let options = FileStoreOptions::new().with_poll_interval(Duration::from_secs(10));
/// let store = options.open("/etc/my-service/tokens.toml")?;
/// # Ok::<_, tower_service_token::store::file::FileStoreError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FileStoreOptions {
    poll_interval: Option<Duration>,
}

impl FileStoreOptions {
    /// Creates the default options.
    pub fn new() -> Self {
        Self {
            poll_interval: Some(Duration::from_secs(1)),
        }
    }

    /// Sets how often the file is checked. A revocation takes effect within two intervals, and
    /// within three at worst. The minimum is 1 ms and the default is 1 s.
    ///
    /// With `None`, no thread is started and only [`FileStore::reload`] reads the file.
    pub fn with_poll_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        let interval = interval.into();
        self.poll_interval = interval.map(|interval| interval.max(MIN_POLL_INTERVAL));
        self
    }

    /// Opens and watches a file. Blocks while it reads the file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be used or no thread can be started.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<FileStore, FileStoreError> {
        self.open_with_thread(path.as_ref()).map(|(store, _)| store)
    }

    /// Returns the store and the thread that watches its file.
    fn open_with_thread(
        &self,
        path: &Path,
    ) -> Result<(FileStore, Option<JoinHandle<()>>), FileStoreError> {
        let failed = |cause| FileStoreError::new(path, cause);
        let source = Source::new(path).map_err(failed)?;
        let (stop_sender, stop) = channel();
        let shared = Arc::new(Shared::new(source, stop_sender)?);
        let start = |interval| watch::start(Arc::downgrade(&shared), interval, stop);
        let thread = self.poll_interval.map(start).transpose();
        let thread = thread.map_err(|error| failed(Cause::Thread(Arc::new(error))))?;
        Ok((FileStore(shared), thread))
    }
}

impl Default for FileStoreOptions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    #[test]
    fn polling_thread_stops_with_last_clone() {
        let name = format!("options-test-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, "tokens = []").expect("a file");
        #[cfg(unix)]
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("a mode");
        // Longer than any test runs, so that the thread ends while it waits.
        let options = FileStoreOptions::new().with_poll_interval(Duration::from_secs(86_400));
        let opened = options.open_with_thread(&path);
        fs::remove_file(&path).expect("the file");
        let (store, thread) = opened.expect("a valid file");
        let thread = thread.expect("a polling thread");
        let clone = store.clone();
        drop(store);
        thread::sleep(Duration::from_millis(20));
        assert!(!thread.is_finished(), "a clone is left");
        drop(clone);
        thread.join().expect("no panic");
    }
}
