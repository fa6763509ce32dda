use serde_json::json;

use crate::args::ListArgs;
use crate::failure::Failure;
use crate::output::{Format, token_table};
use crate::tokens::{IfMissing, Listing, Tokens};

pub(super) async fn run(args: ListArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let tokens = Tokens::open(&args.access, IfMissing::Fail).await?;
    let filter = args.filter.into_filter();
    let listing = Listing {
        include_revoked: args.all || filter.status.is_some(),
        filter,
        limit: args.limit,
    };
    let listed = tokens.list(&listing).await;
    tokens.close().await;
    let tokens = listed?;
    output.show(&json!({ "service_tokens": tokens }), || {
        token_table(&tokens)
    })
}
