use std::fmt;
use std::time::Duration;

use super::TokenRecord;
use crate::digest::TokenDigest;

const DOMAIN: &str = "tower-service-token/rotation-key/1";

/// Identifies the request of a rotation: its actor, its idempotency key and its grace period.
///
/// A registry stores the key of the last rotation with the record, as 32 opaque bytes, so that a
/// repeated request changes nothing. They are hashes, and do not reveal an idempotency key that cannot
/// be guessed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RotationKey([u8; 32]);

impl RotationKey {
    /// Creates a key from its stored bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes to store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Creates the key of a rotation. An idempotency key contains no zero byte, so the hash is
    /// unambiguous.
    pub(crate) fn new(actor: &str, idempotency_key: &str, grace: Duration) -> Self {
        let request = TokenDigest::of(&[DOMAIN, actor, idempotency_key].join("\0"));
        let grace = TokenDigest::of(&format!("{DOMAIN}\0{}", grace.as_millis()));
        let mut bytes = *request.as_bytes();
        bytes[16..].copy_from_slice(&grace.as_bytes()[..16]);
        Self(bytes)
    }

    /// Returns whether the actor and the idempotency key are those of `other`.
    pub(crate) fn has_same_request(&self, other: &Self) -> bool {
        self.0[..16] == other.0[..16]
    }
}

impl TokenRecord {
    /// Sets what identifies the request of the last rotation. The default is no key.
    pub fn with_rotation_key(mut self, key: impl Into<Option<RotationKey>>) -> Self {
        self.cold_mut().rotation_key = key.into().map(Box::new);
        self
    }

    /// Returns what identifies the request of the last rotation, if it had an idempotency key.
    pub fn rotation_key(&self) -> Option<&RotationKey> {
        self.cold()?.rotation_key.as_deref()
    }
}

impl fmt::Debug for RotationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RotationKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifies_actor_key_and_grace_period() {
        let key = |actor, key, grace| RotationKey::new(actor, key, Duration::from_millis(grace));
        let one = key("token:a", "k", 5);
        assert_eq!(one, key("token:a", "k", 5));
        assert!(one != key("token:a", "k", 6) && one.has_same_request(&key("token:a", "k", 6)));
        for other in [
            key("token:a", "l", 5),
            key("token:b", "k", 5),
            key("token:", "ak", 5),
        ] {
            assert!(!one.has_same_request(&other));
        }
        assert_eq!(RotationKey::from_bytes(*one.as_bytes()), one);
        assert_eq!(format!("{one:?}"), "RotationKey(..)");
    }
}
