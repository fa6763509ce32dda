use std::time::Duration;

use tower_service_token::lifecycle::{Expiry, TokenUpdate};

use super::create::names;
use crate::args::UpdateArgs;
use crate::failure::Failure;
use crate::output::{Format, TokenData, note, success};
use crate::tokens::{Changed, IfMissing, Tokens};

pub(super) async fn run(args: UpdateArgs, output: Format) -> Result<(), Failure> {
    let output = output.without_secret()?;
    let id = args.id.read()?;
    let is_removal = args.no_expiration
        || args.no_not_before
        || args.no_description
        || args.no_subject
        || !args.removed_labels.is_empty();
    if args.name.is_none() && args.fields.is_empty() && !is_removal {
        return Err(Failure::usage("it is not said what to change")
            .with_hint("`svctok update --help` shows the flags for it"));
    }
    let tokens = Tokens::open(&args.access, IfMissing::Fail).await?;
    let tokens = tokens
        .if_revision(args.revision)
        .allow_last_admin_removal(args.last_admin);
    let changed = tokens.update(id.id, update(args)).await;
    tokens.close().await;
    let changed = changed?;
    show_change(&changed, "updated", &id.text, output)
}

/// Says what was done to a token, and when every node knows.
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
        Duration::MAX => note("The server does not say when every node knows."),
        within => {
            let seconds = within.as_secs_f64().ceil();
            note(format_args!("Every node knows within {seconds} s."));
        }
    }
}

fn update(args: UpdateArgs) -> TokenUpdate {
    let fields = args.fields;
    let mut update = TokenUpdate::new();
    if let Some(name) = args.name {
        update = update.with_name(name);
    }
    if let Some(roles) = fields.roles {
        update = update.with_roles(names(roles));
    }
    if let Some(scopes) = fields.scopes {
        update = update.with_scopes(names(scopes));
    }
    let never = args.no_expiration.then_some(Expiry::NEVER);
    if let Some(expiry) = fields.expiration.or(fields.expires_in).or(never) {
        update = update.with_expiry(expiry);
    }
    if let Some(start) = fields.not_before {
        update = update.with_not_before(start);
    } else if args.no_not_before {
        update = update.without_not_before();
    }
    if let Some(description) = fields.description {
        update = update.with_description(description);
    } else if args.no_description {
        update = update.without_description();
    }
    if let Some(subject) = fields.subject {
        update = update.with_subject(subject);
    } else if args.no_subject {
        update = update.without_subject();
    }
    for key in args.removed_labels {
        update = update.without_label(key);
    }
    for (key, value) in fields.labels {
        update = update.with_label(key, value);
    }
    update
}
