use std::time::Duration;

use tower_service_token::lifecycle::{NewToken, ShownToken, TokenUpdate};
use tower_service_token::store::TokenFilter;
use tower_service_token::token::TokenId;

use super::{Changed, Issued};
use crate::failure::{Failure, FailureKind};
use crate::secret::SecretText;

/// The tokens of a server.
pub(crate) enum ServerTokens {}

impl ServerTokens {
    pub(crate) fn new(url: &str, _: &SecretText) -> Result<Self, Failure> {
        let message = format!("cannot ask {url}: this build has no client");
        Err(Failure::new(FailureKind::Unreachable, message))
    }
    pub(super) async fn create(&self, _: NewToken) -> Result<Issued, Failure> {
        match *self {}
    }
    pub(super) async fn list(
        &self,
        _: TokenFilter,
        _: Option<usize>,
    ) -> Result<Vec<ShownToken>, Failure> {
        match *self {}
    }
    pub(super) async fn get(&self, _: TokenId) -> Result<ShownToken, Failure> {
        match *self {}
    }
    pub(super) async fn update(&self, _: TokenId, _: TokenUpdate) -> Result<Changed, Failure> {
        match *self {}
    }
    pub(super) async fn rotate(&self, _: TokenId, _: Duration) -> Result<Issued, Failure> {
        match *self {}
    }
    pub(super) async fn disable(&self, _: TokenId) -> Result<Changed, Failure> {
        match *self {}
    }
    pub(super) async fn enable(&self, _: TokenId) -> Result<Changed, Failure> {
        match *self {}
    }
    pub(super) async fn revoke(&self, _: TokenId) -> Result<Duration, Failure> {
        match *self {}
    }
    pub(crate) async fn own(&self) -> Result<Result<ShownToken, String>, Failure> {
        match *self {}
    }
}
