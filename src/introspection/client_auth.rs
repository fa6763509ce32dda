use std::fmt;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::assertion::PrivateKeyJwt;
use super::config_error::IntrospectionConfigError;
use super::error::RequestError;
use crate::token::PresentedToken;

/// How an [`IntrospectionStore`](super::IntrospectionStore) authenticates to the authorization server.
///
/// 1. Authentication is required: a client that may query any token could guess tokens (RFC 7662,
///    section 2.1).
/// 2. The server determines the method. Most support [`basic`](Self::basic).
/// 3. Empty or unsendable credentials are an error when the store is built.
/// 4. `Debug` shows the method and the client id, but no secret. Secrets are zeroed when dropped.
///
/// ```
/// use tower_service_token::introspection::ClientAuth;
///
/// let auth = ClientAuth::basic("orders", "s3cret");
/// assert_eq!(format!("{auth:?}"), r#"ClientAuth { method: "basic", client_id: "orders" }"#);
/// ```
pub struct ClientAuth(Method);

enum Method {
    Basic(ClientCredentials),
    BasicRaw(ClientCredentials),
    Post(ClientCredentials),
    PrivateKeyJwt(PrivateKeyJwt),
    Bearer(Zeroizing<String>),
}

/// The credentials of one request.
#[derive(Default)]
pub(super) struct RequestCredentials {
    pub(super) header: Option<HeaderValue>,
    pub(super) fields: Vec<(&'static str, Zeroizing<String>)>,
}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl ClientAuth {
    /// Sends `Authorization: Basic` with the percent-encoded id and secret, as RFC 6749, section 2.3.1,
    /// requires (`client_secret_basic`).
    pub fn basic(client_id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self(Method::Basic(ClientCredentials::new(client_id, secret)))
    }

    /// Sends `Authorization: Basic` with the unencoded id and secret, for a server that does not decode
    /// them.
    ///
    /// This differs from [`basic`](Self::basic) only if one of them has a character other than letters,
    /// digits and `-._~`. The id must not contain a colon.
    pub fn basic_raw(client_id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self(Method::BasicRaw(ClientCredentials::new(client_id, secret)))
    }

    /// Sends `client_id` and `client_secret` in the form (`client_secret_post`, RFC 6749,
    /// section 2.3.1).
    pub fn post(client_id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self(Method::Post(ClientCredentials::new(client_id, secret)))
    }

    /// Signs a JWT for every request (`private_key_jwt`, RFC 7523). The server has only the public key.
    pub fn private_key_jwt(key: PrivateKeyJwt) -> Self {
        Self(Method::PrivateKeyJwt(key))
    }

    /// Sends `Authorization: Bearer`, for a server that accepts an access token (RFC 7662,
    /// section 2.1).
    ///
    /// The store never renews the token, so use one that does not expire.
    pub fn bearer(token: impl Into<String>) -> Self {
        Self(Method::Bearer(Zeroizing::new(token.into())))
    }

    /// Returns an error if the credentials cannot be sent. `issuer` is the default audience of an
    /// assertion.
    pub(super) fn check(&self, issuer: Option<&str>) -> Result<(), IntrospectionConfigError> {
        match &self.0 {
            Method::BasicRaw(client) if client.id.contains(':') => {
                Err(IntrospectionConfigError::ColonInClientId)
            }
            Method::Basic(client) | Method::BasicRaw(client) | Method::Post(client) => {
                client.check()
            }
            Method::PrivateKeyJwt(key) => key.check(issuer),
            Method::Bearer(token) if !PresentedToken::is_visible(token.as_bytes()) => {
                Err(IntrospectionConfigError::InvalidBearerToken)
            }
            Method::Bearer(_) => Ok(()),
        }
    }

    /// Creates the credentials of one request.
    pub(super) fn request_credentials(
        &self,
        default_audience: Option<&str>,
        now: SystemTime,
    ) -> Result<RequestCredentials, RequestError> {
        let mut credentials = RequestCredentials::default();
        match &self.0 {
            Method::Basic(client) => {
                let header = secret_header("Basic ", &client.encoded().basic())?;
                credentials.header = Some(header);
            }
            Method::BasicRaw(client) => {
                credentials.header = Some(secret_header("Basic ", &client.basic())?);
            }
            Method::Bearer(token) => credentials.header = Some(secret_header("Bearer ", token)?),
            Method::Post(client) => credentials.fields.extend([
                ("client_id", client.id.clone().into()),
                ("client_secret", client.secret.clone()),
            ]),
            Method::PrivateKeyJwt(key) => credentials.fields.extend([
                ("client_id", key.client_id().to_owned().into()),
                ("client_assertion_type", ASSERTION_TYPE.to_owned().into()),
                ("client_assertion", key.sign(default_audience, now)?),
            ]),
        }
        Ok(credentials)
    }

    /// Returns the secrets that the server may echo and no log may show.
    pub(super) fn secrets(&self) -> Vec<Zeroizing<String>> {
        match &self.0 {
            Method::Basic(client) | Method::BasicRaw(client) => {
                vec![
                    client.basic(),
                    client.encoded().basic(),
                    client.secret.clone(),
                ]
            }
            Method::Post(client) => vec![client.secret.clone()],
            Method::Bearer(token) => vec![token.clone()],
            // The key is never sent. An assertion is valid once, and long enough to be masked.
            Method::PrivateKeyJwt(_) => Vec::new(),
        }
    }

    /// Returns the name of the method and the client id.
    fn method(&self) -> (&'static str, Option<&str>) {
        match &self.0 {
            Method::Basic(client) => ("basic", Some(&client.id)),
            Method::BasicRaw(client) => ("basic_raw", Some(&client.id)),
            Method::Post(client) => ("post", Some(&client.id)),
            Method::PrivateKeyJwt(key) => ("private_key_jwt", Some(key.client_id())),
            Method::Bearer(_) => ("bearer", None),
        }
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, client_id) = self.method();
        let mut f = f.debug_struct("ClientAuth");
        f.field("method", &method);
        if let Some(client_id) = client_id {
            f.field("client_id", &client_id);
        }
        f.finish()
    }
}

