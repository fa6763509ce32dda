//! Digests of tokens: the only place in this crate that hashes and compares secrets.
//!
//! 1. A token is identified by the SHA-256 (FIPS 180-4) of its whole text. Minted tokens have 142.9
//!    random bits, so they need no salt and no slow hash. An imported token is protected only by
//!    its own randomness.
//! 2. Digests are compared in constant time, also by `==`.
//!
//! ```
//! use tower_service_token::digest::TokenDigest;
//!
//! let digest = TokenDigest::of("abc");
//! let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
//! assert_eq!(digest.to_string(), text);
//! assert_eq!(digest, text.parse()?);
//! # Ok::<_, tower_service_token::digest::ParseTokenDigestError>(())
//! ```

use std::fmt;
use std::str::FromStr;

use sha2::block_api::compress256;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::token::TokenId;

const TEXT_PREFIX: &str = "sha256:";

/// The SHA-256 digest of a token.
///
/// [`Display`](fmt::Display) writes `sha256:<64 hexadecimal digits>`; `Debug` writes no digits.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// A digest that no token has, compared if a store found nothing.
    pub(crate) const NONE: Self = Self([0; 32]);

    /// Hashes the text of a token.
    pub fn of(token: &str) -> Self {
        Self::of_bytes(token.as_bytes())
    }

    #[inline]
    pub(crate) fn of_bytes(token: &[u8]) -> Self {
        if token.len() > LONGEST_OF_ONE_BLOCK {
            return Self(Sha256::digest(token).into());
        }
        let mut block = [0; 64];
        pad(&mut block, token);
        Self(hash_block(&block))
    }

    /// Creates a digest from its bytes, for stores.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, for stores.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first eight bytes as an index key; uniform, as the digest is.
    #[inline]
    pub(crate) fn index(&self) -> u64 {
        self.words()[0]
    }

    #[inline]
    fn words(&self) -> [u64; 4] {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(self.0.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        words
    }
}

impl TokenId {
    /// Derives the id of a token from its key in a table of your own, such as a UUID.
    ///
    /// Equal bytes have equal ids, on every node and in every release. The text and the bytes of a UUID
    /// differ, so pass the same form everywhere. The id reveals nothing about a key that cannot be
    /// guessed.
    ///
    /// Of a million keys, two have the same id with a probability of 6 in 10 million. Two tokens with
    /// one id are accepted each with its own rights; a change notification by this id evicts both, and
    /// they share the time of the last use. A [registry](crate::registry::TokenRegistry) needs ids that
    /// are unique.
    ///
    /// ```
    /// use tower_service_token::token::TokenId;
    ///
    /// let id = TokenId::derive("0193b3a4-9c1e-7b52-8f0d-2f8f6a1c9e77");
    /// assert_eq!(id.to_string(), "59zKmltzpr");
    /// ```
    pub fn derive(key: impl AsRef<[u8]>) -> Self {
        const DOMAIN: &[u8] = b"tower-service-token key\0";
        let hash = TokenDigest::of_bytes(&[DOMAIN, key.as_ref()].concat());
        // The same number on every machine.
        Self::from_hash(u64::from_be(hash.index()))
    }
}

/// The initial state of SHA-256 (FIPS 180-4 §5.3.3).
const INITIAL_HASH: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The length in bytes of the longest text that is one block with its padding, as minted tokens are.
const LONGEST_OF_ONE_BLOCK: usize = 64 - 1 - size_of::<u64>();

/// Writes a text of at most [`LONGEST_OF_ONE_BLOCK`] with its padding (FIPS 180-4 §5.1.1) into an empty
/// block.
#[inline]
fn pad(block: &mut [u8; 64], text: &[u8]) {
    block[..text.len()].copy_from_slice(text);
    block[text.len()] = 0x80;
    let bits = u16::try_from(text.len() * 8).expect("at most 55 bytes");
    block[62..].copy_from_slice(&bits.to_be_bytes());
}

#[inline]
fn hash_block(block: &[u8; 64]) -> [u8; 32] {
    let mut state = INITIAL_HASH;
    compress256(&mut state, std::slice::from_ref(block));
    let mut digest = [0; 32];
    // In pairs: without SSSE3, swapping the bytes of four words at once delays the lookup by 2 to 4 ns.
    let pairs = state.as_chunks::<2>().0;
    for (bytes, [first, second]) in digest.as_chunks_mut::<8>().0.iter_mut().zip(pairs) {
        *bytes = ((u64::from(*first) << 32) | u64::from(*second)).to_be_bytes();
    }
    digest
}

// One barrier for the whole digest instead of the 32 of `[u8]::ct_eq`, which cost half a hash.
impl ConstantTimeEq for TokenDigest {
    #[inline]
    fn ct_eq(&self, other: &Self) -> Choice {
        let difference = self
            .words()
            .iter()
            .zip(other.words())
            .fold(0, |sum, (a, b)| sum | (a ^ b));
        difference.ct_eq(&0)
    }
}

impl PartialEq for TokenDigest {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for TokenDigest {}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(***)")
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TEXT_PREFIX}{}", hex::encode(self.0))
    }
}

impl FromStr for TokenDigest {
    type Err = ParseTokenDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text
            .strip_prefix(TEXT_PREFIX)
            .ok_or(ParseTokenDigestError(()))?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| ParseTokenDigestError(()))?;
        Ok(Self(bytes))
    }
}

/// A text is not the digest of a token. The error does not contain the text, because it may be a
/// token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token digest is 'sha256:' and 64 hexadecimal digits")]
pub struct ParseTokenDigestError(());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenFormat;

    #[test]
    fn digests_that_differ_in_one_bit_are_not_equal() {
        let digest = TokenDigest::of("token");
        assert_eq!(digest, TokenDigest::of("token"));
        for bit in 0..256 {
            let mut other = digest;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(digest, other, "bit {bit}");
        }
    }

    #[test]
    fn digests_of_any_length_match_the_reference_implementation() {
        let text: Vec<u8> = (0..=u8::MAX).collect();
        for length in 0..text.len() {
            let hash: [u8; 32] = Sha256::digest(&text[..length]).into();
            let digest = TokenDigest::of_bytes(&text[..length]);
            assert_eq!(*digest.as_bytes(), hash, "{length} bytes");
        }
        // The result is the same without the path for one block, but slower.
        assert_eq!(LONGEST_OF_ONE_BLOCK, 55);
        let minted = TokenFormat::default().mint().expect("random bytes");
        assert!(minted.expose_secret().len() <= LONGEST_OF_ONE_BLOCK);
    }

    #[test]
    fn rejects_malformed_digests() {
        let hex = hex::encode([0xab; 32]);
        assert!(format!("sha256:{hex}").parse::<TokenDigest>().is_ok());
        assert!(
            format!("sha256:{}", hex.to_uppercase())
                .parse::<TokenDigest>()
                .is_ok()
        );
        for text in [
            hex.clone(),
            format!("SHA256:{hex}"),
            format!("sha512:{hex}"),
            format!("sha256:{}", &hex[2..]),
            format!("sha256:{hex}00"),
            format!("sha256:{}zz", &hex[2..]),
            String::new(),
        ] {
            assert!(text.parse::<TokenDigest>().is_err(), "{text}");
        }
    }
}
