use crate::args::TargetArgs;
use crate::failure::Failure;
use crate::output::{Format, TokenData, token_facts};
use crate::tokens::{IfMissing, Tokens};

pub(super) async fn run(args: &TargetArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let id = args.id.read()?;
    let tokens = Tokens::open(&args.access, IfMissing::Fail).await?;
    let token = tokens.get(id.id).await?;
    output.show(&TokenData::from(&token), || token_facts(&token))
}
