use std::path::Path;
use std::time::SystemTime;

use tower_service_token::lifecycle::ShownToken;
use tower_service_token::store::{
    FileStore, FileStoreOptions, ListRequest, TokenFilter, TokenRecord,
};
use tower_service_token::token::TokenId;

use super::store::not_found;
use crate::failure::{Failure, FailureKind};
use crate::store_url::StoreUrl;

/// The tokens of a file that people write.
pub(crate) struct FileTokens(FileStore);

impl FileTokens {
    pub(super) fn open(url: &StoreUrl, path: &Path) -> Result<Self, Failure> {
        let store = FileStoreOptions::new().with_poll_interval(None).open(path);
        let store = store.map_err(|error| {
            Failure::of(
                FailureKind::Unreachable,
                format_args!("cannot open {url}"),
                &error,
            )
        })?;
        Ok(Self(store))
    }

    pub(super) fn list(&self, filter: TokenFilter, limit: Option<usize>) -> Vec<ShownToken> {
        let now = SystemTime::now();
        let records = self.0.records();
        let mut request = ListRequest::new(filter, now).with_limit(ListRequest::MAX_LIMIT);
        let mut tokens: Vec<ShownToken> = Vec::new();
        loop {
            let page = request.select(&records);
            tokens.extend(page.records.iter().map(|it| ShownToken::new(it, now)));
            let next = page
                .next
                .and_then(|next| request.clone().with_cursor(next).ok());
            match next {
                Some(next) if limit.is_none_or(|limit| tokens.len() < limit) => request = next,
                _ => break,
            }
        }
        tokens.truncate(limit.unwrap_or(usize::MAX));
        tokens
    }

    pub(super) fn get(&self, id: TokenId) -> Result<ShownToken, Failure> {
        let shown = |record: &TokenRecord| ShownToken::new(record, SystemTime::now());
        let records = self.0.records();
        let record = records.iter().find(|record| record.id() == id);
        record.map(shown).ok_or_else(not_found)
    }

    pub(super) fn not_created(&self) -> Failure {
        self.read_only().with_hint(
            "write an entry into the file:\n  [[tokens]]\n  name = \"…\"\n  digest = \"sha256:…\"\n\
             where the digest is what `svctok hash` prints for the token",
        )
    }

    pub(super) fn not_changed(&self, id: TokenId) -> Failure {
        match self.get(id) {
            Ok(_) => self.read_only().with_hint(
                "change the entry in the file: `state = \"revoked\"` refuses the token for good, \
                 and a new secret's digest is what `svctok hash` prints for it",
            ),
            Err(failure) => failure,
        }
    }

    pub(super) fn read_only(&self) -> Failure {
        let path = self.0.path().display();
        Failure::refused(format!("{path} is changed by people, not by this tool"))
    }
}
