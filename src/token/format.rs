use std::sync::Arc;

use super::base62;
use super::id::TokenId;
use super::mint::{CHECKSUM_DIGITS, MintError, MintedToken};
use super::presented::PresentedToken;
use crate::text::SECRET_AND_CHECKSUM_DIGITS;

const MAX_PREFIX_LENGTH: usize = 14;

/// The text format of tokens: one prefix to mint with, any number to recognize.
///
/// The default prefix is `svctok-`.
///
/// ```
/// use tower_service_token::token::TokenFormat;
///
/// let format = TokenFormat::new("acme_")?.with_accepted_format(&TokenFormat::default());
/// assert_eq!(format.prefix(), "acme_");
/// # Ok::<_, tower_service_token::token::PrefixError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TokenFormat {
    prefixes: Arc<[Box<str>]>,
}

/// The result of [`TokenFormat::inspect`], without a lookup.
///
/// Exhaustive on purpose: a match must handle every case, and a new one is a breaking change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenShape {
    /// The text has the format and a correct checksum, and contains this id. The token is not
    /// verified.
    WellFormed(TokenId),
    /// The text has the prefix and the length of the format, but not its checksum or alphabet.
    Damaged,
    /// The text does not have the format. It may be a token that was minted elsewhere.
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
    /// Creates a format that mints and recognizes tokens with this prefix.
    ///
    /// # Errors
    ///
    /// Returns an error if the prefix is not 2 to 14 bytes of the form
    /// `[A-Za-z][A-Za-z0-9_-]{0,12}[_-]`, which keeps a token within one SHA-256 block.
    pub fn new(prefix: &str) -> Result<Self, PrefixError> {
        Ok(Self {
            prefixes: Arc::new([validate_prefix(prefix)?]),
        })
    }

    /// Also recognizes the tokens of another format, such as one with an earlier prefix.
    pub fn with_accepted_format(self, other: &Self) -> Self {
        let prefixes = self.prefixes.iter().chain(&*other.prefixes);
        Self {
            prefixes: prefixes.cloned().collect(),
        }
    }

    /// Returns the prefix that new tokens get.
    pub fn prefix(&self) -> &str {
        &self.prefixes[0]
    }

    /// Mints a token with the random generator of the operating system.
    ///
    /// # Errors
    ///
    /// Returns an error if the generator fails; there is no weaker fallback.
    pub fn mint(&self) -> Result<MintedToken, MintError> {
        MintedToken::generate(self.prefix(), None)
    }

    /// Mints a new secret for an existing id, as a rotation does.
    ///
    /// # Errors
    ///
    /// As [`mint`](Self::mint).
    pub fn mint_with_id(&self, id: TokenId) -> Result<MintedToken, MintError> {
        MintedToken::generate(self.prefix(), Some(id))
    }

    /// Returns the redacted text of a token with this id.
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

    /// Classifies a text as a token of this format, a damaged one, or another text.
    ///
    /// Checks the length first, then the checksum, then the alphabet. Text with the prefix and another
    /// length is unrecognized, so that tokens of a system with the same prefix can be imported.
    pub fn inspect(&self, token: &str) -> TokenShape {
        self.inspect_bytes(token.as_bytes())
    }

    /// Returns whether the text begins with a prefix of this format: it is a token of the format, or was
    /// one before it was damaged.
    ///
    /// Upper and lower case, and characters before the prefix that are not letters or digits, such as
    /// quotes, make no difference.
    /// [`CredentialSources::accept_bearer_of`](crate::header::CredentialSources::accept_bearer_of)
    /// distinguishes bearer tokens by it, and so should the middleware that gets the others.
    ///
    /// ```
    /// use tower_service_token::token::TokenFormat;
    ///
    /// let format = TokenFormat::default();
    /// assert!(format.has_prefix("svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n"));
    /// assert!(format.has_prefix("\"SVCTOK-damaged\""));
    /// assert!(!format.has_prefix("eyJhbGciOiJFUzI1NiJ9.e30.c2ln"));
    /// ```
    pub fn has_prefix(&self, token: &str) -> bool {
        self.bytes_have_prefix(token.as_bytes())
    }

    pub(crate) fn bytes_have_prefix(&self, token: &[u8]) -> bool {
        // A prefix begins with a letter.
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric();
        let start = token.iter().position(is_part).unwrap_or_default();
        let token = &token[start..];
        let begins = |prefix: &[u8]| {
            let start = token.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let mut prefixes = self.prefixes.iter();
        prefixes.any(|prefix| begins(prefix.as_bytes()))
    }

    /// Returns whether the token has this format except for its checksum or alphabet.
    pub(crate) fn is_damaged(&self, token: &PresentedToken<'_>) -> bool {
        self.inspect_bytes(token.as_bytes()) == TokenShape::Damaged
    }

    /// Returns whether an unknown token can have been one: a well-formed one of this format, or a bearer
    /// token (RFC 6750 §2.1) of another system. A mistyped, cut or quoted token of ours cannot.
    #[cfg(feature = "api")]
    pub(crate) fn is_plausible(&self, token: &PresentedToken<'_>) -> bool {
        let bytes = token.as_bytes();
        let mut prefixes = self.prefixes.iter();
        match self.inspect_bytes(bytes) {
            TokenShape::WellFormed(_) => true,
            TokenShape::Damaged => false,
            TokenShape::Unrecognized => {
                let contains = |prefix: &[u8]| {
                    let mut windows = bytes.windows(prefix.len().max(1));
                    windows.any(|window| window.eq_ignore_ascii_case(prefix))
                };
                token.is_b64token()
                    && !prefixes.any(|prefix| contains(prefix.as_bytes()))
                    && !crate::text::has_token(token.expose_secret())
            }
        }
    }

    fn inspect_bytes(&self, token: &[u8]) -> TokenShape {
        self.prefixes
            .iter()
            .filter_map(|prefix| token.strip_prefix(prefix.as_bytes()))
            .map(|body| inspect_body(token, body))
            .find(|shape| *shape != TokenShape::Unrecognized)
            .unwrap_or(TokenShape::Unrecognized)
    }

    /// Returns the token with its secret replaced by `***`, or only `***` if it is not of this
    /// format.
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
                format!("{}***", &token[..token.len() - SECRET_AND_CHECKSUM_DIGITS])
            }
            TokenShape::Damaged | TokenShape::Unrecognized => "***".to_owned(),
        }
    }
}

/// Classifies a token without its prefix. Verifies the checksum first, so that noise from scanners
/// costs little.
fn inspect_body(token: &[u8], body: &[u8]) -> TokenShape {
    if body.len() != TokenId::DIGITS + 1 + SECRET_AND_CHECKSUM_DIGITS {
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

/// A text is not a valid prefix of tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token prefix is 2 to 14 letters, digits, '_' and '-', first a letter, last '_' or '-'")]
pub struct PrefixError(());
