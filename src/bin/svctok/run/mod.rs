//! The commands.

mod context;
mod delete;
mod fields;
mod id;
mod offline;
mod report;
mod service_token;
mod verify;

use futures_util::future::LocalBoxFuture;

use crate::args::{AccessArgs, Cli, Command};
use crate::failure::Failure;
use crate::output::hide_notes;
use crate::serve;

#[tokio::main]
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    command(cli).await
}

/// Boxed, because the runtime polls the future of `run` at three places, each of which would compile
/// the code of all commands.
fn command(cli: Cli) -> LocalBoxFuture<'static, Result<(), Failure>> {
    Box::pin(dispatch(cli))
}

async fn dispatch(cli: Cli) -> Result<(), Failure> {
    if cli.quiet {
        hide_notes();
    }
    let access = cli.access;
    let output = cli.output.without_secret();
    match &cli.command {
        Command::Completions(_)
        | Command::Hash(_)
        | Command::Inspect(_)
        | Command::Man(_)
        | Command::ScannerRules(_) => reject_target(&access)?,
        Command::Serve(_) => reject_server(&access)?,
        _ => {}
    }
    match cli.command {
        Command::Completions(args) => offline::completions(&args),
        Command::Context(args) => context::run(args, output?).await,
        Command::Hash(args) => offline::hash(&args, output?),
        Command::Inspect(args) => offline::inspect(&args, output?),
        Command::Man(args) => offline::man(&args),
        Command::ScannerRules(args) => offline::scanner_rules(&args),
        Command::Serve(args) => serve::serve(args).await,
        Command::ServiceToken(args) => service_token::run(args.command, cli.output).await,
        Command::Short(command) => service_token::run(command, cli.output).await,
        Command::Verify(args) => verify::run(args, output?).await,
    }
}

/// Returns an error if the flags before the command specify a server or store that it does not use.
fn reject_target(access: &AccessArgs) -> Result<(), Failure> {
    if access.target.store.is_some() {
        let message = "this command uses no store: omit --store";
        return Err(Failure::usage(message));
    }
    reject_server(access)
}

fn reject_server(access: &AccessArgs) -> Result<(), Failure> {
    if access.target.url.is_some() || access.target.context.is_some() {
        let message = "this command uses no server: omit --url and --context";
        return Err(Failure::usage(message));
    }
    Ok(())
}
