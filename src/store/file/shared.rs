use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use hashbrown::HashTable;

use super::error::{Cause, FileStoreError};
use super::source::{Fingerprint, Source};
use super::status::{self, FileStatus};
use crate::clock::{Clock, SystemClock};
use crate::digest::TokenDigest;
use crate::store::{ChangeFeed, ChangeListener, TokenChange, TokenRecord};

/// What the clones of a store share with the thread that watches the file.
pub(super) struct Shared {
    source: Source,
    snapshot: ArcSwap<Snapshot>,
    status: Mutex<FileStatus>,
    /// Held from reading the file to using it, so that an older content does not replace a newer.
    loading: Mutex<()>,
    feed: ChangeFeed,
    /// Ends the thread when the last clone drops it.
    _stop_sender: Sender<()>,
}

impl Shared {
    pub(super) fn new(source: Source, stop_sender: Sender<()>) -> Result<Self, FileStoreError> {
        let snapshot = Self::read(&source, None);
        let snapshot = snapshot.map_err(|cause| FileStoreError::new(&source.path, cause))?;
        let snapshot = snapshot.expect("no snapshot is known");
        let status = FileStatus {
            tokens: snapshot.by_digest.len(),
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

    pub(super) fn load(&self) -> Result<(), FileStoreError> {
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
                status::report_failed(&error, known.by_digest.len());
            }
            error
        })?;
        let (tokens, loaded_at) = match &snapshot {
            Some(snapshot) => (snapshot.by_digest.len(), Some(SystemClock.now())),
            None => (known.by_digest.len(), None),
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
    fn read(source: &Source, known: Option<&Snapshot>) -> Result<Option<Snapshot>, Cause> {
        let text = source.read()?;
        let content = TokenDigest::of(&text);
        if known.is_some_and(|known| known.content == content) {
            return Ok(None);
        }
        let records = source.parse(&text)?;
        Ok(Some(Snapshot::new(records, content)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.source.path
    }

    pub(super) fn find(&self, digest: &TokenDigest) -> Option<TokenRecord> {
        self.snapshot.load().find(digest).cloned()
    }

    pub(super) fn records(&self) -> Vec<TokenRecord> {
        self.snapshot.load().by_digest.iter().cloned().collect()
    }

    pub(super) fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.feed.subscribe(listener);
    }

    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        self.source.fingerprint().ok()
    }

    pub(super) fn status(&self) -> MutexGuard<'_, FileStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All tokens of one content of the file.
struct Snapshot {
    by_digest: HashTable<TokenRecord>,
    /// The digest of the text, which shows whether it has changed.
    content: TokenDigest,
}

impl Snapshot {
    /// Creates a snapshot of records with distinct digests.
    fn new(records: Vec<TokenRecord>, content: TokenDigest) -> Self {
        let mut by_digest = HashTable::with_capacity(records.len());
        for record in records {
            let index = record.digest().index();
            by_digest.insert_unique(index, record, |record| record.digest().index());
        }
        Self { by_digest, content }
    }

    /// Looks a record up by eight bytes of the digest, which are uniformly distributed, and then
    /// compares the whole digest in constant time.
    fn find(&self, digest: &TokenDigest) -> Option<&TokenRecord> {
        let is_match = |record: &TokenRecord| record.digest() == digest;
        self.by_digest.find(digest.index(), is_match)
    }
}
