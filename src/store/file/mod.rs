//! Tokens from a file: [`FileStore`].

mod document;
mod entry;
mod error;
mod token_scan;
mod options;
mod snapshot;
mod source;
mod status;
mod watch;

use std::fmt;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use async_trait::async_trait;

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

/// Tokens from a file of digests that people or a deployment write: read-only, and followed as it
/// changes.
///
/// 1. The file is TOML (`*.toml`) or JSON (`*.json`): a list `tokens`, each with a `digest` and
///    whatever else of [the fields below](#the-file) it needs. It holds digests, never tokens; one
///    in which a token stands, be it in a comment, is refused.
/// 2. All or nothing: a file with any mistake in it is not used. Requests see the whole old set or
///    the whole new one.
/// 3. Opening fails if the file cannot be used. Later, a file that is broken, missing or insecure
///    leaves the last good set in use, is [told](FileStatus::error) of, and is used as soon as it
///    is whole again.
/// 4. Requests are answered from memory, without a lock, an allocation or a look at the file,
///    in the same time for one token as for many.
/// 5. Clones share the tokens. The thread that follows the file ends with the last of them.
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
/// | field | what | default |
/// |---|---|---|
/// | `digest` | the [digest](crate::digest) of the whole token: `printf %s "$TOKEN" \| sha256sum` | required |
/// | `id` | the token's [id](crate::token::TokenId) | made from the digest, always the same; tells nothing of it |
/// | `name`, `subject` | texts without control characters | none |
/// | `description` | any text | none |
/// | `roles`, `scopes` | [names](crate::principal::Roles) and [scopes](crate::principal::Scopes), each once | none: nothing is allowed |
/// | `labels` | texts by name | none |
/// | `expires_at` | RFC 3339, or a date: through the end of that day, UTC | never |
/// | `not_before` | RFC 3339, or a date: from the start of that day, UTC | always |
/// | `state` | `active`, `disabled` or `revoked` | `active` |
///
/// Anything else is an error, as are an id or a digest that stands there twice, an empty role, and
/// a file without `tokens`, which a half-written one may be; `tokens = []` is the way to have none.
/// At most 256 MiB.
///
/// # Following the file
///
/// Every [second](FileStoreOptions::with_poll_interval) the file is looked at, through all symbolic
/// links, so it makes no difference whether it is renamed over, rewritten in place, or switched
/// by a link as Kubernetes does with `..data`. A change is in use within two intervals of the last
/// write, within three if it is replaced all the time; [`reload`](Self::reload) does not wait.
/// Caches that [subscribed](TokenStore::subscribe) are emptied.
///
/// **Write another file and rename it over this one.** A file rewritten in place is read once it
/// has been still for an interval; should the writer die between two entries of a TOML file, the
/// first half of it is a whole file by all that can be seen. JSON shows where it ends.
///
/// # Who may write it
///
/// Who can write the file can let anyone in. On Unix it is refused if its group or others may
/// write to it; where `umask` gives that, run `chmod go-w`. Reading is no matter: digests let
/// nobody in, and Kubernetes mounts with mode 0644. Its owner and its directory are not checked:
/// keep other users from both.
///
/// # What is reported
///
/// With the feature `tracing`, each new failure is an event at level `ERROR`, target
/// `tower_service_token`, fields `error`, `source` and `tokens`; each new set and each recovery
/// one at level `INFO`. With `metrics` both count in `service_token_file_reloads_total`, by
/// `outcome` (`loaded` or `failed`). A failure that lasts is told once.
#[derive(Clone)]
pub struct FileStore(Arc<Shared>);

struct Shared {
    source: Source,
    snapshot: ArcSwap<Snapshot>,
    status: Mutex<FileStatus>,
    /// Held from reading the file to using it, so that what was read first is not used last.
    loading: Mutex<()>,
    feed: ChangeFeed,
    /// Dropped with the last clone, which ends the thread.
    _stop_sender: Sender<()>,
}

impl FileStore {
    /// Reads the file and follows it from now on, as by the default [options](FileStoreOptions).
    ///
    /// Blocks while it reads: call it at start.
    ///
    /// # Errors
    ///
    /// The file cannot be used, or no thread could be started.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileStoreError> {
        FileStoreOptions::new().open(path)
    }

    /// Reads the file at once and uses it, if it is not in use already. Blocks while it reads.
    ///
    /// # Errors
    ///
    /// The file cannot be used; the last good set stays in use.
    pub fn reload(&self) -> Result<(), FileStoreError> {
        self.0.load()
    }

    /// How many tokens are in use, since when, and what is wrong with the file, if anything.
    pub fn status(&self) -> FileStatus {
        self.0.status().clone()
    }

    /// Why the file as it is now is not in use; `None` if it is.
    pub fn last_error(&self) -> Option<FileStoreError> {
        self.0.status().error.clone()
    }

    /// The path that is followed, as it was given.
    pub fn path(&self) -> &Path {
        &self.0.source.path
    }

    /// The tokens in use, in no order: for a tool that shows them.
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
        let snapshot = snapshot.expect("there is none to be the same");
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
        // Only now: a listener may ask this store whatever it likes.
        if has_changed {
            self.feed.publish(&TokenChange::Everything);
        }
        Ok(())
    }

    /// Says whether the tokens are others than before.
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

    /// What the file holds now; `None` if that is what is `known`.
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
