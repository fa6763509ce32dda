//! `svctok` on the command line.
//!
//! 1. [Transcripts](transcripts): commands and their exact output.
//! 2. [Secrets](secrets): their sources and destinations, and where they must not appear.
//! 3. [Contexts](contexts), and the precedence of flags, environment and file.
//! 4. [Pipes](pipes) and exit codes.
//! 5. A [server](server) instead of a store.
//! 6. Changes of a [token file](token_file).
//! 7. [Bulk deletion](bulk_deletion), in as many calls as needed.
//! 8. [Conditions](conditions) of changes: revisions, and the last administrator.
//! 9. A file of an [earlier release](earlier_release).
//! 10. [Numbers](numbers) in place of ids.
//! 11. [Fields](fields): texts and times.
//! 12. [Texts](token_text) with a token, and the names of stdout as an [output file](output_file).
//! 13. [Notes](quiet) that scripts do not get, [empty variables](environment), and
//!     [certificates](certificates) that are not accepted.
//!
//! Each test has its own directory and a clean environment.

mod bulk_deletion;
mod certificates;
mod conditions;
mod contexts;
mod earlier_release;
mod environment;
mod fields;
mod numbers;
mod output_file;
mod pipes;
mod quiet;
mod sandbox;
mod secrets;
mod server;
mod test_server;
mod token_file;
mod token_text;
mod transcripts;
