use crate::digest::TokenDigest;
use crate::token::PresentedToken;

/// What a store is asked with: a presented token and its digest.
///
/// Stores that keep digests use [`digest`](Self::digest); only one that must send the token on,
/// as introspection does, reads [`token`](Self::token). `Debug` shows neither.
#[derive(Debug)]
pub struct Credential<'a> {
    token: PresentedToken<'a>,
    digest: TokenDigest,
}

impl<'a> Credential<'a> {
    /// Hashes the token.
    #[inline]
    pub fn new(token: PresentedToken<'a>) -> Self {
        let digest = TokenDigest::of_bytes(token.as_bytes());
        Self { token, digest }
    }

    /// The token as it was presented.
    pub fn token(&self) -> &PresentedToken<'a> {
        &self.token
    }

    /// The token's digest.
    pub fn digest(&self) -> &TokenDigest {
        &self.digest
    }

    /// A copy that borrows nothing, and whose token is zeroed when dropped: for a lookup that goes
    /// on when its request is gone.
    pub fn to_owned(&self) -> Credential<'static> {
        Credential {
            token: self.token.to_owned(),
            digest: self.digest,
        }
    }

    /// As [`to_owned`](Self::to_owned), without copying a token that is a copy already.
    pub fn into_owned(self) -> Credential<'static> {
        Credential {
            token: self.token.into_owned(),
            digest: self.digest,
        }
    }
}
