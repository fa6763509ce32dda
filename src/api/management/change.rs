use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::super::caller::Caller;
use super::super::outcome::effective;
use super::super::path_text::PathText;
use super::body;
use super::conditions::Conditions;
use super::endpoints::{Shared, id, json as answer};
use super::fields::{Fields, Given};
use super::problem::Problem;
use crate::lifecycle::{ChangedToken, IssuedToken, LifecycleError, TokenUpdate};
use crate::token::TokenId;

type Answered = Result<Response, Problem>;

pub(super) async fn show(State(shared): State<Arc<Shared>>, PathText(path): PathText) -> Answered {
    shared.show(id(&path)?).await
}

pub(super) async fn show_own(State(shared): State<Arc<Shared>>, caller: Caller) -> Answered {
    let tokens = shared.tokens_for(caller, None).await?;
    match tokens.own_record().await {
        Ok(record) => Ok(shared.one(&record)),
        Err(LifecycleError::UnknownActor) => Err(Problem::not_found()),
        Err(error) => Err(shared.refused(error)),
    }
}

pub(super) async fn update(
    State(shared): State<Arc<Shared>>,
    PathText(path): PathText,
    conditions: Conditions,
    request: Request,
) -> Answered {
    let id = id(&path)?;
    let update = token_update(body::merge_patch(request).await?)?;
    let tokens = conditions.for_token(&shared, id).await?;
    shared.changed(tokens.update(id, update).await)
}

pub(super) async fn rotate(
    State(shared): State<Arc<Shared>>,
    PathText(path): PathText,
    conditions: Conditions,
    request: Request,
) -> Answered {
    let id = id(&path)?;
    let grace = grace(request).await?;
    let tokens = conditions.for_token(&shared, id).await?;
    shared.rotated(tokens.rotate(id, grace).await)
}

pub(super) async fn rotate_own(
    State(shared): State<Arc<Shared>>,
    conditions: Conditions,
    request: Request,
) -> Answered {
    let grace = grace(request).await?;
    let (tokens, id) = conditions.for_own(&shared).await?;
    shared.rotated(tokens.rotate(id, grace).await)
}

pub(super) async fn disable(
    State(shared): State<Arc<Shared>>,
    PathText(path): PathText,
    conditions: Conditions,
) -> Answered {
    let id = id(&path)?;
    let tokens = conditions.for_token(&shared, id).await?;
    shared.changed(tokens.disable(id).await)
}

pub(super) async fn enable(
    State(shared): State<Arc<Shared>>,
    PathText(path): PathText,
    conditions: Conditions,
) -> Answered {
    let id = id(&path)?;
    let tokens = conditions.for_token(&shared, id).await?;
    shared.changed(tokens.enable(id).await)
}

pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    PathText(path): PathText,
    conditions: Conditions,
) -> Answered {
    let id = id(&path)?;
    let tokens = conditions.for_token(&shared, id).await?;
    shared.revoked(tokens.revoke(id).await)
}

pub(super) async fn revoke_own(
    State(shared): State<Arc<Shared>>,
    conditions: Conditions,
) -> Answered {
    let (tokens, id) = conditions.for_own(&shared).await?;
    shared.revoked(tokens.revoke(id).await)
}

/// How long the current secret stays valid.
async fn grace(request: Request) -> Result<Duration, Problem> {
    let mut fields = Fields::new(body::optional(request).await?);
    let grace = fields.duration("grace").value().unwrap_or(Duration::ZERO);
    fields.finish()?;
    Ok(grace)
}

impl Shared {
    async fn show(&self, id: TokenId) -> Answered {
        let record = self.tokens().get(id).await;
        let record = record.map_err(|error| self.refused(error))?;
        Ok(self.one(&record))
    }

    fn rotated(&self, issued: Result<IssuedToken, LifecycleError>) -> Answered {
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

    fn revoked(&self, changed: Result<ChangedToken, LifecycleError>) -> Answered {
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
