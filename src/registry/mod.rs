//! Stores that own their tokens: [`TokenRegistry`] and the types of its methods.
//!
//! Applications use [`ServiceTokens`](crate::ServiceTokens). This module is for authors of a store,
//! and for the parts that applications meet: [`LastUsed`], and the filters and cursors of a listing.

mod authority;
mod error;
mod last_used;
mod listing;
mod token_registry;
mod write;

pub(crate) use self::authority::{
    ActorToken, Authority, OwnerRights, adds_rights, check_transfer, expires_later,
};
pub use self::error::{AuthorityError, RegistryError};
#[cfg(feature = "tokio")]
pub use self::last_used::FlushTask;
pub use self::last_used::{LastUsed, LastUsedStore};
pub use self::listing::{Cursor, CursorError, ListOrder, ListRequest, TokenFilter, TokenPage};
pub use self::token_registry::TokenRegistry;
pub use self::write::Write;
pub(crate) use self::write::name_key;
