use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::path::Path;

use tower_service_token::registry::{RegistryError, Write};
use tower_service_token::store::file::{FileStore, FileStoreError, FileStoreOptions};
use tower_service_token::store::{TokenRecord, TokenState};
use tower_service_token::token::TokenId;

use super::error::TokenFileError;
use super::literal::as_stored;

/// How often the file is read anew because it changed meanwhile.
const MAX_ATTEMPTS: usize = 3;

/// What a token file says at some moment.
#[derive(Default)]
pub(super) struct Content {
    pub(super) text: String,
    records: Vec<TokenRecord>,
    /// Of the file, if there is one.
    pub(super) file: Option<Metadata>,
}

impl Content {
    /// The text, and what the crate's own reader makes of it.
    pub(super) fn read(path: &Path) -> Result<Self, TokenFileError> {
        for _ in 0..MAX_ATTEMPTS {
            let text = fs::read_to_string(path);
            let records = records(path)?;
            if let (Ok(text), Ok(file)) = (text, fs::metadata(path))
                && fs::read_to_string(path).is_ok_and(|now| now == text)
            {
                let file = Some(file);
                return Ok(Self {
                    text,
                    records,
                    file,
                });
            }
        }
        Err(TokenFileError::Busy(path.to_owned()))
    }

    /// The same; or nothing, if the file is not there and can be made.
    pub(super) fn read_or_empty(path: &Path) -> Result<Self, TokenFileError> {
        if can_be_created(path) {
            Ok(Self::default())
        } else {
            Self::read(path)
        }
    }

    pub(super) fn is_unchanged(&self, path: &Path) -> bool {
        match fs::read_to_string(path) {
            Ok(text) => self.file.is_some() && text == self.text,
            Err(error) => self.file.is_none() && error.kind() == ErrorKind::NotFound,
        }
    }

    /// The record that a change is meant for, if it is the one that was read.
    pub(super) fn record_to_change(
        &self,
        record: &TokenRecord,
    ) -> Result<&TokenRecord, RegistryError> {
        let mut records = self.records.iter();
        let known = records.find(|known| known.id() == record.id());
        let known = known.ok_or(RegistryError::UnknownId)?;
        if known.revision() == record.revision() {
            Ok(known)
        } else {
            Err(RegistryError::RevisionMismatch)
        }
    }

    /// Whether the record may be there besides the others.
    pub(super) fn check_unique(&self, write: &Write) -> Result<(), RegistryError> {
        let record = write.record();
        let others = || self.records.iter().filter(|it| it.id() != record.id());
        let is_live = |it: &&TokenRecord| it.state() != TokenState::Revoked;
        if let Some(name) = write.reserved_name()
            && others().filter(is_live).any(|it| it.name() == name)
        {
            return Err(RegistryError::NameTaken);
        }
        if others().any(|it| it.digest() == record.digest()) {
            return Err(RegistryError::DuplicateDigest);
        }
        Ok(())
    }

    /// Whether the write may be made to this record, which it replaces or deletes.
    pub(super) fn authorize(
        &self,
        write: &Write,
        before: Option<&TokenRecord>,
    ) -> Result<(), RegistryError> {
        let actor_id = write.actor_id();
        let actor = self.records.iter().find(|it| Some(it.id()) == actor_id);
        write.authorize(actor, before)?;
        match before {
            Some(_) => write.check_last_admin(&self.records),
            None => Ok(()),
        }
    }

    /// Whether the record may be added.
    pub(super) fn check_insert(&self, write: &Write) -> Result<(), RegistryError> {
        if self.records.iter().any(|it| it.id() == write.record().id()) {
            return Err(RegistryError::DuplicateId);
        }
        self.check_unique(write)?;
        let live = self
            .records
            .iter()
            .filter(|it| it.state() != TokenState::Revoked);
        let live = u64::try_from(live.count()).unwrap_or(u64::MAX);
        if write.max_tokens().is_some_and(|max| live >= max) {
            return Err(RegistryError::TooManyTokens);
        }
        Ok(())
    }

    /// Whether the file at `path` says the same as this one, but for one token.
    pub(super) fn check_only_change(
        &self,
        path: &Path,
        id: TokenId,
        after: Option<&TokenRecord>,
    ) -> Result<(), TokenFileError> {
        let written = records(path).map_err(|error| {
            // It names the draft, which nobody knows, and a line that nobody sees.
            let said = error.to_string();
            let rule = said.rsplit(": ").next().unwrap_or_default();
            TokenFileError::UnsupportedValue(rule.to_owned())
        })?;
        let others = self.records.iter().filter(|it| it.id() != id);
        let mut expected: Vec<_> = others.chain(after).map(id_and_revision).collect();
        let mut written: Vec<_> = written.iter().map(id_and_revision).collect();
        expected.sort_unstable();
        written.sort_unstable();
        if expected == written {
            Ok(())
        } else {
            Err(TokenFileError::UnexpectedContent)
        }
    }
}

/// The tokens of a file, in no order.
pub(super) fn records(path: &Path) -> Result<Vec<TokenRecord>, TokenFileError> {
    let records = open_without_polling(path)?.records();
    records.iter().map(as_stored).collect()
}

/// Reads the file, and does not follow it.
pub(super) fn open_without_polling(path: &Path) -> Result<FileStore, FileStoreError> {
    FileStoreOptions::new().with_poll_interval(None).open(path)
}

pub(super) fn can_be_created(path: &Path) -> bool {
    let is_missing = path
        .symlink_metadata()
        .is_err_and(|error| error.kind() == ErrorKind::NotFound);
    is_missing && path.extension().is_some_and(|it| it == "toml")
}

fn id_and_revision(record: &TokenRecord) -> (TokenId, u64) {
    (record.id(), record.revision())
}
