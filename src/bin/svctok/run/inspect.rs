use serde_json::json;
use tower_service_token::token::{TokenFormat, TokenShape};

use crate::args::InspectArgs;
use crate::failure::Failure;
use crate::output::{Format, details};

pub(super) fn run(args: &InspectArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let format = args
        .prefixes
        .iter()
        .try_fold(TokenFormat::default(), |format, prefix| {
            let accepted = TokenFormat::new(prefix);
            let format = accepted.map(|accepted| format.with_accepted_format(&accepted));
            format.map_err(|error| Failure::usage(error.to_string()))
        })?;
    let token = args.input.read()?;
    let text = token.as_presented_token()?;
    let text = text.expose_secret();
    match format.inspect(text) {
        TokenShape::WellFormed(id) => {
            let (decimal, hint) = (id.as_i64(), format.redact(text));
            let prefix = hint.split(&id.to_string()).next().unwrap_or_default();
            let data = json!({
                "id": id.to_string(),
                "decimal_id": decimal,
                "prefix": prefix,
                "checksum": "good",
                "hint": hint,
            });
            output.show(&data, || {
                details([
                    ("ID", id.to_string()),
                    ("DECIMAL ID", decimal.to_string()),
                    ("PREFIX", prefix.to_owned()),
                    ("CHECKSUM", "good".to_owned()),
                    ("HINT", hint.clone()),
                ])
            })
        }
        TokenShape::Damaged => Err(Failure::refused(
            "the checksum is wrong: a character is mistyped, or the token is made up",
        )
        .with_hint("copy the token again, all of it")),
        TokenShape::Unrecognized => Err(Failure::refused(
            "this is not of the form of our tokens: it was made elsewhere, or is cut off",
        )
        .with_hint("name its prefix by --prefix, or ask a store or a server by `svctok verify`")),
    }
}
