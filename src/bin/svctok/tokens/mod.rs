//! The tokens of a server or a store.

mod conditions;
mod failure;
mod opened;
mod server;

pub(crate) use self::conditions::{Conditions, IfMissing};
pub(crate) use self::opened::{TokenRef, Tokens, require_file};
pub(crate) use self::server::ServerTokens;
