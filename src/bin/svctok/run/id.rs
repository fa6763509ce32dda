use tower_service_token::token::TokenId;

use crate::args::IdArgs;
use crate::failure::Failure;
use crate::tokens::TokenRef;

/// Stands for the ID of the token that authenticates the request.
const SELF: &str = "self";

impl IdArgs {
    /// Parses the ID. Ten characters are an ID; any other number of digits is the same ID in
    /// decimal, for tools with 64-bit IDs.
    pub(super) fn read(&self) -> Result<TokenId, Failure> {
        let text = self.text();
        if text == SELF {
            let message = "only get, rotate and delete accept `self` as the ID";
            return Err(Failure::usage(message).with_hint("`svctok get self` shows the ID"));
        }
        let id = text.parse().ok().or_else(|| {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = is_number.then(|| text.parse().ok())??;
            TokenId::from_i64(number)
        });
        // The error does not quote the ID: it may be a token, pasted by mistake.
        let message =
            "invalid ID: an ID is ten characters of 0-9, A-Z and a-z, or a decimal number";
        id.ok_or_else(|| Failure::usage(message).with_hint("`svctok list` shows the IDs"))
    }

    /// Returns the token of an ID or of `self`.
    pub(super) fn read_or_self(&self) -> Result<TokenRef, Failure> {
        if self.text() == SELF {
            return Ok(TokenRef::Own);
        }
        self.read().map(TokenRef::Id)
    }

    /// Returns the ID as the user wrote it.
    pub(super) fn text(&self) -> &str {
        let text = self.id.as_ref().or(self.id_flag.as_ref());
        text.map(String::as_str).unwrap_or_default()
    }
}
