use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::header::IF_MATCH;
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::problem::Problem;
use super::state::HandlerState;
use crate::api::caller::Caller;
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
            revisions: revisions(&parts.headers)?,
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
        if let Some(revisions) = self.revisions {
            tokens = tokens.if_one_of_revisions(revisions);
        }
        Ok((tokens, id))
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

/// The precondition of a change to the list of tokens. The list has no entity tag, so none matches.
pub(super) struct ListCondition;

impl FromRequestParts<Arc<HandlerState>> for ListCondition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<HandlerState>) -> Result<Self, Problem> {
        if revisions(&parts.headers)?.is_none() {
            return Ok(Self);
        }
        let detail = "a list of tokens has no entity tag, so no tag in If-Match matches";
        Err(Problem::new(StatusCode::PRECONDITION_FAILED, detail))
    }
}

/// Returns the revisions in `If-Match` (RFC 9110 §13.1.1), or `None` for any. Weak tags and tags of
/// other servers match no revision.
pub(super) fn revisions(headers: &HeaderMap) -> Result<Option<Vec<u64>>, Problem> {
    let malformed = || Problem::malformed("if-match is not a list of entity tags");
    let mut revisions = Vec::new();
    let mut values = headers.get_all(IF_MATCH).iter().peekable();
    if values.peek().is_none() {
        return Ok(None);
    }
    for value in values {
        let text = value.to_str().map_err(|_| malformed())?.trim();
        if text == "*" {
            return Ok(None);
        }
        let tags = entity_tags(text).filter(|tags| !tags.is_empty());
        let strong = tags.ok_or_else(malformed)?.into_iter().flatten();
        revisions.extend(strong.filter_map(revision));
    }
    Ok(Some(revisions))
}

/// Returns the revision of an entity tag as this server writes it: `+1` and `01` are other tags.
fn revision(tag: &str) -> Option<u64> {
    let revision: u64 = tag.parse().ok()?;
    (revision.to_string() == tag).then_some(revision)
}

/// Returns the text of each tag of a list, `None` for a weak one (RFC 9110 §8.8.3). A tag may
/// contain a comma.
fn entity_tags(text: &str) -> Option<Vec<Option<&str>>> {
    let mut tags = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let weak = rest.strip_prefix("W/");
        let (tag, after) = weak.unwrap_or(rest).strip_prefix('"')?.split_once('"')?;
        if tag.contains([' ', '\t']) {
            return None;
        }
        tags.push(weak.is_none().then_some(tag));
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<Option<Vec<u64>>, ()> {
        let values = values.iter().map(|value| value.parse());
        let headers = values.map(|value| (IF_MATCH, value.expect("a header's value")));
        revisions(&headers.collect()).map_err(drop)
    }

    #[test]
    fn reads_tags_from_lists_and_repeated_headers() {
        for (values, expected) in [
            (&[][..], None),
            (&["*"], None),
            (&["\"1\""], Some(vec![1])),
            (&["\"1\" , \"2\",\"x\""], Some(vec![1, 2])),
            (&["\"1\"", "\"2\""], Some(vec![1, 2])),
            (&["W/\"1\", \"2\""], Some(vec![2])),
            (&["\"1,2\""], Some(vec![])),
            (&["\"\""], Some(vec![])),
            (&["\"+1\", \"01\", \"-0\""], Some(vec![])),
        ] {
            assert_eq!(of(values), Ok(expected), "{values:?}");
        }
    }

    #[test]
    fn rejects_malformed_tags() {
        for value in [
            "",
            "1",
            "\"1",
            "1\"",
            "\"1\" \"2\"",
            "\"1\"2",
            "w/\"1\"",
            "\"1 2\"",
            ",\"1\"",
        ] {
            assert_eq!(of(&[value]), Err(()), "{value}");
        }
    }
}
