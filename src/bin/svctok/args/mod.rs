//! What may be written on the command line.

mod serve;

use clap::{Parser, Subcommand};

pub(crate) use self::serve::{LogFormat, MetricsAt, ServeArgs};

/// Manages service tokens.
#[derive(Debug, Parser)]
#[command(name = "svctok", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(ServeArgs),
}
