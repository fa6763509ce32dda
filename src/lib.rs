//! Tower middleware that authenticates headless clients by service tokens.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

// In the order in which a request passes through them; nothing flows back.
pub mod authorize;
pub mod clock;
pub mod digest;
pub mod header;
pub mod middleware;
mod observe;
pub mod principal;
pub mod reject;
pub mod store;
pub mod token;

pub use self::middleware::ServiceTokenLayer;
pub use self::principal::Principal;
pub use self::store::{MemoryStore, TokenStore};
