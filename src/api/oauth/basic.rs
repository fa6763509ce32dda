use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

use crate::token::DisplayId;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `Authorization: Basic` is not a token.
#[derive(Debug)]
pub(super) enum BasicError {
    /// The header is malformed.
    Malformed,
    /// The user cannot be the id of a token.
    UnknownUser,
}

/// Replaces `Authorization: Basic` (RFC 7617) with the token in its password, and returns the user,
/// which must be the id of the token or its displayed id. Returns `None` for other schemes.
///
/// Both are percent-decoded (RFC 6749 §2.3.1). `+` is not a space, because neither contains spaces.
pub(super) fn rewrite_as_api_key(headers: &mut HeaderMap) -> Result<Option<DisplayId>, BasicError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Ok(None);
    };
    let Some(encoded) = strip_scheme(value.as_bytes()) else {
        return Ok(None);
    };
    let pair = Zeroizing::new(BASE64.decode(encoded).map_err(|_| BasicError::Malformed)?);
    let colon = pair.iter().position(|&byte| byte == b':');
    let (user, password) = pair.split_at(colon.ok_or(BasicError::Malformed)?);
    let user = percent_decode(user).decode_utf8().unwrap_or_default();
    let id = DisplayId::new(&user).map_err(|_| BasicError::UnknownUser)?;

    let mut token = Zeroizing::new(b"ApiKey ".to_vec());
    token.extend(percent_decode(&password[1..]));
    // The line end of a file, which a header value cannot contain.
    let mut value =
        HeaderValue::from_bytes(token.trim_ascii_end()).map_err(|_| BasicError::Malformed)?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Ok(Some(id))
}

/// Returns the text after `Basic` in any case and its spaces.
fn strip_scheme(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    let (scheme, rest) = value.split_at_checked(b"basic".len())?;
    let ends = matches!(rest.first(), None | Some(b' '));
    (ends && scheme.eq_ignore_ascii_case(b"basic")).then(|| rest.trim_ascii_start())
}
