//! The token format, and the checks of the fuzz targets.

mod format;
mod fuzz_corpus;
