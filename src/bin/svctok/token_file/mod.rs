//! A token file that is written by this tool, and by people.

mod content;
mod document;
mod entry;
mod error;
mod array;
mod literal;
mod atomic_writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tower_service_token::TokenStore;
use tower_service_token::digest::TokenDigest;
use tower_service_token::registry::{ListRequest, RegistryError, TokenPage, TokenRegistry, Write};
use tower_service_token::store::file::FileStoreError;
use tower_service_token::store::{
    ChangeFeed, ChangeListener, Credential, StoreError, TokenChange, TokenRecord,
};
use tower_service_token::token::TokenId;

use self::atomic_writer::AtomicWriter;
use self::content::Content;
use self::document::Document;
pub(crate) use self::error::TokenFileError;
use self::literal::as_stored;

/// How often a change begins anew because somebody else wrote the file meanwhile.
const MAX_ATTEMPTS: usize = 100;

/// The tokens of a file that a [`FileStore`](tower_service_token::store::file::FileStore) reads, to be
/// changed.
///
/// 1. What a change is not about stays as it is, byte for byte: comments, order and layout.
/// 2. One writer at a time. The file is replaced by another of its name, with the same mode and
///    owner, once the crate's own reader has read that: a crash leaves the old text or the new.
/// 3. A file with a mistake in it is told by its line, and left alone.
/// 4. Kept of a token is what the format has: no time of its creation, change, rotation or use, no
///    creator, no hint. A secret from before a rotation cannot be kept either, so a grace is
///    refused.
/// 5. A revision is made from what the file says of the token: another one comes with each change,
///    and the same comes back with the same content.
/// 6. The names of all tokens are compared that are not revoked: it is not told which were written
///    to be the only ones.
///
/// Each call reads the file, and blocks while it does.
#[derive(Clone, Debug)]
pub(crate) struct TokenFile {
    path: PathBuf,
    feed: ChangeFeed,
}

impl TokenFile {
    /// Looks whether the file can be read. One that is not there is made by the first insertion.
    pub(crate) fn open(path: &Path) -> Result<Self, FileStoreError> {
        if !content::can_be_created(path) {
            content::open_without_polling(path)?;
        }
        Ok(Self {
            path: path.to_owned(),
            feed: ChangeFeed::default(),
        })
    }

    fn records(&self) -> Result<Vec<TokenRecord>, StoreError> {
        Ok(content::records(&self.path)?)
    }

    fn find_record(
        &self,
        is_it: impl Fn(&TokenRecord) -> bool,
    ) -> Result<Option<TokenRecord>, StoreError> {
        Ok(self.records()?.into_iter().find(is_it))
    }

    /// Reads the file, and replaces it by what `edit` makes of it: a document in which one token
    /// has become another, which is returned.
    fn change(
        &self,
        read: fn(&Path) -> Result<Content, TokenFileError>,
        edit: impl Fn(&Content, &mut Document) -> Result<Change, RegistryError>,
    ) -> Result<Option<TokenRecord>, RegistryError> {
        if self.path.extension().is_some_and(|it| it == "json") {
            return Err(TokenFileError::Json(self.path.clone()).into());
        }
        let writer = AtomicWriter::new(&self.path)?;
        let lock = writer.lock()?;
        for _ in 0..MAX_ATTEMPTS {
            let content = read(&self.path)?;
            let mut document = Document::parse(&self.path, &content.text)?;
            let change = edit(&content, &mut document)?;
            let temporary =
                writer.write_temporary(&document.to_text(), content.file.as_ref(), &lock)?;
            content.check_only_change(temporary.path(), change.id, change.after.as_ref())?;
            // People write it too, and do not ask for a lock.
            if content.is_unchanged(&writer.target) {
                temporary.persist()?;
                let (before, after) = (change.before.as_ref(), change.after.as_ref());
                self.feed.publish(&TokenChange::between(before, after));
                return Ok(change.after);
            }
        }
        Err(TokenFileError::Busy(self.path.clone()).into())
    }
}

/// What a token was, and what it is to be.
struct Change {
    id: TokenId,
    before: Option<TokenRecord>,
    after: Option<TokenRecord>,
}

#[async_trait]
impl TokenStore for TokenFile {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.find_record(|it| it.digest() == credential.digest())
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.feed.subscribe(listener);
    }
}

#[async_trait]
impl TokenRegistry for TokenFile {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        let after = as_stored(write.record())?;
        self.change(Content::read_or_empty, |content, document| {
            content.authorize(write, None)?;
            content.check_insert(write)?;
            document.insert(&after)?;
            Ok(Change {
                id: after.id(),
                before: None,
                after: Some(after.clone()),
            })
        })?;
        Ok(())
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        self.find_record(|it| it.id() == id)
    }

    async fn find_by_digest(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.find_record(|it| it.digest() == digest)
    }

    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        Ok(request.select(&self.records()?))
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        let after = as_stored(write.record())?;
        let stored = self.change(Content::read, |content, document| {
            let before = content.record_to_change(write.record())?;
            content.authorize(write, Some(before))?;
            content.check_unique(write)?;
            document.update(before, &after)?;
            Ok(Change {
                id: after.id(),
                before: Some(before.clone()),
                after: Some(after.clone()),
            })
        })?;
        Ok(stored.unwrap_or(after))
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        self.change(Content::read, |content, document| {
            let before = content.record_to_change(write.record())?;
            content.authorize(write, Some(before))?;
            document.remove(before);
            Ok(Change {
                id: before.id(),
                before: Some(before.clone()),
                after: None,
            })
        })?;
        Ok(())
    }

    /// The file has no place for it.
    async fn touch(&self, _: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        Ok(())
    }

    /// As a [`FileStore`](tower_service_token::store::file::FileStore) follows the file by default.
    fn effective_within(&self) -> Duration {
        Duration::from_secs(3)
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;
