use serde_json::{Map, Value, json};

use super::update::say_when;
use crate::args::RotateArgs;
use crate::failure::{Failure, FailureKind};
use crate::output::{Format, SecretFile, json as as_json, note, print, success, yaml};
use crate::tokens::{IfMissing, Issued, Tokens};

pub(super) async fn run(args: &RotateArgs, output: Format) -> Result<(), Failure> {
    let id = args.id.read()?;
    let file = args.file.open()?;
    let tokens = Tokens::open(&args.access, IfMissing::Fail).await?;
    let issued = tokens.rotate(id.id, args.grace).await?;
    let secret = Secret {
        issued: &issued,
        what_was_done: "rotated",
    };
    show_secret(&secret, file, output)?;
    say_when(issued.effective_within);
    Ok(())
}

/// A secret to be shown once.
pub(super) struct Secret<'a> {
    pub(super) issued: &'a Issued,
    /// To the token.
    pub(super) what_was_done: &'a str,
}

/// Shows the secret, or writes it to the file and shows the rest. If that fails, the secret is
/// lost, and the failure says how to get another.
pub(super) fn show_secret(
    secret: &Secret<'_>,
    file: Option<SecretFile>,
    output: Format,
) -> Result<(), Failure> {
    let Issued {
        secret: text,
        token,
        ..
    } = secret.issued;
    let is_kept = file.is_some();
    let kept = file.map_or(Ok(()), |file| {
        file.finish(&format!("{}\n", text.expose_secret()))
    });
    let shown = kept.and_then(|()| print(&result(secret, is_kept, output)?));
    if let Err(failure) = shown {
        if is_kept && failure.kind() == FailureKind::BrokenPipe {
            return Err(failure);
        }
        let message = format!(
            "the token {} was {}, but its secret is lost: {}",
            token.id,
            secret.what_was_done,
            failure.message()
        );
        let hint = format!("`svctok rotate {}` makes another secret", token.id);
        return Err(Failure::refused(message).with_hint(hint));
    }
    if is_kept {
        note("The secret is in the file. It is not possible to see it again.");
    } else {
        note("The secret is only displayed once. It is not possible to see it again.");
    }
    Ok(())
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
    data.insert("service_token".to_owned(), json!(token));
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
