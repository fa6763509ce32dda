use serde_json::json;

use crate::args::ListArgs;
use crate::failure::Failure;
use crate::output::{Format, token_table};
use crate::tokens::{IfMissing, Tokens};

pub(super) async fn run(args: ListArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let tokens = Tokens::open(&args.access, IfMissing::Fail).await?;
    let tokens = tokens.list(args.filter.into_filter(), args.limit).await?;
    output.show(&json!({ "service_tokens": tokens }), || {
        token_table(&tokens)
    })
}
