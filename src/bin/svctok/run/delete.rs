use serde_json::json;

use super::update::say_when;
use crate::args::TargetArgs;
use crate::failure::Failure;
use crate::output::{Format, success};
use crate::tokens::{IfMissing, Tokens};

pub(super) async fn run(args: &TargetArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let id = args.id.read()?;
    let tokens = Tokens::open(&args.access, IfMissing::Fail).await?;
    let effective_within = tokens.revoke(id.id).await?;
    let data = json!({ "id": id.id.to_string(), "state": "revoked" });
    output.show(&data, || {
        success(format_args!("Service token deleted: {}", id.text))
    })?;
    say_when(effective_within);
    Ok(())
}
