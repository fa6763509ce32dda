use clap::{Args, Subcommand};

use super::AccessArgs;

/// Flags without a command save a context.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(arg_required_else_help = true)]
pub(crate) struct ContextArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ContextCommand>,
    #[command(flatten)]
    pub(crate) save: SaveArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Delete a context
    Delete(NameArgs),
    /// List all contexts
    List,
    /// Validate and save a context, and make it the current one
    Save(SaveArgs),
    /// Make a context the current one
    Set(NameArgs),
    /// Show a context without its token
    Show(OptionalNameArgs),
    /// Check that a context works
    Validate(OptionalNameArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// The name of the context: letters, digits, `.`, `_` and `-`
    #[arg(long, required = true)]
    pub(crate) name: Option<String>,
    /// Save without connecting to the server or store
    #[arg(long)]
    pub(crate) skip_validate: bool,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The name of the context
    #[arg(
        value_name = "NAME",
        required_unless_present = "name_flag",
        conflicts_with = "name_flag"
    )]
    pub(crate) name: Option<String>,
    /// The same as the argument
    #[arg(id = "name_flag", long = "name", value_name = "NAME", hide = true)]
    pub(crate) name_flag: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct OptionalNameArgs {
    /// The name of the context [default: the current context]
    #[arg(value_name = "NAME", conflicts_with = "name_flag")]
    pub(crate) name: Option<String>,
    /// The same as the argument
    #[arg(id = "name_flag", long = "name", value_name = "NAME", hide = true)]
    pub(crate) name_flag: Option<String>,
}
