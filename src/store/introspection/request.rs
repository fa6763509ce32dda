use std::time::SystemTime;

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use zeroize::Zeroizing;

use super::client_auth::ClientAuth;
use super::endpoint::Endpoint;
use crate::token::PresentedToken;

/// A request could not be made. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    #[error("the client assertion could not be signed")]
    Signing,
    #[error("the client credentials cannot be sent in a header")]
    Credentials,
}

/// The question of RFC 7662, section 2.1, about one token. The body is wiped when dropped.
pub(super) fn introspection_request(
    endpoint: &Endpoint,
    auth: &ClientAuth,
    default_audience: Option<&str>,
    token: &PresentedToken<'_>,
    hint: Option<&str>,
    now: SystemTime,
) -> Result<Request<Full<Bytes>>, RequestError> {
    let proof = auth.proof(default_audience, now)?;
    let mut fields = vec![("token", token.expose_secret())];
    fields.extend(hint.map(|hint| ("token_type_hint", hint)));
    fields.extend(
        proof
            .fields
            .iter()
            .map(|(name, text)| (*name, text.as_str())),
    );

    let mut request = Request::new(Full::new(form(&fields)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = endpoint.uri().clone();
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(CONTENT_TYPE, form_type);
    if let Some(header) = proof.header {
        headers.insert(AUTHORIZATION, header);
    }
    Ok(request)
}

/// In memory that never grows, so that no copy of a part is left behind.
fn form(fields: &[(&str, &str)]) -> Bytes {
    let longest = fields
        .iter()
        .map(|(name, text)| 3 * (name.len() + text.len()) + 2);
    let mut form = Zeroizing::new(String::with_capacity(longest.sum()));
    let mut serializer = Serializer::new(&mut *form);
    serializer.extend_pairs(fields);
    serializer.finish();
    Bytes::from_owner(Zeroizing::new(std::mem::take(&mut *form).into_bytes()))
}
