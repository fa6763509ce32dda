use std::sync::Arc;

use super::base62;
use super::id::TokenId;
use super::mint::{CHECKSUM_DIGITS, MintError, MintedToken};
use super::presented::PresentedToken;
use crate::text::SECRET_AND_CHECKSUM_DIGITS;

const MAX_PREFIX_LENGTH: usize = 14;

/// The length of a token without its prefix.
const BODY_LENGTH: usize = TokenId::DIGITS + 1 + SECRET_AND_CHECKSUM_DIGITS;

/// The text format of tokens: one prefix to mint with, any number to recognize.
///
/// The default prefix is `svctok-`.
///
/// ```
/// use tower_service_token::token::TokenFormat;
///
/// let format = TokenFormat::new("acme_")?.with_accepted_format(TokenFormat::default());
/// assert_eq!(format.prefix(), "acme_");
/// # Ok::<_, tower_service_token::token::PrefixError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
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

    /// Also recognizes the tokens of another format, such as one with an earlier prefix. The default is
    /// the prefix of [`new`](Self::new) alone.
    pub fn with_accepted_format(self, other: Self) -> Self {
        let (own, others) = (self.prefixes, other.prefixes);
        let prefixes = own.iter().chain(&*others);
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

    /// Returns whether the text is a token of this format, or was one before it was damaged.
    ///
    /// 1. A text with a prefix of the format anywhere is one, whatever is before and after the prefix:
    ///    `%22svctok-…%22`, `token=svctok-…`, a cut token. Upper and lower case make no difference.
    /// 2. So is a text without a whole prefix if the rest of a token is in it, with the checksum:
    ///    `vctok-…`, `svctok%2D…`.
    /// 3. A JWT (RFC 7519) is not, even if the random part of it contains a prefix: three parts of
    ///    Base64url, or five if it is encrypted, of which the first begins a JSON object. A text that
    ///    begins with a prefix is no JWT.
    ///
    /// [`CredentialSources::accept_bearer_of`](crate::header::CredentialSources::accept_bearer_of)
    /// distinguishes bearer tokens by it, and so should the middleware that gets the others. A prefix of
    /// two or three characters occurs in random tokens of other systems by chance.
    ///
    /// ```
    /// use tower_service_token::token::TokenFormat;
    ///
    /// let format = TokenFormat::default();
    /// assert!(format.resembles("svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n"));
    /// assert!(format.resembles("token=\"SVCTOK-damaged\""));
    /// assert!(!format.resembles("eyJhbGciOiJFUzI1NiJ9.e30.c2ln"));
    /// assert!(!format.resembles("ghp_16C7e42F292c6912E7710c838347Ae178B4a"));
    /// ```
    pub fn resembles(&self, token: &str) -> bool {
        self.resembles_bytes(token.as_bytes())
    }

    pub(crate) fn resembles_bytes(&self, token: &[u8]) -> bool {
        let any = |matches: fn(&[u8], &[u8]) -> bool| {
            let mut prefixes = self.prefixes.iter();
            prefixes.any(|prefix| matches(token, prefix.as_bytes()))
        };
        any(begins_with) || !is_jwt(token) && (any(contains) || any(contains_body))
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
        match self.inspect_bytes(bytes) {
            TokenShape::WellFormed(_) => true,
            TokenShape::Damaged => false,
            TokenShape::Unrecognized => {
                token.is_b64token()
                    && !self.resembles_bytes(bytes)
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
    if body.len() != BODY_LENGTH {
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

/// Returns whether the prefix is at the first letter or digit of the text.
fn begins_with(text: &[u8], prefix: &[u8]) -> bool {
    let start = text.iter().position(u8::is_ascii_alphanumeric);
    let text = &text[start.unwrap_or_default()..];
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn contains(text: &[u8], prefix: &[u8]) -> bool {
    let mut windows = text.windows(prefix.len());
    windows.any(|window| window.eq_ignore_ascii_case(prefix))
}

/// Returns whether the text contains a token with this prefix, except for the prefix itself.
fn contains_body(text: &[u8], prefix: &[u8]) -> bool {
    let mut windows = text.windows(BODY_LENGTH);
    windows.any(|body| {
        let (checked, sum) = body.split_at(BODY_LENGTH - CHECKSUM_DIGITS);
        // Most windows need no checksum.
        if body[TokenId::DIGITS] != b'_' {
            return false;
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(prefix);
        crc.update(checked);
        base62::decode(sum) == Some(crc.finalize().into())
    })
}

/// Returns whether the text is a JWT in compact form: a JWS of three parts (RFC 7515 §7.1), or a JWE of
/// five (RFC 7516 §7.1).
fn is_jwt(text: &[u8]) -> bool {
    // The Base64url of `{` and a quote or whitespace.
    let is_object = matches!(
        text,
        [b'e', b'y', b'A'..=b'D' | b'I'..=b'L', ..] | [b'e', b'w', b'0'..=b'3' | b'k'..=b'r', ..]
    );
    if !is_object {
        return false;
    }
    let mut parts = 1;
    let is_compact = text.iter().all(|byte| {
        parts += usize::from(*byte == b'.');
        byte.is_ascii_alphanumeric() || b"-_.".contains(byte)
    });
    is_compact && matches!(parts, 3 | 5)
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
