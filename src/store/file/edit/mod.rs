//! A token file that both this crate and people edit.

mod atomic_writer;
mod document;
mod text_edits;

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use zeroize::Zeroizing;

use self::atomic_writer::AtomicWriter;
use self::document::Document;
use super::codec::{Fields, Format};
use super::error::{Cause, FileStoreError, MAX_BYTES};
use super::source::Source;
use super::token_file_error::TokenFileError;
use crate::digest::TokenDigest;
use crate::registry::{ListRequest, RegistryError, TokenPage, TokenRegistry, Write, name_key};
use crate::store::{
    ChangeFeed, ChangeListener, Credential, StoreError, TokenChange, TokenRecord, TokenState,
    TokenStore,
};
use crate::token::TokenId;

const MAX_ATTEMPTS: usize = 100;

/// A registry of the tokens in a TOML file that a [`FileStore`](super::FileStore) reads.
///
/// 1. A change preserves all other bytes: comments, order and layout.
/// 2. Writers take turns. A writer parses the new text as the store would, and then renames a new
///    file with the same mode and owner over the old one, so that a crash leaves the old or the new
///    text.
/// 3. An invalid file is never changed.
/// 4. The format cannot store the times of creation, change, rotation and use, the creator, the
///    hint and the previous secret. A rotation with a grace period is an error.
/// 5. The revision is derived from the fields of the token: equal fields have equal revisions.
/// 6. A unique name is compared with the names of all unrevoked tokens, because the file does not
///    store which names are unique.
///
/// Each method reads the file and blocks meanwhile. `svctok` uses it to edit a file directly.
#[derive(Clone, Debug)]
pub struct TokenFile {
    source: Source,
    feed: ChangeFeed,
}

/// The content of a file.
#[derive(Default)]
struct Content {
    text: Zeroizing<String>,
    records: Vec<TokenRecord>,
    /// `None` if the file does not exist.
    metadata: Option<Metadata>,
}

/// How a write changes the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Insert,
    Update,
    Delete,
}

impl TokenFile {
    /// Checks that the file can be read. A missing TOML file is created by the first insertion.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be used.
    pub fn open(path: &Path) -> Result<Self, FileStoreError> {
        let source = Source::new(path).map_err(|cause| FileStoreError::new(path, cause))?;
        let feed = ChangeFeed::default();
        let file = Self { source, feed };
        if !file.can_be_created() {
            file.read()?;
        }
        Ok(file)
    }

