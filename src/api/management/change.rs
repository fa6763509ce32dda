use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::super::outcome::effective;
use super::super::path_text::PathText;
use super::endpoints::{Shared, id, json as answer};
use super::fields::{Fields, Given};
use super::problem::Problem;
use super::{body, if_match};
use crate::lifecycle::{ChangedToken, LifecycleError, TokenUpdate};
use crate::principal::Principal;
use crate::token::TokenId;

type Answered = Result<Response, Problem>;

pub(super) async fn show(State(shared): State<Arc<Shared>>, PathText(path): PathText) -> Answered {
    shared.show(id(&path)?).await
}

pub(super) async fn show_own(State(shared): State<Arc<Shared>>, caller: Principal) -> Answered {
    shared.show(caller.id()).await
}

pub(super) async fn update(
    State(shared): State<Arc<Shared>>,
    PathText(path): PathText,
    caller: Principal,
    request: Request,
) -> Answered {
    let id = id(&path)?;
    let revisions = if_match::revisions(request.headers())?;
    let update = token_update(body::merge_patch(request).await?)?;
    let tokens = shared.tokens_for(caller);
    let update = match revisions {
        None => update,
        Some(revisions) => {
            let record = tokens
                .get(id)
                .await
                .map_err(|error| shared.refused(error))?;
            if !revisions.contains(&record.revision()) {
                return Err(shared.refused(LifecycleError::RevisionMismatch));
            }
            update.if_revision(record.revision())
        }
    };
    shared.changed(tokens.update(id, update).await)
}

pub(super) async fn rotate(
    State(shared): State<Arc<Shared>>,
    PathText(path): PathText,
    caller: Principal,
    request: Request,
) -> Answered {
    shared.rotate(id(&path)?, caller, request).await
}

pub(super) async fn rotate_own(
    State(shared): State<Arc<Shared>>,
    caller: Principal,
    request: Request,
) -> Answered {
    shared.rotate(caller.id(), caller, request).await
}

pub(super) async fn disable(
    State(shared): State<Arc<Shared>>,
    PathText(path): PathText,
    caller: Principal,
) -> Answered {
    shared.changed(shared.tokens_for(caller).disable(id(&path)?).await)
}

pub(super) async fn enable(
    State(shared): State<Arc<Shared>>,
    PathText(path): PathText,
    caller: Principal,
) -> Answered {
    shared.changed(shared.tokens_for(caller).enable(id(&path)?).await)
}

pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    PathText(path): PathText,
    caller: Principal,
) -> Answered {
    shared.revoke(id(&path)?, caller).await
}

pub(super) async fn revoke_own(State(shared): State<Arc<Shared>>, caller: Principal) -> Answered {
    shared.revoke(caller.id(), caller).await
}

impl Shared {
    async fn show(&self, id: TokenId) -> Answered {
        let record = self.tokens().get(id).await;
        let record = record.map_err(|error| self.refused(error))?;
        Ok(self.one(&record))
    }

    async fn rotate(&self, id: TokenId, caller: Principal, request: Request) -> Answered {
        let mut fields = Fields::new(body::optional(request).await?);
        let grace = fields.duration("grace").value().unwrap_or(Duration::ZERO);
        fields.finish()?;
        let issued = self.tokens_for(caller).rotate(id, grace).await;
        let issued = issued.map_err(|error| self.refused(error))?;
        let shown = self.shown(issued.record());
        let body = json!({
            "token": issued.expose_secret(),
            "grace_ends_at": shown["grace_ends_at"],
            "service_token": shown,
        });
        let response = answer(StatusCode::OK, &body);
        Ok(effective(issued.effective_within(), response))
    }

    async fn revoke(&self, id: TokenId, caller: Principal) -> Answered {
        let changed = self.tokens_for(caller).revoke(id).await;
        let changed = changed.map_err(|error| self.refused(error))?;
        let response = StatusCode::NO_CONTENT.into_response();
        Ok(effective(changed.effective_within, response))
    }

    fn changed(&self, changed: Result<ChangedToken, LifecycleError>) -> Answered {
        let changed = changed.map_err(|error| self.refused(error))?;
        Ok(effective(
            changed.effective_within,
            self.one(&changed.record),
        ))
    }
}

fn token_update(members: Map<String, Value>) -> Result<TokenUpdate, Problem> {
    let mut fields = Fields::new(members);
    let mut update = TokenUpdate::new();
    match fields.text("name") {
        Given::Absent => {}
        Given::Null => fields.problem("name", "a token has a name"),
        Given::Value(name) => update = update.with_name(name),
    }
    update = match fields.text("description") {
        Given::Absent => update,
        Given::Null => update.without_description(),
        Given::Value(text) => update.with_description(text),
    };
    update = match fields.text("subject") {
        Given::Absent => update,
        Given::Null => update.without_subject(),
        Given::Value(text) => update.with_subject(text),
    };
    update = match fields.texts("roles") {
        Given::Absent => update,
        given => update.with_roles(given.value().unwrap_or_default()),
    };
    update = match fields.texts("scopes") {
        Given::Absent => update,
        given => update.with_scopes(given.value().unwrap_or_default()),
    };
    update = labels(&mut fields, update);
    update = match fields.time("not_before") {
        Given::Absent => update,
        Given::Null => update.without_not_before(),
        Given::Value(time) => update.with_not_before(time),
    };
    if let Some(expiry) = fields.expiry() {
        update = update.with_expiry(expiry);
    }
    fields.finish()?;
    Ok(update)
}

/// Patched one by one, as RFC 7396 has it.
fn labels(fields: &mut Fields, mut update: TokenUpdate) -> TokenUpdate {
    match fields.object("labels") {
        Given::Absent => {}
        Given::Null => update = update.without_labels(),
        Given::Value(labels) => {
            for (key, value) in labels {
                update = match value {
                    Value::String(value) => update.with_label(key, value),
                    Value::Null => update.without_label(key),
                    _ => {
                        fields.problem("labels", "not an object of strings");
                        update
                    }
                };
            }
        }
    }
    update
}
