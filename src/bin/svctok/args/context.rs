use clap::{Args, Subcommand};

use super::AccessArgs;

/// With flags alone it saves.
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
    /// List the contexts
    List,
    /// Check a context, save it and use it from now on
    Save(SaveArgs),
    /// Use another context from now on
    Set(NameArgs),
    /// Show a context, without its token
    Show(OptionalNameArgs),
    /// Check that a context works
    Validate(OptionalNameArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// The name of the context: letters, digits, `.`, `_` and `-`
    #[arg(long, required = true)]
    pub(crate) name: Option<String>,
    /// Saves without asking the server or the store
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
    /// The name, as a flag
    #[arg(id = "name_flag", long = "name", value_name = "NAME")]
    pub(crate) name_flag: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct OptionalNameArgs {
    /// The name of the context [default: the one in use]
    #[arg(value_name = "NAME", conflicts_with = "name_flag")]
    pub(crate) name: Option<String>,
    /// The name, as a flag
    #[arg(id = "name_flag", long = "name", value_name = "NAME")]
    pub(crate) name_flag: Option<String>,
}