    fn can_be_created(&self) -> bool {
        let metadata = self.source.path.symlink_metadata();
        self.source.format == Format::Toml
            && metadata.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    fn read(&self) -> Result<Content, FileStoreError> {
        let read = || {
            let text = self.source.read()?;
            let mut records = self.source.parse(&text)?;
            for record in &mut records {
                let fields = Fields::of(record).expect("the record was read from a file");
                *record = record.clone().with_revision(fields.revision());
            }
            Ok(Content {
                text,
                records,
                metadata: Some(fs::metadata(&self.source.path)?),
            })
        };
        read().map_err(|cause| FileStoreError::new(&self.source.path, cause))
    }

    fn find_record(
        &self,
        is_match: impl Fn(&TokenRecord) -> bool,
    ) -> Result<Option<TokenRecord>, StoreError> {
        let content = self.read().map_err(TokenFileError::from)?;
        Ok(content.records.into_iter().find(is_match))
    }

    /// Makes the write and returns the stored record.
    fn change(&self, operation: Operation, write: &Write) -> Result<TokenRecord, RegistryError> {
        let path = &self.source.path;
        if self.source.format == Format::Json {
            return Err(TokenFileError::Json(path.clone()).into());
        }
        let after = match operation {
            Operation::Delete => None,
            _ => Some(self.stored(write.record())?),
        };
        let after = after.as_ref();
        let writer = AtomicWriter::lock(path)?;
        for _ in 0..MAX_ATTEMPTS {
            let content = if operation == Operation::Insert && self.can_be_created() {
                Content::default()
            } else {
                self.read().map_err(TokenFileError::from)?
            };
            let before = content.check(operation, write)?;
            let text = edit(path, &content.text, before, after)?;
            self.check_edited(&text, &content, write.record().id(), after)?;
            // Programs other than this crate change the file without the lock.
            let is_unchanged = || self.is_unchanged(&content);
            if writer.replace(&text, content.metadata.as_ref(), is_unchanged)? {
                self.feed.publish(&TokenChange::between(before, after));
                return Ok(after.or(before).expect("a write has a record").clone());
            }
        }
        Err(TokenFileError::Busy(path.clone()).into())
    }

    /// Returns the record as the file will store it, or an error if the format cannot store it.
    fn stored(&self, record: &TokenRecord) -> Result<TokenRecord, TokenFileError> {
        let fields = Fields::of(record)?;
        let text = format!("[[tokens]]\n{}\n", fields.join("\n"));
        let mut records = self.parse(&text)?;
        let stored = records.pop().ok_or(TokenFileError::UnexpectedContent)?;
        Ok(stored.with_revision(fields.revision()))
    }

    /// Checks that an edited text is valid and differs from the content in one token only.
    fn check_edited(
        &self,
        text: &str,
        content: &Content,
        id: TokenId,
        after: Option<&TokenRecord>,
    ) -> Result<(), TokenFileError> {
        let edited = self.parse(text)?;
        let others = content.records.iter().filter(|it| it.id() != id);
        let mut expected = contents(others.chain(after))?;
        let mut edited = contents(edited.iter())?;
        expected.sort_unstable();
        edited.sort_unstable();
        let is_expected = edited == expected;
        is_expected
            .then_some(())
            .ok_or(TokenFileError::UnexpectedContent)
    }

    /// Parses a text before it is written.
    fn parse(&self, text: &str) -> Result<Vec<TokenRecord>, TokenFileError> {
        let parsed = match u64::try_from(text.len()) {
            Ok(..=MAX_BYTES) => self.source.parse(text),
            _ => Err(Cause::TooLarge),
        };
        parsed.map_err(|cause| TokenFileError::UnsupportedValue(cause.to_string()))
    }

    fn is_unchanged(&self, content: &Content) -> bool {
        match fs::read_to_string(&self.source.path) {
            Ok(text) => content.metadata.is_some() && text == *content.text,
            Err(error) => content.metadata.is_none() && error.kind() == ErrorKind::NotFound,
        }
    }
}

impl Content {
    /// Checks the limits of a write, and returns the record that it replaces or deletes.
    fn check(
        &self,
        operation: Operation,
        write: &Write,
    ) -> Result<Option<&TokenRecord>, RegistryError> {
        let record = write.record();
        let find = |id| self.records.iter().find(|it| it.id() == id);
        let before = if operation == Operation::Insert {
            let has_number = |number| self.records.iter().any(|it| it.id().number() == number);
            write.check_insert(find, has_number)?;
            None
        } else {
            Some(write.check_change(find, &self.records)?)
        };
        if operation == Operation::Delete {
            return Ok(before);
        }
        let others = || self.records.iter().filter(|it| it.id() != record.id());
        let valid = || others().filter(|it| it.state() != TokenState::Revoked);
        if let Some(name) = write.reserved_name()
            && valid().any(|it| name_key(it) == name)
        {
            return Err(RegistryError::NameTaken);
        }
        if others().any(|it| it.digest() == record.digest()) {
            return Err(RegistryError::DuplicateDigest);
        }
        let count_owned = || valid().filter(|it| it.owner() == record.owner()).count();
        let is_full = |max: Option<u64>, count: usize| max.is_some_and(|max| count as u64 >= max);
        if operation == Operation::Insert
            && (is_full(write.max_tokens(), valid().count())
                || is_full(write.max_tokens_of_owner(), count_owned()))
        {
            return Err(RegistryError::TooManyTokens);
        }
        Ok(before)
    }
}

/// Returns the text with one token inserted, replaced or removed.
fn edit(
    path: &Path,
    text: &str,
    before: Option<&TokenRecord>,
    after: Option<&TokenRecord>,
) -> Result<String, TokenFileError> {
    let document = Document::parse(path, text)?;
    match (before, after) {
        (Some(before), Some(after)) => document.update(before, after),
        (Some(before), None) => Ok(document.remove(before)),
        (None, Some(after)) => Ok(document.insert(&Fields::of(after)?)),
        (None, None) => Ok(text.to_owned()),
    }
}

fn contents<'r>(
    records: impl Iterator<Item = &'r TokenRecord>,
) -> Result<Vec<String>, TokenFileError> {
    records.map(|it| Ok(Fields::of(it)?.join("\n"))).collect()
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
        self.change(Operation::Insert, write).map(drop)
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
        let content = self.read().map_err(TokenFileError::from)?;
        Ok(request.select(&content.records))
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        self.change(Operation::Update, write)
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        self.change(Operation::Delete, write).map(drop)
    }

    /// Does nothing: the format cannot store the time of the last use.
    async fn touch(&self, _: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        Ok(())
    }

    /// Returns the bound of a [`FileStore`](super::FileStore) with the default options.
    fn effective_within(&self) -> Duration {
        Duration::from_secs(3)
    }
}
