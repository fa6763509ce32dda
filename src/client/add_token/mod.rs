mod error;
mod layer;
mod service;
mod source;

pub use self::error::{TokenSourceError, TokenSourceErrorKind};
pub use self::layer::AddServiceTokenLayer;
pub use self::service::AddServiceToken;
