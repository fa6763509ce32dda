//! `svctok` on the command line.
//!
//! 1. [Transcripts](transcripts): commands and their exact output.
//! 2. [Secrets](secrets): their sources and destinations, and where they must not appear.
//! 3. [Contexts](contexts), and the precedence of flags, environment variables and the contexts file.
//! 4. [Pipes](pipes) and exit codes.
//! 5. Commands that use a [server](server) instead of a store.
//! 6. Changes to a [token file](token_file).
//! 7. [Bulk deletion](bulk_deletion), in as many calls as needed.
//! 8. [Conditions](conditions) for changes: revisions, and the last administrator.
//! 9. A token file from an [earlier release](earlier_release).
//! 10. [Decimal IDs](numbers).
//! 11. Text and time [fields](fields) of a token, and the [states](list_states) that a list shows.
//! 12. [Token text](token_text) with whitespace or other bytes around it, and `--output-file` with
//!     [paths that name stdout](output_file).
//! 13. [Notes](quiet) on stderr, [empty environment variables](environment), also [those of
//!     PostgreSQL](postgres_variables), and rejected server [certificates](certificates).
//!
//! Each test has its own directory and a clean environment.

mod bulk_deletion;
mod certificates;
mod conditions;
mod contexts;
mod earlier_release;
mod environment;
mod fields;
mod list_states;
mod numbers;
mod output_file;
mod pipes;
mod postgres_variables;
mod quiet;
mod sandbox;
mod secrets;
mod server;
mod test_server;
mod token_file;
mod token_text;
mod transcripts;
