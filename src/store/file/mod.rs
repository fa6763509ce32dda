//! Tokens from a file: [`FileStore`].

mod codec;
#[cfg(feature = "cli")]
mod edit;
mod error;
mod fields;
mod file_store;
mod shared;
mod source;
mod status;
mod token_scan;
mod watch;

#[cfg(feature = "cli")]
pub use self::edit::{TokenFile, TokenFileError};
pub use self::error::{FileStoreError, FileStoreErrorKind};
pub use self::file_store::{FileStore, FileStoreOptions};
pub use self::status::FileStatus;
