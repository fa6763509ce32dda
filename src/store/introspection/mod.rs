#![allow(dead_code)]

mod assertion;
mod client_auth;
mod config_error;
mod discovery;
mod endpoint;
mod request;
mod transport;

pub use self::assertion::PrivateKeyJwt;
pub use self::client_auth::ClientAuth;
pub use self::config_error::IntrospectionConfigError;
pub use self::discovery::{DiscoveryError, DiscoveryErrorKind};
