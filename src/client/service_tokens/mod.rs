mod backoff;
mod builder;
mod client;
mod config_error;
mod error;
mod outcome;
mod problem;
mod request;
mod response;
mod sender;

pub use self::builder::ServiceTokensClientBuilder;
pub use self::client::ServiceTokensClient;
pub use self::config_error::ClientConfigError;
pub use self::error::{ClientError, ClientErrorKind};
pub use self::outcome::{ChangedTokenInfo, IssuedTokenInfo, Revocation, TokenInfoPage};
