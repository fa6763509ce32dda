use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::problem::Problem;
use super::state::HandlerState;
use crate::api::caller::Caller;
use crate::api::entity_tag;
use crate::api::guard::write_requirement;
use crate::lifecycle::ServiceTokens;
use crate::token::TokenId;

/// The query parameter that allows a change after which no token may administer tokens.
const LAST_ADMIN: &str = "last_admin";

/// The header in the OpenAPI document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only describes the header")]
pub(super) struct IfMatch {
    /// The `ETag` of the token. The token is changed only at that revision. Accepts several tags, or
    /// `*` (RFC 9110 §13.1.1).
    #[param(rename = "If-Match", required = false)]
    tags: String,
}

/// The query in the OpenAPI document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only describes the query")]
pub(super) struct LastAdmin {
    /// Allows a change after which no token may administer tokens. Without it, such a change is
    /// refused with 409 `last_admin`.
    #[param(required = false, default = false)]
    last_admin: bool,
}

/// The caller of a change, and the conditions of the change.
pub(super) struct Conditions {
    caller: Caller,
    revisions: Option<Vec<u64>>,
    allows_last_admin_removal: bool,
}

impl FromRequestParts<Arc<HandlerState>> for Conditions {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<HandlerState>,
    ) -> Result<Self, Problem> {
        Ok(Self {
            caller: Caller::from_request_parts(parts, state).await?,
            revisions: entity_tag::revisions(&parts.headers)?,
            allows_last_admin_removal: confirms_last_admin(parts.uri.query().unwrap_or_default())?,
        })
    }
}

impl Conditions {
    /// Authenticates the caller again, and returns the tokens with the conditions for this one. Call
    /// it after reading the body.
    ///
    /// Without an id, the token is the caller's own, which needs no scope.
    pub(super) async fn tokens(
        self,
        state: &HandlerState,
        id: Option<TokenId>,
    ) -> Result<(ServiceTokens, TokenId), Problem> {
        let failed = |error| state.change_error(error);
        let requirement = id.map(|_| write_requirement());
        let mut tokens = self.caller.tokens_to_change(state, requirement).await?;
        let id = match id {
            Some(id) => id,
            None => tokens.own_record().await.map_err(failed)?.id(),
        };
        if self.allows_last_admin_removal {
            tokens = tokens.allow_last_admin_removal();
        }
        Ok((tokens.if_one_of_revisions(self.revisions), id))
    }
}

fn confirms_last_admin(query: &str) -> Result<bool, Problem> {
    let malformed =
        || Problem::malformed("the query accepts only last_admin=true or last_admin=false");
    let mut confirmed = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = match (&*name, &*value) {
            (LAST_ADMIN, "true") => true,
            (LAST_ADMIN, "false") => false,
            _ => return Err(malformed()),
        };
        if confirmed.replace(value).is_some() {
            return Err(malformed());
        }
    }
    Ok(confirmed.unwrap_or(false))
}

/// The precondition of a change of the list of tokens, which has no entity tag.
pub(super) struct ListCondition;

impl FromRequestParts<Arc<HandlerState>> for ListCondition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<HandlerState>) -> Result<Self, Problem> {
        entity_tag::require_no_entity_tags(&parts.headers)?;
        Ok(Self)
    }
}
