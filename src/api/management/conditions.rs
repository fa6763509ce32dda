use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::super::caller::Caller;
use super::endpoints::Shared;
use super::if_match;
use super::problem::Problem;
use crate::lifecycle::{LifecycleError, ServiceTokens};
use crate::principal::Requirement;
use crate::token::TokenId;

/// The query parameter that confirms a change after which no token may administer.
const LAST_ADMIN: &str = "last_admin";

/// Who changes a token, and under which conditions.
pub(super) struct Conditions {
    caller: Caller,
    revisions: Option<Vec<u64>>,
    may_end_last_admin: bool,
}

impl FromRequestParts<Arc<Shared>> for Conditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Shared>) -> Result<Self, Problem> {
        Ok(Self {
            caller: Caller::from_request_parts(parts, state).await?,
            revisions: if_match::revisions(&parts.headers)?,
            may_end_last_admin: confirms_last_admin(parts.uri.query().unwrap_or_default())?,
        })
    }
}

impl Conditions {
    /// Authenticates the caller again and returns the tokens as it may change them. Call it once the
    /// body is read. Without an id, the changed token is the caller's own.
    pub(super) async fn tokens(
        self,
        shared: &Shared,
        id: Option<TokenId>,
        requirement: Option<Requirement>,
    ) -> Result<(ServiceTokens, TokenId), Problem> {
        let mut tokens = shared.tokens_for(self.caller, requirement).await?;
        let id = if let Some(id) = id {
            id
        } else {
            let own = tokens.own_record().await;
            own.map_err(|error| shared.refused(error))?.id()
        };
        if self.may_end_last_admin {
            tokens = tokens.allow_last_admin_removal();
        }
        if let Some(revisions) = self.revisions {
            let record = tokens.get(id).await;
            let record = record.map_err(|error| shared.refused(error))?;
            if !revisions.contains(&record.revision()) {
                return Err(shared.refused(LifecycleError::RevisionMismatch));
            }
            tokens = tokens.if_revision(record.revision());
        }
        Ok((tokens, id))
    }
}

fn confirms_last_admin(query: &str) -> Result<bool, Problem> {
    let parameters = form_urlencoded::parse(query.as_bytes());
    let mut values = parameters.filter(|(name, _)| name == LAST_ADMIN);
    match (
        values.next().as_ref().map(|(_, value)| &**value),
        values.next(),
    ) {
        (None | Some("false"), None) => Ok(false),
        (Some("true"), None) => Ok(true),
        _ => Err(Problem::malformed(
            "last_admin is true or false, and given once",
        )),
    }
}
