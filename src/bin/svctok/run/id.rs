use tower_service_token::token::TokenId;

use crate::args::IdArgs;
use crate::failure::Failure;

/// The id of a token, as the user wrote it and as it is.
pub(super) struct Id {
    pub(super) text: String,
    pub(super) id: TokenId,
}

impl IdArgs {
    /// Ten characters are an id; any other number of digits is one in decimal, as tools show it
    /// that have ids of 64 bits.
    pub(super) fn read(&self) -> Result<Id, Failure> {
        let text = self.id.as_ref().or(self.id_flag.as_ref());
        let text = text.map(String::as_str).unwrap_or_default();
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
}
