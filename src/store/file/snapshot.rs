use hashbrown::HashTable;

use crate::digest::TokenDigest;
use crate::store::TokenRecord;

/// All tokens of one content of the file.
pub(super) struct Snapshot {
    by_digest: HashTable<TokenRecord>,
    /// The digest of the text, which shows whether it has changed.
    content: TokenDigest,
}

impl Snapshot {
    /// Creates a snapshot of records with distinct digests.
    pub(super) fn new(records: Vec<TokenRecord>, content: TokenDigest) -> Self {
        let mut by_digest = HashTable::with_capacity(records.len());
        for record in records {
            let index = record.digest().index();
            by_digest.insert_unique(index, record, |record| record.digest().index());
        }
        Self { by_digest, content }
    }

    /// Looks a record up by eight bytes of the digest, which are uniformly distributed, and then
    /// compares the whole digest in constant time.
    pub(super) fn find(&self, digest: &TokenDigest) -> Option<&TokenRecord> {
        let is_match = |record: &TokenRecord| record.digest() == digest;
        self.by_digest.find(digest.index(), is_match)
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &TokenRecord> {
        self.by_digest.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.by_digest.len()
    }

    pub(super) fn has_content(&self, content: &TokenDigest) -> bool {
        self.content == *content
    }
}
