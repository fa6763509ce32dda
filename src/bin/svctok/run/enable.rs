use super::update::show_change;
use crate::args::EnableArgs;
use crate::failure::Failure;
use crate::output::Format;
use crate::tokens::{IfMissing, Tokens};

pub(super) async fn run(args: &EnableArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let id = args.id.read()?;
    let tokens = Tokens::open(&args.access, IfMissing::Fail).await?;
    let tokens = tokens.if_revision(args.revision);
    let changed = tokens.enable(id.id).await;
    tokens.close().await;
    let changed = changed?;
    show_change(&changed, "enabled", &id.text, output)
}
