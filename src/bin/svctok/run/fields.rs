use tower_service_token::lifecycle::{Expiry, NewToken, TokenUpdate};

use crate::args::{ExpiryArgs, FieldArgs, UpdateFieldArgs};

pub(super) fn new_token(name: String, fields: FieldArgs, expiry: ExpiryArgs) -> NewToken {
    let new = NewToken::new(name)
        .with_roles(names(fields.roles.unwrap_or_default()))
        .with_scopes(names(fields.scopes.unwrap_or_default()));
    let new = with(new, expiry.specified(), NewToken::with_expiry);
    let new = with(new, fields.not_before, NewToken::with_not_before);
    let new = with(new, fields.description, NewToken::with_description);
    let new = with(new, fields.subject, NewToken::with_subject);
    let new = with(new, fields.owner, NewToken::with_owner);
    let labels = fields.labels.into_iter();
    labels.fold(new, |new, (key, value)| new.with_label(key, value))
}

pub(super) fn token_update(args: UpdateFieldArgs, expiry: ExpiryArgs) -> TokenUpdate {
    let removed = |is_removed: bool| is_removed.then_some(());
    let fields = args.fields;
    let never = args.no_expiration.then_some(Expiry::NEVER);
    let expiry = expiry.specified().or(never);
    let update = with(TokenUpdate::new(), args.name, TokenUpdate::with_name);
    let update = with(update, fields.roles.map(names), TokenUpdate::with_roles);
    let update = with(update, fields.scopes.map(names), TokenUpdate::with_scopes);
    let update = with(update, expiry, TokenUpdate::with_expiry);
    let update = with(update, fields.not_before, TokenUpdate::with_not_before);
    let update = with(update, removed(args.no_not_before), |update, ()| {
        update.without_not_before()
    });
    let update = with(update, fields.description, TokenUpdate::with_description);
    let update = with(update, removed(args.no_description), |update, ()| {
        update.without_description()
    });
    let update = with(update, fields.subject, TokenUpdate::with_subject);
    let update = with(update, removed(args.no_subject), |update, ()| {
        update.without_subject()
    });
    let update = with(update, fields.owner, TokenUpdate::with_owner);
    let update = with(update, removed(args.no_owner), |update, ()| {
        update.without_owner()
    });
    let removed_labels = args.removed_labels.into_iter();
    let update = removed_labels.fold(update, TokenUpdate::without_label);
    let labels = fields.labels.into_iter();
    labels.fold(update, |update, (key, value)| update.with_label(key, value))
}

impl ExpiryArgs {
    pub(super) fn specified(self) -> Option<Expiry> {
        self.expiration.or(self.expires_in)
    }
}

/// Sets a field if there is a value.
fn with<T, V>(target: T, value: Option<V>, set: impl FnOnce(T, V) -> T) -> T {
    match value {
        Some(value) => set(target, value),
        None => target,
    }
}

/// Trims the names of a list and drops empty ones, so that `""` is an empty list.
fn names(texts: Vec<String>) -> Vec<String> {
    let names = texts.into_iter().map(|text| text.trim().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}
