use std::hash::{Hash, Hasher};

use crate::digest::TokenDigest;

/// A whole digest as the key of a map. The maps' hash of it is keyed at random: a client picks its
/// tokens and so could pick digests that share a bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(TokenDigest);

impl From<&TokenDigest> for Key {
    fn from(digest: &TokenDigest) -> Self {
        Self(*digest)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.as_bytes());
    }
}
