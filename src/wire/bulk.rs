use serde::{Deserialize, Deserializer, Serialize, de};

use super::filter::Filter;
#[cfg(feature = "api")]
use super::schema;
use crate::lifecycle::BulkPreview;
use crate::token::TokenId;

/// The body of a bulk revocation.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema), schema(as = ServiceTokenBulkRequest))]
pub(crate) struct BulkRequest {
    /// The tokens to revoke. Without a condition, all of them.
    pub(crate) filter: Option<Filter>,
    /// Only counts the tokens.
    pub(crate) dry_run: Option<bool>,
    /// The number of matching tokens. If it differs, nothing is revoked. Required if more than 100
    /// tokens match, more than half of those neither revoked nor expired, or the caller's own.
    #[serde(default, deserialize_with = "count")]
    pub(crate) expect: Option<usize>,
}

/// The response to a dry run of a bulk revocation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema), schema(as = ServiceTokenBulkPreview))]
pub struct BulkPreviewResponse {
    /// The number of matching tokens.
    count: usize,
    #[cfg_attr(feature = "api", schema(schema_with = schema::always_true))]
    dry_run: bool,
    /// Whether no other valid token could administer tokens afterwards. If so, the call is refused
    /// with 409 `last_admin`.
    ends_administration: bool,
    /// The number of matching tokens that the caller may not revoke. If it is not 0, the call is
    /// refused. Without a scope that reads tokens it is at most 1, and the other members do not
    /// include these tokens.
    forbidden: usize,
    /// Whether the call needs `expect`.
    needs_expect: bool,
    /// Up to 100 of the matching tokens, the oldest first.
    #[cfg_attr(feature = "api", schema(schema_with = schema::ids))]
    sample: Vec<String>,
}

/// The response to a bulk revocation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema), schema(as = ServiceTokenBulkRevocation))]
pub struct BulkRevocationResponse {
    #[cfg_attr(feature = "api", schema(schema_with = schema::always_false))]
    dry_run: bool,
    /// The tokens that the call revoked.
    #[cfg_attr(feature = "api", schema(schema_with = schema::ids))]
    ids: Vec<String>,
    /// The number of matching tokens still to be revoked. If it is not 0, repeat the call with this
    /// number as `expect`.
    remaining: usize,
    /// The number of tokens that the call revoked.
    #[serde(default)]
    #[cfg_attr(feature = "api", schema(required))]
    revoked: usize,
}

impl BulkRevocationResponse {
    /// Creates the response of a call that revoked these tokens.
    pub fn new(ids: &[TokenId], remaining: usize) -> Self {
        Self {
            dry_run: false,
            ids: texts(ids),
            remaining,
            revoked: ids.len(),
        }
    }

    /// Returns the tokens and the number of remaining ones, or the reason why the response is
    /// invalid.
    #[cfg(feature = "client")]
    pub(crate) fn parse(&self) -> Result<(Vec<TokenId>, usize), &'static str> {
        if self.dry_run {
            return Err("the server made a dry run and revoked nothing");
        }
        Ok((ids(&self.ids)?, self.remaining))
    }
}

impl From<&BulkPreview> for BulkPreviewResponse {
    fn from(preview: &BulkPreview) -> Self {
        Self {
            count: preview.count,
            dry_run: true,
            ends_administration: preview.ends_administration,
            forbidden: preview.forbidden,
            needs_expect: preview.needs_expect,
            sample: texts(&preview.sample),
        }
    }
}

impl TryFrom<BulkPreviewResponse> for BulkPreview {
    type Error = &'static str;

    fn try_from(response: BulkPreviewResponse) -> Result<Self, &'static str> {
        if !response.dry_run {
            return Err("the server made no dry run");
        }
        Ok(Self {
            count: response.count,
            sample: ids(&response.sample)?,
            forbidden: response.forbidden,
            needs_expect: response.needs_expect,
            ends_administration: response.ends_administration,
        })
    }
}

fn texts(ids: &[TokenId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn ids(texts: &[String]) -> Result<Vec<TokenId>, &'static str> {
    let ids: Result<_, _> = texts.iter().map(|id| id.parse()).collect();
    ids.map_err(|_| "the response has a malformed token id")
}

/// JSON Schema counts `5.0` as an integer, and some clients send it.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let not_a_count = || de::Error::custom("not a count");
    let number = Option::<f64>::deserialize(deserializer).map_err(|_| not_a_count())?;
    let count = number.map(|number| number.to_string().parse());
    count.transpose().map_err(|_| not_a_count())
}
