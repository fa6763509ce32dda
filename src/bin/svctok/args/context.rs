use clap::{Arg, Args, Subcommand};

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
    #[command(mut_arg("name", required))]
    Delete(NameArgs),
    /// List all contexts
    List,
    /// Validate and save a context, and make it the current one
    Save(SaveArgs),
    /// Make a context the current one
    #[command(mut_arg("name", required))]
    Set(NameArgs),
    /// Show a context without its token
    Show(NameArgs),
    /// Check that a context works
    Validate(NameArgs),
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

fn required(name: Arg) -> Arg {
    name.required_unless_present("name_flag")
        .help("The name of the context")
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The name of the context [default: the current context]
    #[arg(value_name = "NAME", conflicts_with = "name_flag")]
    name: Option<String>,
    /// The same as the argument
    #[arg(id = "name_flag", long = "name", value_name = "NAME", hide = true)]
    name_flag: Option<String>,
}

impl NameArgs {
    pub(crate) fn into_name(self) -> Option<String> {
        self.name.or(self.name_flag)
    }
}
