use crate::digest::TokenDigest;
use crate::token::PresentedToken;

/// A presented token and its digest: the argument of a lookup.
///
/// Most stores look up the [`digest`](Self::digest). Only a store that forwards the token, such as
/// introspection, reads the [`token`](Self::token). `Debug` contains neither.
#[derive(Debug)]
pub struct Credential<'a> {
    token: PresentedToken<'a>,
    digest: TokenDigest,
}

impl<'a> Credential<'a> {
    /// Creates a credential from a token by hashing it.
    #[inline]
    pub fn new(token: PresentedToken<'a>) -> Self {
        let digest = TokenDigest::of_bytes(token.as_bytes());
        Self { token, digest }
    }

    /// Returns the token as it was presented.
    pub fn token(&self) -> &PresentedToken<'a> {
        &self.token
    }

    /// Returns the token's digest.
    pub fn digest(&self) -> &TokenDigest {
        &self.digest
    }

    /// Returns an owned copy, whose token is zeroed when dropped, for a lookup that outlives its
    /// request.
    pub fn to_owned(&self) -> Credential<'static> {
        Credential {
            token: self.token.to_owned(),
            digest: self.digest,
        }
    }

    /// Returns an owned copy, without copying a token that is already owned.
    pub fn into_owned(self) -> Credential<'static> {
        Credential {
            token: self.token.into_owned(),
            digest: self.digest,
        }
    }
}
