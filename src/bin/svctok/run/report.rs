//! Output about changes.

use std::time::Duration;

use serde::Serialize;
use tower_service_token::client::{ChangedTokenInfo, IssuedTokenInfo};

use crate::args::IdArgs;
use crate::failure::Failure;
use crate::output::{Format, SecretFile, TokenData, eprint_note, success};

/// Shows a changed token, and when every node sees the change.
pub(super) fn show_change(
    changed: &ChangedTokenInfo,
    action: &str,
    id: &IdArgs,
    output: Format,
) -> Result<(), Failure> {
    output.show(&TokenData::new(&changed.token), || {
        let id = id.display(changed.token.id);
        success(format_args!("Service token {action}: {id}"))
    })?;
    note_propagation(changed.effective_within);
    Ok(())
}

/// Notes when every node sees a change.
pub(super) fn note_propagation(effective_within: Duration) {
    match effective_within {
        Duration::ZERO => {}
        Duration::MAX => {
            eprint_note("The server does not report when the change reaches every node.");
        }
        within => {
            let seconds = within.as_secs_f64().ceil();
            eprint_note(format_args!(
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
    issued: &IssuedTokenInfo,
    action: &str,
    file: Option<SecretFile>,
    output: Format,
) -> Result<(), Failure> {
    let id = issued.token().id.to_string();
    let lost = |failure: Failure| {
        let why = failure.message();
        let message = format!("the token {id} was {action}, but its secret is lost: {why}");
        Failure::rejected(message).with_hint(format!("`svctok rotate {id}` issues another secret"))
    };
    let secret = issued.expose_secret();
    let is_in_file = file.is_some();
    if let Some(file) = file {
        file.persist(&format!("{secret}\n")).map_err(lost)?;
    }
    let secret = (!is_in_file).then_some(secret);
    let data = IssuedData {
        service_token: TokenData::new(issued.token()),
        token: secret,
    };
    let shown = output.show(&data, || {
        if output == Format::Token {
            return secret.map(|it| format!("{it}\n")).unwrap_or_default();
        }
        success(format_args!(
            "Service token {action}: {}",
            secret.unwrap_or(&id)
        ))
    });
    if is_in_file {
        eprint_note_for_people(
            output,
            "The secret is in the file. It is not possible to see it again.",
        );
        return shown;
    }
    shown.map_err(lost)?;
    eprint_note_for_people(
        output,
        "The secret is only displayed once. It is not possible to see it again.",
    );
    Ok(())
}

/// Notes something about a result for people. Scripts read the other formats, and may take a text on
/// stderr for a failure.
fn eprint_note_for_people(output: Format, text: &str) {
    if output == Format::Table {
        eprint_note(text);
    }
}

/// A token with a new secret in JSON and YAML output.
#[derive(Serialize)]
struct IssuedData<'a> {
    service_token: TokenData<'a>,
    /// The secret, unless it is in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}
