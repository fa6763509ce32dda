//! `svctok`: manages service tokens from the command line.

#![warn(clippy::unwrap_used)]

mod args;
mod context;
mod environment;
mod failure;
mod marker;
mod output;
mod run;
mod secret;
mod serve;
mod store_handle;
mod store_url;
mod target;
mod token_input;
mod tokens;

use std::process::ExitCode;
use std::time::Duration;

use clap::FromArgMatches;

use self::args::{Cli, Command};
use self::failure::FailureKind;

/// How long a failed service waits for stderr to accept its error.
const STDERR_TIMEOUT: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    environment::restart_without_empty_postgres_variables();
    let parsed = args::command()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return print_clap_error(&error),
    };
    let is_service = matches!(cli.command, Command::Serve(_));
    match run::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if is_service => {
            output::eprint_message_within(STDERR_TIMEOUT, &failure);
            failure.exit_code()
        }
        Err(failure) => {
            if failure.kind() != FailureKind::BrokenPipe {
                output::eprint_message(&failure);
            }
            failure.exit_code()
        }
    }
}

/// Prints the help, or the error in the command line without the secrets in it.
fn print_clap_error(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let text = secret::redact_secrets(&error.render().to_string());
        output::eprint_message(text.trim_end());
    } else {
        // The reader may have closed the pipe.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
