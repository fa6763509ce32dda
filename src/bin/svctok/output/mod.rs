//! What is written where: results to stdout, everything said about them to stderr.

mod progress;
mod secret_file;
mod table;
mod token;

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use serde::Serialize;

pub(crate) use self::progress::Progress;
pub(crate) use self::secret_file::SecretFile;
pub(crate) use self::table::{columns, details};
pub(crate) use self::token::{TokenData, token_details, token_table};
use crate::failure::{Failure, FailureKind};

/// What a result is written as: for people, as the objects of the management API in JSON or YAML,
/// or a new secret alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    // Without docs, or the help of every command would list them line by line.
    #[default]
    Table,
    Json,
    Yaml,
    Token,
}

impl Format {
    /// For a command that makes no secret.
    pub(crate) fn without_secret(self) -> Result<Self, Failure> {
        match self {
            Self::Token => Err(Failure::usage(
                "only create and rotate have a token to print",
            )),
            format => Ok(format),
        }
    }

    /// Prints `data` if a program is to read it, else what `text` is.
    pub(crate) fn show(
        self,
        data: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        print(&match self.without_secret()? {
            Self::Json => json(data),
            Self::Yaml => yaml(data)?,
            Self::Table | Self::Token => text(),
        })
    }
}

/// A result as JSON, with a line end.
pub(crate) fn json(data: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(data);
    text.expect("what is shown has texts for keys") + "\n"
}

/// A result as YAML.
pub(crate) fn yaml(data: &impl Serialize) -> Result<String, Failure> {
    serde_saphyr::to_string(data)
        .map_err(|error| Failure::context(FailureKind::Refused, "cannot write YAML", &error))
}

/// The line that says what was done.
pub(crate) fn success(done: impl Display) -> String {
    let is_plain = AutoStream::choice(&io::stdout()) == ColorChoice::Never;
    let mark = if is_plain { "[SUCCESS]" } else { "✅" };
    format!("{mark} {done}\n")
}

/// Writes to stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    written.and_then(|()| stdout.flush()).map_err(|error| {
        let kind = match error.kind() {
            ErrorKind::BrokenPipe => FailureKind::BrokenPipe,
            _ => FailureKind::Refused,
        };
        Failure::context(kind, "cannot write the result", &error)
    })
}

/// Says something about the result. Nobody has to listen.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Does what [`note`] does, and gives up if the line is not accepted within `limit`.
pub(crate) fn note_within(limit: Duration, text: impl Display) {
    let text = format!("{text}\n");
    let _ = within(limit, move || io::stderr().write_all(text.as_bytes()));
}

/// Writes a line to stdout.
///
/// # Errors
///
/// Returns an error if the line cannot be written, or is not accepted within `limit`.
pub(crate) fn print_within(limit: Duration, line: &str) -> io::Result<()> {
    let line = format!("{line}\n");
    within(limit, move || {
        let mut stdout = io::stdout().lock();
        stdout.write_all(line.as_bytes())?;
        stdout.flush()
    })
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