/// The id and the secret of a client of the authorization server.
struct ClientCredentials {
    id: String,
    secret: Zeroizing<String>,
}

/// All characters except the unreserved ones of RFC 3986. Servers that decode a form understand `%20`
/// for a space as well as `+`; servers that decode a URL understand only `%20`.
pub(super) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl ClientCredentials {
    fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            secret: Zeroizing::new(secret.into()),
        }
    }

    fn check(&self) -> Result<(), IntrospectionConfigError> {
        if self.id.is_empty() {
            return Err(IntrospectionConfigError::EmptyClientId);
        }
        if self.secret.is_empty() {
            return Err(IntrospectionConfigError::EmptyClientSecret);
        }
        Ok(())
    }

    fn encoded(&self) -> Self {
        // A buffer that is never reallocated, so that no copy of the secret remains.
        let mut secret = Zeroizing::new(String::with_capacity(3 * self.secret.len()));
        secret.extend(utf8_percent_encode(&self.secret, RESERVED));
        Self {
            id: utf8_percent_encode(&self.id, RESERVED).collect(),
            secret,
        }
    }

    /// Returns the header value of Basic authentication, without the scheme.
    fn basic(&self) -> Zeroizing<String> {
        let length = self.id.len() + 1 + self.secret.len();
        let mut joined = Zeroizing::new(String::with_capacity(length));
        joined.extend([self.id.as_str(), ":", &self.secret]);
        let mut text = Zeroizing::new(String::with_capacity(length.div_ceil(3) * 4));
        STANDARD.encode_string(joined.as_bytes(), &mut text);
        text
    }
}

