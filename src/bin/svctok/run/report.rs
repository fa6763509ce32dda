//! Output about changes.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::output::{Format, SecretFile, TokenData, json as as_json, note, print, success, yaml};
use crate::tokens::{Changed, Issued};

/// Shows a changed token, and when every node sees the change.
pub(super) fn show_change(
    changed: &Changed,
    action: &str,
    id: &str,
    output: Format,
) -> Result<(), Failure> {
    output.show(&TokenData::from(&changed.token), || {
        success(format_args!("Service token {action}: {id}"))
    })?;
    note_propagation(changed.effective_within);
    Ok(())
}

pub(super) fn note_propagation(effective_within: Duration) {
    match effective_within {
        Duration::ZERO => {}
        Duration::MAX => note("The server does not report when the change reaches every node."),
        within => {
            let seconds = within.as_secs_f64().ceil();
            note(format_args!(
                "The change reaches every node within {seconds} s."
            ));
        }
    }
}

/// Shows a new secret once, or writes it to the file and shows the rest. `action` is what was done
/// to the token.
///
/// If the secret cannot be written, the failure says how to get another.
pub(super) fn show_secret(
    issued: &Issued,
    action: &str,
    file: Option<SecretFile>,
    output: Format,
) -> Result<(), Failure> {
    let secret = issued.secret.expose_secret();
    let id = issued.token.id;
    let lost = |failure: Failure| {
        let why = failure.message();
        let message = format!("the token {id} was {action}, but its secret is lost: {why}");
        Failure::refused(message).with_hint(format!("`svctok rotate {id}` issues another secret"))
    };
    let Some(file) = file else {
        let text = render(issued, action, Some(secret), output);
        text.and_then(|text| print(&text)).map_err(lost)?;
        note("The secret is only displayed once. It is not possible to see it again.");
        return Ok(());
    };
    file.persist(&format!("{secret}\n")).map_err(lost)?;
    let printed = render(issued, action, None, output).and_then(|text| print(&text));
    note("The secret is in the file. It is not possible to see it again.");
    printed
}

fn render(
    issued: &Issued,
    action: &str,
    secret: Option<&str>,
    output: Format,
) -> Result<String, Failure> {
    let token = &issued.token;
    let mut data = Map::new();
    if let Some(secret) = secret {
        data.insert("token".to_owned(), json!(secret));
    }
    data.insert("service_token".to_owned(), json!(TokenData::from(token)));
    let data = Value::Object(data);
    Ok(match output {
        Format::Json => as_json(&data),
        Format::Yaml => yaml(&data)?,
        Format::Token => secret.map(|it| format!("{it}\n")).unwrap_or_default(),
        Format::Table => {
            let id = token.id.to_string();
            let shown = secret.unwrap_or(&id);
            success(format_args!("Service token {action}: {shown}"))
        }
    })
}
