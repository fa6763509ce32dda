//! `svctok` as people and scripts use it.
//!
//! 1. [Transcripts](transcripts): what is typed and what is answered, word by word.
//! 2. [Secrets](secrets): where they come from, where they go, and where they never stand.
//! 3. [Contexts](contexts), and what outranks what.
//! 4. [Pipes](pipes) and exit codes.
//! 5. A [server](server) in place of a store.
//! 6. A [token file](token_file) that is changed.
//! 7. [Bulk deletion](bulk_deletion), in as many calls as it takes.
//! 8. [Conditions](conditions) of changes: revisions, and the last administrator.
//! 9. A file of an [earlier release](earlier_release).
//!
//! Each test has a directory of its own, and nothing of the environment that the tests run in.

mod bulk_deletion;
mod conditions;
mod contexts;
mod sandbox;
mod earlier_release;
mod pipes;
mod secrets;
mod server;
mod test_server;
mod token_file;
mod transcripts;
