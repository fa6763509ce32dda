//! The command line.
#![expect(
    clippy::doc_markdown,
    reason = "these texts are the help, which has no backticks"
)]

mod access;
mod check;
mod context;
mod filter;
mod help;
mod serve;
mod service_token;
mod value;

use clap::{Parser, Subcommand};

pub(crate) use self::access::{AccessArgs, TargetArgs, TokenArgs, TokenInputArgs};
pub(crate) use self::check::{
    CompletionsArgs, InspectArgs, ManArgs, Scanner, ScannerRulesArgs, VerifyArgs,
};
pub(crate) use self::context::{ContextArgs, ContextCommand, NameArgs, SaveArgs};
pub(crate) use self::filter::FilterArgs;
pub(crate) use self::help::command;
pub(crate) use self::serve::{LogFormat, MetricsListen, ServeArgs};
pub(crate) use self::service_token::{
    ChangeArgs, CreateArgs, DeleteArgs, ExpiryArgs, FieldArgs, GetArgs, IdArgs, ListArgs,
    RotateArgs, SecretFileArgs, ServiceTokenArgs, TokenCommand, UpdateArgs, UpdateFieldArgs,
};
use crate::output::Format;

/// Manage service tokens, and run a token service
#[derive(Debug, Parser)]
#[command(name = "svctok", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// The output format; token prints only the new secret
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    #[arg(default_value_t)]
    pub(crate) output: Format,
    /// Print no notes to stderr, only errors and warnings
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Here as well, so that these flags may precede the command.
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print a shell completion script
    Completions(CompletionsArgs),
    /// Manage saved servers and stores
    ///
    /// With flags instead of a command it is the same as `svctok context save`.
    Context(ContextArgs),
    /// Print the digest of a token for use in a token file
    ///
    /// Reads the token from stdin unless an option specifies it.
    Hash(TokenInputArgs),
    /// Decode a token offline: prefix, id and checksum
    ///
    /// Reads the token from stdin unless an option specifies it.
    Inspect(InspectArgs),
    /// Print the manual
    Man(ManArgs),
    /// Print rules that make secret scanners detect tokens
    ScannerRules(ScannerRulesArgs),
    Serve(ServeArgs),
    /// The same commands, spelled as by the sts tool
    #[command(about = "Manage service tokens.", hide = true)]
    ServiceToken(ServiceTokenArgs),
    /// Check whether a token is accepted
    ///
    /// Reads the token from stdin unless an option specifies it; `SVCTOK_TOKEN` and the token of the
    /// context are not used. The exit code is 0 if the token is accepted, 1 if it is rejected, and 4
    /// if the server or store is unreachable.
    Verify(VerifyArgs),
    #[command(flatten)]
    Short(TokenCommand),
}
