//! What may be written on the command line.
#![expect(
    clippy::doc_markdown,
    reason = "these texts are shown to people, who do not want backticks"
)]

mod access;
mod check;
mod context;
mod filter;
mod help;
mod serve;
mod service_token;
mod token;
mod value;

use clap::{Parser, Subcommand};

pub(crate) use self::access::AccessArgs;
pub(crate) use self::check::{
    CompletionsArgs, HashArgs, InspectArgs, ManArgs, Scanner, ScannerRulesArgs, VerifyArgs,
};
pub(crate) use self::context::{ContextArgs, ContextCommand, NameArgs, OptionalNameArgs, SaveArgs};
pub(crate) use self::filter::FilterArgs;
pub(crate) use self::help::command;
pub(crate) use self::serve::{LogFormat, MetricsListen, ServeArgs};
pub(crate) use self::service_token::{
    CreateArgs, DeleteArgs, DisableArgs, EnableArgs, FieldArgs, GetArgs, IdArgs, LastAdminArgs,
    ListArgs, RevisionArgs, RotateArgs, SecretFileArgs, ServiceTokenArgs, TokenCommand, UpdateArgs,
};
pub(crate) use self::token::{TokenArgs, TokenInputArgs};
use crate::output::Format;

/// Manage service tokens, and run the service that keeps them.
#[derive(Debug, Parser)]
#[command(name = "svctok", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What the result is written as; token is the secret alone
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value_t
    )]
    pub(crate) output: Format,
    /// Here as well, so that these flags may stand before the command.
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print what completes commands in a shell
    Completions(CompletionsArgs),
    /// Manage the servers that this tool knows
    ///
    /// With flags alone it does what `svctok context save` does.
    Context(ContextArgs),
    /// Print the digest of a token, for a file of tokens
    ///
    /// The token is read from stdin.
    Hash(HashArgs),
    /// Tell what the text of a token says, without asking anyone
    ///
    /// The token is read from stdin.
    Inspect(InspectArgs),
    /// Print the manual
    Man(ManArgs),
    /// Print rules by which secret scanners find tokens
    ScannerRules(ScannerRulesArgs),
    Serve(ServeArgs),
    /// Manage service tokens
    #[command(about = "Manage service tokens.")]
    ServiceToken(ServiceTokenArgs),
    /// Ask whether a token is good
    ///
    /// The token is read from stdin. The exit code is 0 if it is good, 1 if it is refused, and 4 if
    /// nobody could be asked.
    Verify(VerifyArgs),
    #[command(flatten)]
    Short(TokenCommand),
}
