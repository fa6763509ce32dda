//! Tokens from a file: [`FileStore`].

mod codec;
#[cfg(feature = "cli")]
mod edit;
mod error;
mod file_store;
mod shared;
mod source;
mod status;
#[cfg(feature = "cli")]
mod token_file_error;
mod token_scan;
mod watch;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub use self::edit::TokenFile;
pub use self::error::{FileStoreError, FileStoreErrorKind};
pub use self::file_store::{FileStore, FileStoreOptions};
pub use self::status::FileStatus;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub use self::token_file_error::TokenFileError;
