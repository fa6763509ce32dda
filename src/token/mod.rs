//! The secret a client sends: its text, its public id, and how a new one is made.
//!
//! A service token reads `svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n`:
//!
//! 1. a prefix, `svctok-` unless [configured](TokenFormat::new) otherwise;
//! 2. ten base62 digits: the [`TokenId`], public and safe to log;
//! 3. `_` and 24 base62 digits from the operating system's generator: 142.9 bits of secret;
//! 4. six base62 digits: the CRC-32 of everything before them.
//!
//! The checksum spares a store from typing errors and scanner noise. It is no defence: anyone can
//! compute it. Tokens minted elsewhere need no such form; any visible ASCII text serves as long as
//! a store knows its digest. Only a text that has our prefix and our length and fails the checksum
//! is refused before a store is asked: foreign tokens that look like that need another
//! [format](TokenFormat) on the layer.
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
mod format;
mod id;
mod mint;
mod presented;

pub use self::format::{PrefixError, TokenFormat, TokenShape};
pub use self::id::{ParseTokenIdError, TokenId};
pub use self::mint::{MintError, MintedToken};
pub use self::presented::PresentedToken;
