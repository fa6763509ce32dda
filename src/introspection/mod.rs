//! Tokens of an OAuth 2.0 authorization server, checked by token introspection (RFC 7662).
//!
//! [`IntrospectionStore`] is a [`TokenStore`](crate::store::TokenStore) that calls the server's
//! introspection endpoint and caches its responses.

mod assertion;
mod breaker;
mod builder;
mod claims;
mod client;
mod client_auth;
mod config;
mod config_error;
mod discovery;
mod discovery_error;
mod error;
mod excerpt;
mod lookup;
mod metrics;
mod response;
mod rules;
mod store;
mod times;

pub use self::assertion::PrivateKeyJwt;
pub use self::breaker::BreakerState;
pub use self::builder::IntrospectionBuilder;
pub use self::client_auth::ClientAuth;
pub use self::config_error::IntrospectionConfigError;
pub use self::discovery_error::{DiscoveryError, DiscoveryErrorKind};
pub use self::error::{IntrospectionError, IntrospectionErrorKind};
pub use self::store::{IntrospectionStatus, IntrospectionStore};
