//! What each command does.

mod bulk_deletion;
mod completions;
mod context;
mod create;
mod delete;
mod disable;
mod enable;
mod get;
mod hash;
mod id;
mod inspect;
mod list;
mod man;
mod rotate;
mod scanner_rules;
mod update;
mod verify;

use crate::args::{AccessArgs, Cli, Command, TokenCommand};
use crate::failure::Failure;
use crate::output::Format;
use crate::serve;

#[tokio::main]
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let Cli {
        output,
        access,
        command,
    } = cli;
    match command {
        Command::Completions(args) => reject_target(&access).and_then(|()| completions::run(&args)),
        Command::Context(args) => context::run(args, output).await,
        Command::Hash(args) => reject_target(&access).and_then(|()| hash::run(&args, output)),
        Command::Inspect(args) => reject_target(&access).and_then(|()| inspect::run(&args, output)),
        Command::Man(args) => reject_target(&access).and_then(|()| man::run(&args)),
        Command::ScannerRules(args) => {
            reject_target(&access).and_then(|()| scanner_rules::run(&args))
        }
        Command::Serve(args) => {
            reject_server(&access)?;
            serve::serve(args).await
        }
        Command::ServiceToken(args) => manage(args.command, output).await,
        Command::Short(command) => manage(command, output).await,
        Command::Verify(args) => verify::run(args, output).await,
    }
}

async fn manage(command: TokenCommand, output: Format) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(args) => create::run(args, output).await,
        TokenCommand::Delete(args) => delete::run(args, output).await,
        TokenCommand::Disable(args) => disable::run(&args, output).await,
        TokenCommand::Enable(args) => enable::run(&args, output).await,
        TokenCommand::Get(args) => get::run(&args, output).await,
        TokenCommand::List(args) => list::run(args, output).await,
        TokenCommand::Rotate(args) => rotate::run(&args, output).await,
        TokenCommand::Update(args) => update::run(args, output).await,
    }
}

/// For a command that asks no server and no store: to name one before it is a mistake.
fn reject_target(access: &AccessArgs) -> Result<(), Failure> {
    if access.store.is_some() {
        return Err(Failure::usage(
            "this command asks no store: leave out --store",
        ));
    }
    reject_server(access)
}

fn reject_server(access: &AccessArgs) -> Result<(), Failure> {
    if access.url.is_some() || access.context.is_some() {
        return Err(Failure::usage(
            "this command asks no server: leave out --url and --context",
        ));
    }
    Ok(())
}
