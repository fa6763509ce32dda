mod answer;
mod backoff;
mod builder;
mod call;
mod client;
mod config_error;
mod error;
mod problem;
mod sender;
mod told;

pub use self::builder::ServiceTokensClientBuilder;
pub use self::client::ServiceTokensClient;
pub use self::config_error::ClientConfigError;
pub use self::error::{ClientError, ClientErrorKind};
pub use self::told::{ChangedToken, IssuedToken, Revocation, TokenPage};
