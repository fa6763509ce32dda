use std::env;
use std::fmt::Write;

use clap::builder::Resettable;
use clap::{Arg, Command, CommandFactory};

use super::Cli;

const ENVIRONMENT: &str = "\
Environment:
  SVCTOK_TOKEN    the token to authenticate with, unless a flag specifies one
  SVCTOK_URL      the server, unless a flag specifies one
  SVCTOK_STORE    the store, unless a flag specifies one
  SVCTOK_CONTEXT  the context, unless a server or a store is specified
  SVCTOK_CONFIG   the contexts file [default: $XDG_CONFIG_HOME/svctok/config.toml]
  SSL_CERT_FILE   a PEM file of root certificates that replaces those of the system
An empty variable counts as unset.

Exit codes:
  0  success
  1  the request was rejected, or the token is not valid
  2  invalid command line
  3  the server failed
  4  no connection, or the credential was not accepted

";

/// Returns the command line with its help.
pub(crate) fn command() -> Command {
    // The flags of `AccessArgs` may precede the command; the help of each command has them.
    let command = Cli::command().mut_args(|arg| match arg.get_help_heading() {
        Some("Access" | "Token") => arg.global(true).hide(true),
        _ => arg,
    });
    // The template is for `--help`, the text after the help for the manual.
    with_help(command, "svctok", ENVIRONMENT).after_help(ENVIRONMENT)
}

/// Sets the help of a command with subcommands, and of those.
fn with_help(command: Command, path: &str, more: &str) -> Command {
    let names = command.get_subcommands().map(Command::get_name);
    let names: Vec<String> = names.map(str::to_owned).collect();
    let command = names.iter().fold(command, |command, name| {
        let path = format!("{path} {name}");
        command.mut_subcommand(name, |it| {
            // `svctok context` with flags is another spelling of `svctok context save`.
            let is_hidden = it.has_subcommands();
            let it = it.mut_args(|arg| {
                let hide = is_hidden || arg.is_hide_set();
                without_empty_variable(arg).hide(hide)
            });
            with_help(it, &path, "")
        })
    });
    let Some(longest) = names.iter().map(String::len).max() else {
        return command;
    };
    let mut template =
        format!("{{about-with-newline}}\nUsage:\n  {path} [command]\n\nAvailable Commands:\n");
    let width = longest.max(11);
    for command in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        let about = command.get_about().map(ToString::to_string);
        let about = about.unwrap_or_default();
        let _ = writeln!(template, "  {:<width$} {about}", command.get_name());
    }
    if command.get_arguments().any(|it| !it.is_hide_set()) {
        template.push_str("\nFlags:\n{options}\n");
    }
    let end = format!("Use \"{path} [command] --help\" for more information about a command.");
    command.help_template(template + "\n" + more + &end)
}

/// Removes the variable of a flag if it is set to nothing, which clap takes for a value.
fn without_empty_variable(arg: Arg) -> Arg {
    let value = arg.get_env().and_then(env::var_os);
    if value.is_some_and(|value| value.is_empty()) {
        arg.env(Resettable::Reset)
    } else {
        arg
    }
}
