use std::fmt::Write;

use clap::{Command, CommandFactory};

use super::Cli;

const ENVIRONMENT: &str = "\
Environment:
  SVCTOK_TOKEN    the token to work with, when no flag names one
  SVCTOK_URL      the server, when no flag names one
  SVCTOK_STORE    the store, when no flag names one
  SVCTOK_CONTEXT  the context, when nothing else names a server or a store
  SVCTOK_CONFIG   the file of the contexts, when not svctok/config.toml below $XDG_CONFIG_HOME
  SSL_CERT_FILE   the certificates to trust, PEM, in place of the system's

Exit codes:
  0  done
  1  refused, or not valid
  2  the command line makes no sense
  3  the server answered with an error of its own
  4  no connection, or no credential that is accepted

";

/// The names of the flags that may stand before the command.
const ACCESS_FLAGS: [&str; 6] = [
    "url",
    "store",
    "context",
    "service_token",
    "service_token_file",
    "service_token_stdin",
];

/// The command line, with its help.
pub(crate) fn command() -> Command {
    let command = Cli::command().mut_args(|arg| {
        if ACCESS_FLAGS.contains(&arg.get_id().as_str()) {
            arg.global(true).hide(true)
        } else {
            arg
        }
    });
    // The template tells it to readers of the help, and the rest to those of the manual.
    with_help(command, "svctok", ENVIRONMENT).after_help(ENVIRONMENT)
}

/// Gives a command that has commands, and those below it, the help that tells of them.
fn with_help(command: Command, path: &str, more: &str) -> Command {
    let names = command.get_subcommands().map(Command::get_name);
    let names: Vec<String> = names.map(str::to_owned).collect();
    let command = names.iter().fold(command, |command, name| {
        let path = format!("{path} {name}");
        command.mut_subcommand(name, |it| with_help(it, &path, ""))
    });
    let Some(longest) = names.iter().map(String::len).max() else {
        return command;
    };
    let mut template =
        format!("{{about-with-newline}}\nUsage:\n  {path} [command]\n\nAvailable Commands:\n");
    let width = longest.max(11);
    for command in command.get_subcommands() {
        let about = command.get_about().map(ToString::to_string);
        let about = about.unwrap_or_default();
        let (name, about) = (command.get_name(), about.trim_end_matches('.'));
        let _ = writeln!(template, "  {name:<width$} {about}");
    }
    if command.get_arguments().any(|it| !it.is_hide_set()) {
        template.push_str("\nFlags:\n{options}\n");
    }
    let end = format!("Use \"{path} [command] --help\" for more information about a command.");
    command.help_template(template + "\n" + more + &end)
}
