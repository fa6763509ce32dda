use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::base62;
use super::id::TokenId;
use super::presented::PresentedToken;
use crate::text::SECRET_AND_CHECKSUM_DIGITS;

pub(super) const SECRET_DIGITS: usize = SECRET_AND_CHECKSUM_DIGITS - CHECKSUM_DIGITS;
pub(super) const CHECKSUM_DIGITS: usize = 6;

/// A newly minted token with its secret.
///
/// Show [`expose_secret`](Self::expose_secret) once and store only the digest. The text is zeroed
/// when dropped; `Debug` shows only the id.
pub struct MintedToken {
    text: Zeroizing<String>,
    id: TokenId,
}

impl MintedToken {
    /// Generates a token with this id, or with a random one.
    pub(super) fn generate(prefix: &str, id: Option<TokenId>) -> Result<Self, MintError> {
        let id = match id {
            Some(id) => id.digits(),
            None => *random_digits()?,
        };
        let secret = random_digits::<SECRET_DIGITS>()?;
        let length = prefix.len() + TokenId::DIGITS + 1 + SECRET_AND_CHECKSUM_DIGITS;
        // Allocated with its final capacity, because growing would leave a copy in memory.
        let mut text = Zeroizing::new(String::with_capacity(length));
        text.push_str(prefix);
        push_ascii(&mut text, &id);
        text.push('_');
        push_ascii(&mut text, &*secret);
        let sum = crc32fast::hash(text.as_bytes());
        push_ascii(&mut text, &base62::encode::<CHECKSUM_DIGITS>(sum.into()));
        let id = TokenId::from_digits(&id).expect("ten base62 digits");
        Ok(Self { text, id })
    }

    /// Returns the token's public id.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// Returns the token as a client presents it, to verify it without a request.
    pub fn presented(&self) -> PresentedToken<'_> {
        PresentedToken::from_bytes_unchecked(self.text.as_bytes())
    }

    /// Returns the secret. Show it once and do not store it.
    pub fn expose_secret(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for MintedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MintedToken")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn push_ascii(text: &mut String, digits: &[u8]) {
    text.push_str(std::str::from_utf8(digits).expect("base62 digits are ASCII"));
}

/// Generates digits by rejection sampling, because bytes from 248 on would favour the first eight
/// digits.
pub(crate) fn random_digits<const N: usize>() -> Result<Zeroizing<[u8; N]>, MintError> {
    let mut digits = Zeroizing::new([0_u8; N]);
    let mut filled = 0;
    let mut pool = [0_u8; 64];
    while filled < N {
        getrandom::fill(&mut pool).map_err(MintError)?;
        for &byte in pool.iter().filter(|&&byte| byte < 248).take(N - filled) {
            digits[filled] = base62::DIGITS[usize::from(byte % 62)];
            filled += 1;
        }
    }
    pool.zeroize();
    Ok(digits)
}

/// The operating system returned no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("no random bytes from the operating system")]
pub struct MintError(#[source] getrandom::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_digits_are_uniform() {
        let mut counts = [0_u32; 62];
        let rounds = 62 * 40;
        for _ in 0..rounds {
            for &digit in random_digits::<25>().expect("random bytes").iter() {
                let value = base62::decode(&[digit]).expect("a digit");
                counts[usize::try_from(value).expect("below 62")] += 1;
            }
        }
        // 1000 expected each, deviation 31: six of them leave one false alarm in millions of runs.
        for (digit, count) in counts.iter().enumerate() {
            assert!((812..=1188).contains(count), "digit {digit}: {count}");
        }
    }
}
