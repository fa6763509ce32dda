use std::fmt;
use std::time::Duration;

use super::TokenRecord;
use crate::digest::TokenDigest;

const DOMAIN: &str = "tower-service-token/rotation-key/2";

/// Identifies a rotation: its actor, its idempotency key, its grace period and the secret that it made.
///
/// A registry stores the key of the last rotation with the record, as 32 opaque bytes, so that a
/// repeated request changes nothing. They are hashes, and do not reveal an idempotency key that cannot
/// be guessed.
///
/// A registry of an earlier release rotates a token without changing the key. The key then belongs to
/// a secret that was replaced, and the request that it identifies is no repetition.
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

    /// Returns whether the actor, the idempotency key and the secret are those of `other`. The grace
    /// periods may differ.
    fn differs_at_most_in_grace(&self, other: &Self) -> bool {
        self.0[..16] == other.0[..16]
    }
}

/// A request to rotate a token with an idempotency key.
#[derive(Clone, Copy)]
pub(crate) struct RotationRequest<'a> {
    pub(crate) actor: &'a str,
    pub(crate) idempotency_key: &'a str,
    pub(crate) grace: Duration,
}

/// How a request to rotate a token repeats the rotation that made its current secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repetition {
    /// The requests are the same.
    Same,
    /// The grace periods differ.
    OtherGrace,
}

impl RotationRequest<'_> {
    /// Returns the key of a rotation that made the secret with this digest. An idempotency key contains
    /// no zero byte, so the hash is unambiguous.
    pub(crate) fn key(self, secret: &TokenDigest) -> RotationKey {
        let Self {
            actor,
            idempotency_key,
            grace,
        } = self;
        let secret = secret.to_string();
        let request = [DOMAIN, &secret, actor, idempotency_key].join("\0");
        let grace = [DOMAIN, &secret, &grace.as_millis().to_string()].join("\0");
        let mut bytes = *TokenDigest::of(&request).as_bytes();
        bytes[16..].copy_from_slice(&TokenDigest::of(&grace).as_bytes()[..16]);
        RotationKey(bytes)
    }

    /// Returns how this request repeats the rotation that made the current secret, or `None` if it does
    /// not.
    pub(crate) fn repetition(self, record: &TokenRecord) -> Option<Repetition> {
        let last = record.rotation_key()?;
        let key = self.key(record.digest());
        if *last == key {
            Some(Repetition::Same)
        } else {
            let is_reused = last.differs_at_most_in_grace(&key);
            is_reused.then_some(Repetition::OtherGrace)
        }
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

    fn request<'a>(actor: &'a str, idempotency_key: &'a str, grace: u64) -> RotationRequest<'a> {
        RotationRequest {
            actor,
            idempotency_key,
            grace: Duration::from_millis(grace),
        }
    }

    fn record(secret: &str, key: RotationKey) -> TokenRecord {
        let id = "0000000001".parse().expect("an id");
        TokenRecord::new(id, TokenDigest::of(secret)).with_rotation_key(key)
    }

    #[test]
    fn identifies_actor_key_and_grace_period() {
        let key = request("token:a", "k", 5).key(&TokenDigest::of("new"));
        let rotated = record("new", key);
        let repetition = |actor, key, grace| request(actor, key, grace).repetition(&rotated);
        assert_eq!(repetition("token:a", "k", 5), Some(Repetition::Same));
        assert_eq!(repetition("token:a", "k", 6), Some(Repetition::OtherGrace));
        for (actor, key) in [("token:a", "l"), ("token:b", "k"), ("token:", "ak")] {
            assert_eq!(repetition(actor, key, 5), None);
        }
        assert_eq!(RotationKey::from_bytes(*key.as_bytes()), key);
        assert_eq!(format!("{key:?}"), "RotationKey(..)");
    }

    #[test]
    fn the_key_of_a_replaced_secret_identifies_no_repetition() {
        let key = request("token:a", "k", 5).key(&TokenDigest::of("new"));
        let replaced = record("newer", key);
        for grace in [5, 6] {
            assert_eq!(request("token:a", "k", grace).repetition(&replaced), None);
        }
    }
}
