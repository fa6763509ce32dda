//! The results of the benches: each bench prints its goals and writes them below the target directory,
//! and the bench `summary` collects them.

mod mode;
pub mod results;
