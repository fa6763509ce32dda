//! Tokens: their text, their public id, and how they are minted.
//!
//! A service token reads `svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n`:
//!
//! 1. a prefix, `svctok-` unless [configured](TokenFormat::new) otherwise;
//! 2. ten base62 digits: the [`TokenId`], public and safe to log;
//! 3. `_` and 24 base62 digits from the operating system's generator: 142.9 bits of secret;
//! 4. six base62 digits: the CRC-32 of everything before them.
//!
//! The checksum saves lookups of mistyped tokens and scanner noise. It is not a defence: anyone can
//! compute it. Tokens minted elsewhere need not have this format; any visible ASCII text works if a
//! store knows its digest. Only a text with this prefix and length and a wrong checksum is rejected
//! without a lookup: foreign tokens of that form need another [format](TokenFormat) on the layer.
//!
//! Secret scanners find these tokens by `\bsvctok-[0-9A-Za-z]{10}_[0-9A-Za-z]{30}\b`.
//!
//! ```
//! use tower_service_token::token::{TokenFormat, TokenShape};
//!
//! let format = TokenFormat::default();
//! let token = format.mint()?;
//! assert_eq!(token.expose_secret().len(), 48);
//! assert_eq!(format.inspect(token.expose_secret()), TokenShape::WellFormed(token.id()));
//! assert!(!format!("{token:?}").contains(token.expose_secret()));
//! # Ok::<_, tower_service_token::token::MintError>(())
//! ```

mod base62;
mod display_id;
mod format;
pub(crate) mod id;
mod mint;
mod presented;
#[cfg(feature = "client")]
#[cfg_attr(
    not(feature = "cli"),
    expect(unreachable_pub, reason = "`internal` exports it for `svctok`")
)]
pub(crate) mod text;

pub use self::display_id::{DisplayId, DisplayIdError};
pub use self::format::{PrefixError, TokenFormat, TokenShape};
pub use self::id::{ParseTokenIdError, TokenId};
#[cfg(feature = "tokio")]
pub(crate) use self::mint::random_digits;
pub use self::mint::{MintError, MintedToken};
pub use self::presented::PresentedToken;
