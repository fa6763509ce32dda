use tower_service_token::internal::parse_decimal;
use tower_service_token::token::TokenId;

use crate::args::IdArgs;
use crate::failure::Failure;
use crate::tokens::TokenRef;

/// Stands for the ID of the token that authenticates the request.
const SELF: &str = "self";

impl IdArgs {
    /// Parses the ID, or the decimal number of one.
    pub(super) fn read(&self) -> Result<TokenRef, Failure> {
        let text = self.text();
        if text == SELF {
            let message = "only get, rotate and delete accept `self` as the ID";
            return Err(Failure::usage(message).with_hint("`svctok get self` shows the ID"));
        }
        let id = match parse_decimal(text) {
            Some(number) => number_or_id(number, text),
            None => text.parse().ok().map(TokenRef::Id),
        };
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
        self.read()
    }

    /// Formats the ID of the token that was found, after the number that the user wrote, if any.
    pub(super) fn display(&self, found: TokenId) -> String {
        let (text, found) = (self.text(), found.to_string());
        if text == found || text == SELF {
            return found;
        }
        format!("{text} ({found})")
    }

    /// Returns the ID as the user wrote it.
    pub(super) fn text(&self) -> &str {
        let text = self.id.as_ref().or(self.id_flag.as_ref());
        text.map(String::as_str).unwrap_or_default()
    }
}

/// Returns the token of a number of at most 13 digits, or of the integer of a whole ID, as earlier
/// releases showed it.
fn number_or_id(number: i64, text: &str) -> Option<TokenRef> {
    let whole = TokenId::from_i64(number)?;
    if whole.number() != number {
        return Some(TokenRef::Id(whole));
    }
    // Ten digits may be an ID as well.
    let id = text.parse().ok();
    Some(TokenRef::Number { number, id })
}
