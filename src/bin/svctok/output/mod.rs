//! Output: results go to stdout, messages about them to stderr.

mod progress;
mod secret_file;
mod table;
mod token;

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use serde::Serialize;

pub(crate) use self::progress::Progress;
pub(crate) use self::secret_file::{SecretFile, create_private_directory, is_stdout};
pub(crate) use self::table::{columns, details};
pub(crate) use self::token::{TokenData, token_details, token_table};
use crate::failure::{Failure, FailureKind, OrFail};

/// The format of a result: a table for people, the JSON of the management API, the same as YAML, or
/// only the new secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    // Variants have no docs, because the help of every command would list them.
    #[default]
    Table,
    Json,
    Yaml,
    Token,
}

impl Format {
    /// Returns an error if the format needs a secret, for commands without one.
    pub(crate) fn without_secret(self) -> Result<Self, Failure> {
        match self {
            Self::Token => Err(Failure::usage("only create and rotate print a token")),
            format => Ok(format),
        }
    }

    /// Prints `data` as JSON or YAML, or else `text`.
    pub(crate) fn show(
        self,
        data: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        print(&match self {
            Self::Json => {
                let json = serde_json::to_string_pretty(data);
                json.expect("a result is plain data") + "\n"
            }
            Self::Yaml => {
                let yaml = serde_saphyr::to_string(data);
                yaml.or_fail(FailureKind::Rejected, "cannot write YAML")?
            }
            Self::Table | Self::Token => text(),
        })
    }
}

/// Formats the line for a successful change.
pub(crate) fn success(done: impl Display) -> String {
    let is_plain = AutoStream::choice(&io::stdout()) == ColorChoice::Never;
    let mark = if is_plain { "[SUCCESS]" } else { "✅" };
    format!("{mark} {done}\n")
}

/// Writes to stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    write_stdout(text).map_err(|error| {
        let kind = match error.kind() {
            ErrorKind::BrokenPipe => FailureKind::BrokenPipe,
            _ => FailureKind::Rejected,
        };
        Failure::context(kind, "cannot write the result", &error)
    })
}

/// Whether notes are hidden.
static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// Hides [notes](eprint_note) from now on.
pub(crate) fn hide_notes() {
    IS_QUIET.store(true, Ordering::Relaxed);
}

/// Writes a note for people to stderr, unless notes are [hidden](hide_notes). Failures are ignored.
pub(crate) fn eprint_note(text: impl Display) {
    if !IS_QUIET.load(Ordering::Relaxed) {
        eprint_message(text);
    }
}

/// Writes an error, a warning or a prompt to stderr, even if notes are hidden. Failures are ignored.
pub(crate) fn eprint_message(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes a message to stderr, and gives up after `limit`.
pub(crate) fn eprint_message_within(limit: Duration, text: impl Display) {
    let text = format!("{text}\n");
    let _ = within(limit, move || io::stderr().write_all(text.as_bytes()));
}

/// Writes a line to stdout.
///
/// # Errors
///
/// Returns an error if the line cannot be written within `limit`.
pub(crate) fn print_within(limit: Duration, line: &str) -> io::Result<()> {
    let line = format!("{line}\n");
    within(limit, move || write_stdout(&line))
}

fn write_stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// A write to a full pipe without a reader blocks, so a separate thread makes it.
fn within(
    limit: Duration,
    write: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let (sender, written) = channel();
    let thread = thread::Builder::new().name("output".to_owned());
    thread.spawn(move || sender.send(write()))?;
    written.recv_timeout(limit).unwrap_or_else(|error| {
        Err(match error {
            RecvTimeoutError::Timeout => ErrorKind::TimedOut.into(),
            RecvTimeoutError::Disconnected => io::Error::other("the write did not end"),
        })
    })
}
