//! The format of token files, read and written.

mod document;
mod read;
#[cfg(feature = "cli")]
mod write;

pub(super) use self::document::Format;
#[cfg(feature = "cli")]
pub(super) use self::document::{Data, FIELDS, Field, Value};
pub(super) use self::read::records;
#[cfg(feature = "cli")]
pub(super) use self::write::{Fields, pair, string};
