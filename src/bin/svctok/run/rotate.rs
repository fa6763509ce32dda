use serde_json::{Map, Value, json};

use super::update::note_propagation;
use crate::args::RotateArgs;
use crate::failure::Failure;
use crate::output::{Format, SecretFile, TokenData, json as as_json, note, print, success, yaml};
use crate::tokens::{IfMissing, Issued, Tokens};

pub(super) async fn run(args: &RotateArgs, output: Format) -> Result<(), Failure> {
    let token = args.id.read_or_self()?;
    let file = args.file.open()?;
    let tokens = Tokens::open(&args.access, IfMissing::Fail).await?;
    let tokens = tokens.if_revision(args.revision);
    let rotated = async {
        let issued = tokens.rotate(token, args.grace).await?;
        let secret = Secret {
            issued: &issued,
            action: "rotated",
        };
        show_secret(&secret, file, output)?;
        note_propagation(issued.effective_within);
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
    pub(super) action: &'a str,
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
        let written = file.persist(&format!("{text}\n"));
        written.map_err(|failure| lost_secret_failure(secret, &failure))?;
        let printed = render(secret, true, output).and_then(|text| print(&text));
        note("The secret is in the file. It is not possible to see it again.");
        return printed;
    }
    let shown = render(secret, false, output).and_then(|text| print(&text));
    shown.map_err(|failure| lost_secret_failure(secret, &failure))?;
    note("The secret is only displayed once. It is not possible to see it again.");
    Ok(())
}

fn lost_secret_failure(secret: &Secret<'_>, failure: &Failure) -> Failure {
    let id = secret.issued.token.id;
    let (action, why) = (secret.action, failure.message());
    Failure::refused(format!(
        "the token {id} was {action}, but its secret is lost: {why}"
    ))
    .with_hint(format!("`svctok rotate {id}` makes another secret"))
}

fn render(secret: &Secret<'_>, is_in_file: bool, output: Format) -> Result<String, Failure> {
    let Issued {
        secret: text,
        token,
        ..
    } = secret.issued;
    let mut data = Map::new();
    if !is_in_file {
        data.insert("token".to_owned(), json!(text.expose_secret()));
    }
    data.insert("service_token".to_owned(), json!(TokenData::from(token)));
    let data = Value::Object(data);
    Ok(match output {
        Format::Json => as_json(&data),
        Format::Yaml => yaml(&data)?,
        Format::Token if is_in_file => String::new(),
        Format::Token => format!("{}\n", text.expose_secret()),
        Format::Table => {
            let id = token.id.to_string();
            let shown = if is_in_file {
                &id
            } else {
                text.expose_secret()
            };
            success(format_args!("Service token {}: {shown}", secret.action))
        }
    })
}
