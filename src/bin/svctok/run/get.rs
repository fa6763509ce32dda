use crate::args::GetArgs;
use crate::failure::Failure;
use crate::output::{Format, TokenData, token_details};
use crate::tokens::{IfMissing, Tokens};

pub(super) async fn run(args: &GetArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let token = args.id.read_or_self()?;
    let tokens = Tokens::open(&args.access, IfMissing::Fail).await?;
    let found = tokens.get(token).await;
    tokens.close().await;
    let token = found?;
    output.show(&TokenData::from(&token), || token_details(&token))
}
