//! Tokens from a file: [`FileStore`].

mod codec;
#[cfg(feature = "cli")]
mod edit;
mod error;
mod fields;
mod options;
mod snapshot;
mod source;
mod status;
mod token_scan;
mod watch;

use std::fmt;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use async_trait::async_trait;

#[cfg(feature = "cli")]
pub use self::edit::{TokenFile, TokenFileError};
pub use self::error::{FileStoreError, FileStoreErrorKind};
pub use self::options::FileStoreOptions;
use self::snapshot::Snapshot;
use self::source::{Fingerprint, Source};
pub use self::status::FileStatus;
use super::{
    Cached, ChangeFeed, ChangeListener, Credential, StoreError, TokenChange, TokenRecord,
    TokenStore,
};
use crate::clock::{Clock, SystemClock};
use crate::digest::TokenDigest;

/// A read-only store of the token digests in a file, which is reloaded when it changes.
///
/// 1. The file is TOML (`*.toml`) or JSON (`*.json`). Its array `tokens` has an entry per token,
///    with a `digest` and other [fields](#the-file). It holds digests, never tokens: a file that
///    contains a token, even in a comment, is refused.
/// 2. A file with an error is not used at all. Requests see all of the old tokens or all of the new
///    ones.
/// 3. Opening a file that cannot be used is an error. If a file that is in use becomes invalid,
///    missing or insecure, its last valid tokens stay in use, [`FileStatus::error`] reports the
///    cause, and the file is used again once it is valid.
/// 4. A lookup reads memory. It takes no lock, allocates nothing, does not access the file, and
///    takes the same time for one token and for many.
/// 5. Clones share the tokens. The thread that watches the file ends with the last clone.
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
/// | `name`, `subject` | strings without control characters | none |
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
/// Whoever can write the file can grant access. On Unix, the store refuses a file that its group or
/// others can write; if `umask` causes that, run `chmod go-w`. Others may read the file, because a
/// digest grants nothing and Kubernetes mounts with mode 0644. The owner and the directory are not
/// checked: let no other users write there.
///
/// # Logs and metrics
///
/// With the feature `tracing`, each new failure is logged at level `ERROR` with the fields `error`,
/// `source` and `tokens`, and each new set of tokens and each recovery at level `INFO`. The target
/// is `tower_service_token`. With `metrics`, `service_token_file_reloads_total` counts both by
/// `outcome` (`loaded` or `failed`). A failure that lasts is reported once.
#[derive(Clone)]
pub struct FileStore(Arc<Shared>);

struct Shared {
    source: Source,
    snapshot: ArcSwap<Snapshot>,
    status: Mutex<FileStatus>,
    /// Held from reading the file to using it, so that an older content does not replace a newer.
    loading: Mutex<()>,
    feed: ChangeFeed,
    /// Ends the thread when the last clone drops it.
    _stop_sender: Sender<()>,
}

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
        self.0.snapshot.load().records().cloned().collect()
    }

    fn find_record(&self, credential: &Credential<'_>) -> Option<TokenRecord> {
        let snapshot = self.0.snapshot.load();
        snapshot.find(credential.digest()).cloned()
    }
}

impl Shared {
    fn new(source: Source, stop_sender: Sender<()>) -> Result<Self, FileStoreError> {
        let snapshot = Self::read(&source, None);
        let snapshot = snapshot.map_err(|cause| FileStoreError::new(&source.path, cause))?;
        let snapshot = snapshot.expect("no snapshot is known");
        let status = FileStatus {
            tokens: snapshot.len(),
            loaded_at: SystemClock.now(),
            error: None,
        };
        Ok(Self {
            source,
            snapshot: ArcSwap::from_pointee(snapshot),
            status: Mutex::new(status),
            loading: Mutex::default(),
            feed: ChangeFeed::default(),
            _stop_sender: stop_sender,
        })
    }

    fn load(&self) -> Result<(), FileStoreError> {
        let has_changed = self.load_locked()?;
        // Published without the lock, because a listener may call this store.
        if has_changed {
            self.feed.publish(&TokenChange::Everything);
        }
        Ok(())
    }

    /// Returns whether the tokens have changed.
    fn load_locked(&self) -> Result<bool, FileStoreError> {
        let _guard = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.snapshot.load();
        let snapshot = Self::read(&self.source, Some(&known)).map_err(|cause| {
            let error = FileStoreError::new(&self.source.path, cause);
            let should_report = self.status().failed(&error);
            if should_report {
                status::report_failed(&error, known.len());
            }
            error
        })?;
        let (tokens, loaded_at) = match &snapshot {
            Some(snapshot) => (snapshot.len(), Some(SystemClock.now())),
            None => (known.len(), None),
        };
        let has_changed = snapshot.is_some();
        if let Some(snapshot) = snapshot {
            self.snapshot.store(Arc::new(snapshot));
        }
        let should_report = self.status().loaded(tokens, loaded_at);
        if should_report {
            status::report_loaded(tokens);
        }
        Ok(has_changed)
    }

    /// Reads the file. Returns `None` if its content is that of `known`.
    fn read(source: &Source, known: Option<&Snapshot>) -> Result<Option<Snapshot>, error::Cause> {
        let text = source.read()?;
        let content = TokenDigest::of(&text);
        if known.is_some_and(|known| known.has_content(&content)) {
            return Ok(None);
        }
        let records = source.parse(&text)?;
        Ok(Some(Snapshot::new(records, content)))
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        self.source.fingerprint().ok()
    }

    fn status(&self) -> MutexGuard<'_, FileStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TokenStore for FileStore {
    fn find_cached(&self, credential: &Credential<'_>) -> Cached {
        let found = self.find_record(credential);
        found.map_or(Cached::NotFound, Cached::Found)
    }

    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        Ok(self.find_record(credential))
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
