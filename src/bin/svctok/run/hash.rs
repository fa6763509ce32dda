use serde_json::json;
use tower_service_token::digest::TokenDigest;

use crate::args::HashArgs;
use crate::failure::Failure;
use crate::output::Format;

pub(super) fn run(args: &HashArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let token = args.input.read()?;
    let digest = TokenDigest::of(token.as_presented_token()?.expose_secret()).to_string();
    output.show(&json!({ "digest": digest }), || format!("{digest}\n"))
}
