use std::sync::Arc;

use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode};

use super::problem::Problem;
use crate::api::body;
use crate::api::entity_tag::with_etag;
use crate::api::state::ApiState;
use crate::lifecycle::ServiceTokens;
use crate::middleware::Checker;
use crate::store::TokenRecord;
use crate::token::TokenId;
use crate::wire::{ReplayedResponse, TokenInfo};

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

pub(super) type HandlerState = ApiState<()>;
pub(super) type SharedHandlerState = Arc<HandlerState>;
pub(super) type SharedState = axum::extract::State<SharedHandlerState>;

impl HandlerState {
    pub(super) fn shared(tokens: ServiceTokens, checker: Arc<Checker>) -> Arc<Self> {
        Arc::new(Self {
            tokens,
            checker,
            extra: (),
        })
    }

    pub(super) fn info(&self, record: &TokenRecord) -> TokenInfo {
        TokenInfo::new(record, self.checker.clock.now())
    }

    /// Creates the response with one token and its revision as `ETag`.
    pub(super) fn token_response(&self, record: &TokenRecord) -> Response {
        with_etag(record, body::response(StatusCode::OK, &self.info(record)))
    }

    /// Creates the response to a creation or rotation that repeats an earlier one.
    pub(super) fn replayed_response(&self, record: &TokenRecord) -> Response {
        let replayed = ReplayedResponse {
            service_token: self.info(record),
            token: (),
        };
        let mut response = with_etag(record, body::response(StatusCode::OK, &replayed));
        let headers = response.headers_mut();
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

/// Parses the id in a path. A malformed id names no token.
pub(super) fn id(text: &str) -> Result<TokenId, Problem> {
    text.parse().map_err(|_| Problem::not_found())
}
