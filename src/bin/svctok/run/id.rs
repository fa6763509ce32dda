use tower_service_token::token::TokenId;

use crate::args::IdArgs;
use crate::failure::Failure;
use crate::tokens::TokenRef;

/// In place of an ID: the token that the server is called with.
const SELF: &str = "self";

/// The id of a token, as the user wrote it and as it is.
pub(super) struct Id {
    pub(super) text: String,
    pub(super) id: TokenId,
}

impl IdArgs {
    /// Ten characters are an id; any other number of digits is one in decimal, as tools show it
    /// that have ids of 64 bits.
    pub(super) fn read(&self) -> Result<Id, Failure> {
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
        match id {
            Some(id) => Ok(Id {
                text: text.to_owned(),
                id,
            }),
            // Not repeated: it may be a token, pasted by mistake.
            None => Err(Failure::usage(
                "this is no ID: an ID is ten characters of 0-9, A-Z and a-z, or a decimal number",
            )
            .with_hint("`svctok list` shows the IDs")),
        }
    }

    /// Returns the token of an ID or of `self`.
    pub(super) fn read_or_self(&self) -> Result<TokenRef, Failure> {
        if self.text() == SELF {
            return Ok(TokenRef::Own);
        }
        self.read().map(|id| TokenRef::Id(id.id))
    }

    /// The ID as the user wrote it.
    pub(super) fn text(&self) -> &str {
        let text = self.id.as_ref().or(self.id_flag.as_ref());
        text.map(String::as_str).unwrap_or_default()
    }
}
