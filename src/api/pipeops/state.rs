use super::super::listing::ListWriter;
use super::super::state::ApiState;
use super::token::Token;
use crate::store::TokenRecord;

/// What only this API shares.
pub(super) struct PipeOps {
    pub(super) default_workspace: Box<str>,
    pub(super) lists: ListWriter,
}

pub(super) type HandlerState = ApiState<PipeOps>;

impl HandlerState {
    pub(super) fn token<'a>(&'a self, record: &'a TokenRecord) -> Token<'a> {
        Token::new(record, &self.extra.default_workspace)
    }
}
