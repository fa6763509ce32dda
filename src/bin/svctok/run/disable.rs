use super::update::show_change;
use crate::args::DisableArgs;
use crate::failure::Failure;
use crate::output::Format;
use crate::tokens::{IfMissing, Tokens};

pub(super) async fn run(args: &DisableArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let id = args.id.read()?;
    let tokens = Tokens::open(&args.access, IfMissing::Fail).await?;
    let tokens = tokens
        .if_revision(args.revision)
        .allow_last_admin_removal(args.last_admin);
    let changed = tokens.disable(id.id).await;
    tokens.close().await;
    let changed = changed?;
    show_change(&changed, "disabled", &id.text, output)
}
