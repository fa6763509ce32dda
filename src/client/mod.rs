//! For services that call others with a service token.
//!
//! [`AddServiceTokenLayer`] adds the token to every request that goes out, and follows its file as
//! it is rotated.

mod add_token;

pub use self::add_token::{
    AddServiceToken, AddServiceTokenLayer, TokenSourceError, TokenSourceErrorKind,
};
