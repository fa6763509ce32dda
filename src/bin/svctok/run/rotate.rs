use serde_json::{Map, Value, json};

use super::update::say_when;
use crate::args::RotateArgs;
use crate::failure::Failure;
use crate::output::{Format, SecretFile, TokenData, json as as_json, note, print, success, yaml};
use crate::tokens::{IfMissing, Issued, Tokens};

pub(super) async fn run(args: &RotateArgs, output: Format) -> Result<(), Failure> {
    let token = args.id.read_or_self()?;
    let file = args.file.open()?;
    let tokens = Tokens::open(&args.access, IfMissing::Fail).await?;
    let tokens = tokens.at_revision(args.revision);
    let rotated = async {
        let issued = tokens.rotate(token, args.grace).await?;
        let secret = Secret {
            issued: &issued,
            what_was_done: "rotated",
        };
        show_secret(&secret, file, output)?;
        say_when(issued.effective_within);
        Ok(())
    };
    let rotated = rotated.await;
    tokens.close().await;
    rotated
}

/// A secret to be shown once.
pub(super) struct Secret<'a> {
    pub(super) issued: &'a Issued,
    /// To the token.
    pub(super) what_was_done: &'a str,
}

/// Shows the secret, or writes it to the file and shows the rest. If the secret gets nowhere, the
/// failure says how to get another.
pub(super) fn show_secret(
    secret: &Secret<'_>,
    file: Option<SecretFile>,
    output: Format,
) -> Result<(), Failure> {
    let text = secret.issued.secret.expose_secret();
    if let Some(file) = file {
        let kept = file.finish(&format!("{text}\n"));
        kept.map_err(|failure| lost(secret, &failure))?;
        let printed = result(secret, true, output).and_then(|text| print(&text));
        note("The secret is in the file. It is not possible to see it again.");
        return printed;
    }
    let shown = result(secret, false, output).and_then(|text| print(&text));
    shown.map_err(|failure| lost(secret, &failure))?;
    note("The secret is only displayed once. It is not possible to see it again.");
    Ok(())
}

fn lost(secret: &Secret<'_>, failure: &Failure) -> Failure {
    let id = secret.issued.token.id;
    let (what_was_done, why) = (secret.what_was_done, failure.message());
    Failure::refused(format!(
        "the token {id} was {what_was_done}, but its secret is lost: {why}"
    ))
    .with_hint(format!("`svctok rotate {id}` makes another secret"))
}

fn result(secret: &Secret<'_>, is_kept: bool, output: Format) -> Result<String, Failure> {
    let Issued {
        secret: text,
        token,
        ..
    } = secret.issued;
    let mut data = Map::new();
    if !is_kept {
        data.insert("token".to_owned(), json!(text.expose_secret()));
    }
    data.insert("service_token".to_owned(), json!(TokenData::from(token)));
    let data = Value::Object(data);
    Ok(match output {
        Format::Json => as_json(&data),
        Format::Yaml => yaml(&data)?,
        Format::Token if is_kept => String::new(),
        Format::Token => format!("{}\n", text.expose_secret()),
        Format::Table => {
            let id = token.id.to_string();
            let shown = if is_kept { &id } else { text.expose_secret() };
            success(format_args!(
                "Service token {}: {shown}",
                secret.what_was_done
            ))
        }
    })
}