/// Creates a header value that is marked sensitive and zeroed when its last clone is dropped.
fn secret_header(scheme: &str, secret: &str) -> Result<HeaderValue, RequestError> {
    let mut text = Zeroizing::new(Vec::with_capacity(scheme.len() + secret.len()));
    text.extend_from_slice(scheme.as_bytes());
    text.extend_from_slice(secret.as_bytes());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text))
        .map_err(|_| RequestError::Credentials)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIAL: &str = "a b:c+d/e%f&g=h*i~j-k._é";
    const ENCODED: &str = "a%20b%3Ac%2Bd%2Fe%25f%26g%3Dh%2Ai~j-k._%C3%A9";

    /// Returns the value of the header, without its scheme.
    fn header(auth: &ClientAuth, scheme: &str) -> String {
        let credentials = auth
            .request_credentials(None, SystemTime::UNIX_EPOCH)
            .unwrap();
        assert!(credentials.fields.is_empty());
        let header = credentials.header.expect("a header");
        assert!(header.is_sensitive());
        let text = header.to_str().unwrap();
        text.strip_prefix(scheme).expect(scheme).to_owned()
    }

    fn basic_text(auth: &ClientAuth) -> String {
        let decoded = STANDARD.decode(header(auth, "Basic ")).unwrap();
        String::from_utf8(decoded).unwrap()
    }

    #[test]
    fn basic_percent_encodes_and_basic_raw_does_not() {
        let auth = ClientAuth::basic(SPECIAL, SPECIAL);
        assert_eq!(basic_text(&auth), format!("{ENCODED}:{ENCODED}"));
        let auth = ClientAuth::basic_raw("a b%20", SPECIAL);
        assert_eq!(basic_text(&auth), format!("a b%20:{SPECIAL}"));
    }

    #[test]
    fn sends_the_bearer_token_unchanged() {
        let auth = ClientAuth::bearer("a.b-c+/==");
        assert_eq!(header(&auth, "Bearer "), "a.b-c+/==");
    }

    #[test]
    fn post_sends_id_and_secret_in_the_form() {
        let auth = ClientAuth::post("orders", SPECIAL);
        let credentials = auth
            .request_credentials(None, SystemTime::UNIX_EPOCH)
            .unwrap();
        assert!(credentials.header.is_none());
        let fields = credentials
            .fields
            .iter()
            .map(|(name, text)| (*name, text.as_str()));
        let fields: Vec<_> = fields.collect();
        assert_eq!(
            fields,
            [("client_id", "orders"), ("client_secret", SPECIAL)]
        );
    }

    #[test]
    fn rejects_empty_or_unsendable_credentials() {
        use IntrospectionConfigError::{
            ColonInClientId, EmptyClientId, EmptyClientSecret, InvalidBearerToken,
        };
        type Constructor = fn(&'static str, &'static str) -> ClientAuth;
        let constructors: [Constructor; 3] =
            [ClientAuth::basic, ClientAuth::basic_raw, ClientAuth::post];
        for new in constructors {
            assert_eq!(new("", "s").check(None), Err(EmptyClientId));
            assert_eq!(new("c", "").check(None), Err(EmptyClientSecret));
            assert_eq!(new("c", "s:s").check(None), Ok(()));
        }
        assert_eq!(ClientAuth::basic("a:b", "s").check(None), Ok(()));
        assert_eq!(
            ClientAuth::basic_raw("a:b", "s").check(None),
            Err(ColonInClientId)
        );
        for token in ["", "two words", "new\nline", "é"] {
            let auth = ClientAuth::bearer(token);
            assert_eq!(auth.check(None), Err(InvalidBearerToken), "{token}");
        }
        assert_eq!(ClientAuth::bearer("abc").check(None), Ok(()));
    }

    #[test]
    fn debug_redacts_secrets() {
        let debug = |auth| format!("{auth:?}");
        assert_eq!(
            debug(ClientAuth::post("orders", "hush")),
            r#"ClientAuth { method: "post", client_id: "orders" }"#
        );
        assert_eq!(
            debug(ClientAuth::bearer("hush")),
            r#"ClientAuth { method: "bearer" }"#
        );
    }
}
