use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use hashbrown::HashTable;

use super::error::FileStoreError;
use super::source::Source;
use super::status::{self, FileStatus};
use crate::clock::{Clock, SystemClock};
use crate::digest::TokenDigest;
use crate::store::{ChangeFeed, TokenChange, TokenRecord};

/// The state that the clones of a store share with the thread that watches the file.
pub(super) struct Shared {
    pub(super) source: Source,
    snapshot: ArcSwap<Snapshot>,
    status: Mutex<FileStatus>,
    /// Held while the file is read and put into use, so that older content never replaces newer.
    loading: Mutex<()>,
    pub(super) feed: ChangeFeed,
    /// Ends the thread when the last clone drops it.
    _stop_sender: Sender<()>,
}

impl Shared {
    pub(super) fn new(source: Source, stop_sender: Sender<()>) -> Result<Self, FileStoreError> {
        let snapshot = Snapshot::read(&source, None)?.expect("no snapshot is known");
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

    /// Reads the file, and puts it into use if it has changed.
    pub(super) fn load(&self) -> Result<(), FileStoreError> {
        let guard = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.snapshot.load();
        let read = Snapshot::read(&self.source, Some(&known));
        let snapshot = read.inspect_err(|error| self.set_error(error))?;
        let has_changed = snapshot.is_some();
        let mut status = self.status();
        if let Some(snapshot) = snapshot {
            status.tokens = snapshot.by_digest.len();
            status.loaded_at = SystemClock.now();
            self.snapshot.store(Arc::new(snapshot));
        }
        let (tokens, has_recovered) = (status.tokens, status.error.take().is_some());
        // A subscriber or a listener may call this store.
        drop(status);
        if has_changed || has_recovered {
            status::report_loaded(tokens);
        }
        drop(guard);
        if has_changed {
            self.feed.publish(&TokenChange::Everything);
        }
        Ok(())
    }

    /// Reports an error, unless it is the current one.
    fn set_error(&self, error: &FileStoreError) {
        let mut status = self.status();
        let known = status.error.replace(error.clone());
        let tokens = status.tokens;
        drop(status);
        if !known.is_some_and(|known| known.has_same_message(error)) {
            status::report_failed(error, tokens);
        }
    }

    pub(super) fn find(&self, digest: &TokenDigest) -> Option<TokenRecord> {
        self.snapshot.load().find(digest).cloned()
    }

    pub(super) fn records(&self) -> Vec<TokenRecord> {
        self.snapshot.load().by_digest.iter().cloned().collect()
    }

    pub(super) fn status(&self) -> MutexGuard<'_, FileStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tokens of one version of the file.
struct Snapshot {
    by_digest: HashTable<TokenRecord>,
    /// The digest of the text, to detect changes.
    content: TokenDigest,
}

impl Snapshot {
    /// Reads the file. Returns `None` if its content is that of `known`.
    fn read(source: &Source, known: Option<&Self>) -> Result<Option<Self>, FileStoreError> {
        let read = || {
            let text = source.read()?;
            let content = TokenDigest::of(&text);
            if known.is_some_and(|known| known.content == content) {
                return Ok(None);
            }
            Ok(Some(Self::new(source.parse(&text)?, content)))
        };
        read().map_err(|cause| FileStoreError::new(&source.path, cause))
    }

    /// Creates a snapshot of records with distinct digests.
    fn new(records: Vec<TokenRecord>, content: TokenDigest) -> Self {
        let mut by_digest = HashTable::with_capacity(records.len());
        for record in records {
            let index = record.digest().index();
            by_digest.insert_unique(index, record, |record| record.digest().index());
        }
        Self { by_digest, content }
    }

    /// Looks up a record by eight bytes of the digest, which are uniformly distributed, and then
    /// compares the whole digest in constant time.
    fn find(&self, digest: &TokenDigest) -> Option<&TokenRecord> {
        let is_match = |record: &TokenRecord| record.digest() == digest;
        self.by_digest.find(digest.index(), is_match)
    }
}
