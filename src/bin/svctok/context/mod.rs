//! Saved servers and stores.

mod file;
mod record;

pub(crate) use self::file::ContextFile;
pub(crate) use self::record::{Context, Contexts, is_valid_name};
