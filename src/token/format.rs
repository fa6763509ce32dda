use std::sync::Arc;

use super::base62;
use super::id::TokenId;
use super::mint::{MintError, MintedToken};
use super::presented::PresentedToken;

pub(super) const SECRET_DIGITS: usize = 24;
const CHECKSUM_DIGITS: usize = 6;
const MAX_PREFIX_LENGTH: usize = 14;

/// How this service's tokens are written: one prefix to mint with, any number to recognize.
///
/// The default prefix is `svctok-`.
///
/// ```
/// use tower_service_token::token::TokenFormat;
///
/// let format = TokenFormat::new("acme_")?.accept_prefix("svctok-")?;
/// assert_eq!(format.prefix(), "acme_");
/// # Ok::<_, tower_service_token::token::PrefixError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TokenFormat {
    prefixes: Arc<[Box<str>]>,
}

/// What the text of a token tells before any store is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenShape {
    /// Our form with the right checksum, and the id that stands in it. Not yet verified.
    WellFormed(TokenId),
    /// Our prefix and length, but a mistyped or invented rest.
    Damaged,
    /// Not of our form: minted elsewhere, or garbage. Only a store can tell.
    Unrecognized,
}

impl Default for TokenFormat {
    fn default() -> Self {
        Self {
            prefixes: Arc::new(["svctok-".into()]),
        }
    }
}

impl TokenFormat {
    /// A format that mints and recognizes tokens with this prefix.
    ///
    /// # Errors
    ///
    /// A prefix is 2 to 14 bytes, `[A-Za-z][A-Za-z0-9_-]{0,12}[_-]`, which keeps a token within
    /// one SHA-256 block.
    pub fn new(prefix: &str) -> Result<Self, PrefixError> {
        Ok(Self {
            prefixes: Arc::new([validate_prefix(prefix)?]),
        })
    }

    /// Recognizes another prefix besides, such as the one used before a change of name.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn accept_prefix(self, prefix: &str) -> Result<Self, PrefixError> {
        let mut prefixes = self.prefixes.to_vec();
        prefixes.push(validate_prefix(prefix)?);
        Ok(Self {
            prefixes: prefixes.into(),
        })
    }

    /// The prefix that new tokens get.
    pub fn prefix(&self) -> &str {
        &self.prefixes[0]
    }

    /// A new token from the operating system's generator.
    ///
    /// # Errors
    ///
    /// The generator failed; there is no weaker one to fall back to.
    pub fn mint(&self) -> Result<MintedToken, MintError> {
        MintedToken::generate(self.prefix())
    }

    /// A new token with an id that exists: what a rotation hands out.
    ///
    /// # Errors
    ///
    /// As [`mint`](Self::mint).
    pub fn mint_with_id(&self, id: TokenId) -> Result<MintedToken, MintError> {
        MintedToken::generate_with_id(self.prefix(), id)
    }

    /// What a token of this format with this id may be shown as.
    ///
    /// ```
    /// use tower_service_token::token::TokenFormat;
    ///
    /// let hint = TokenFormat::default().hint("7Hq2mX9bTe".parse()?);
    /// assert_eq!(hint, "svctok-7Hq2mX9bTe_***");
    /// # Ok::<_, tower_service_token::token::ParseTokenIdError>(())
    /// ```
    pub fn hint(&self, id: TokenId) -> String {
        format!("{}{id}_***", self.prefix())
    }

    /// Tells a token of this format from a damaged and from a foreign one.
    ///
    /// By fixed offsets: length first, then checksum, then alphabet. Text that has our prefix and
    /// another length is foreign, so that tokens of a system with the same prefix can be imported.
    pub fn inspect(&self, token: &str) -> TokenShape {
        self.inspect_bytes(token.as_bytes())
    }

    /// Whether it is of this format but for its checksum or alphabet.
    pub(crate) fn is_damaged(&self, token: &PresentedToken<'_>) -> bool {
        self.inspect_bytes(token.as_bytes()) == TokenShape::Damaged
    }

    fn inspect_bytes(&self, token: &[u8]) -> TokenShape {
        self.prefixes
            .iter()
            .filter_map(|prefix| token.strip_prefix(prefix.as_bytes()))
            .map(|body| inspect_body(token, body))
            .find(|shape| *shape != TokenShape::Unrecognized)
            .unwrap_or(TokenShape::Unrecognized)
    }

    /// The token with its secret part replaced by `***`; all of it, if it is not of this format.
    ///
    /// ```
    /// use tower_service_token::token::TokenFormat;
    ///
    /// let format = TokenFormat::default();
    /// let token = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";
    /// assert_eq!(format.redact(token), "svctok-7Hq2mX9bTe_***");
    /// assert_eq!(format.redact("hunter2"), "***");
    /// ```
    pub fn redact(&self, token: &str) -> String {
        match self.inspect(token) {
            TokenShape::WellFormed(_) => {
                let secret = SECRET_DIGITS + CHECKSUM_DIGITS;
                format!("{}***", &token[..token.len() - secret])
            }
            TokenShape::Damaged | TokenShape::Unrecognized => "***".to_owned(),
        }
    }
}

/// The checksum of everything that stands before it.
pub(super) fn checksum(text: &[u8]) -> [u8; CHECKSUM_DIGITS] {
    base62::encode(crc32fast::hash(text).into())
}

/// `id`, `_` and the secret's digits: what stands between prefix and checksum.
pub(super) const RANDOM_DIGITS: usize = TokenId::DIGITS + SECRET_DIGITS;

/// The checksum first: what fails it is scanner noise, and should cost little.
fn inspect_body(token: &[u8], body: &[u8]) -> TokenShape {
    if body.len() != TokenId::DIGITS + 1 + SECRET_DIGITS + CHECKSUM_DIGITS {
        return TokenShape::Unrecognized;
    }
    let (text, sum) = token.split_at(token.len() - CHECKSUM_DIGITS);
    if base62::decode(sum) != Some(crc32fast::hash(text).into()) {
        return TokenShape::Damaged;
    }
    let (id, rest) = body.split_at(TokenId::DIGITS);
    match (TokenId::from_digits(id), rest) {
        (Some(id), [b'_', digits @ ..]) if base62::all_digits(digits) => TokenShape::WellFormed(id),
        _ => TokenShape::Damaged,
    }
}

fn validate_prefix(prefix: &str) -> Result<Box<str>, PrefixError> {
    let bytes = prefix.as_bytes();
    let good = (2..=MAX_PREFIX_LENGTH).contains(&bytes.len())
        && bytes[0].is_ascii_alphabetic()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(b))
        && prefix.ends_with(['_', '-']);
    good.then(|| prefix.into()).ok_or(PrefixError(()))
}

/// A text cannot be the prefix of tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token prefix is 2 to 14 letters, digits, '_' and '-', first a letter, last '_' or '-'")]
pub struct PrefixError(());
