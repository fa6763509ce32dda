mod credentials;

use std::fmt;
use std::time::SystemTime;

use http::HeaderValue;
use zeroize::Zeroizing;

use self::credentials::{ClientCredentials, secret_header};
use super::assertion::PrivateKeyJwt;
use super::config_error::IntrospectionConfigError;
use super::request::RequestError;
use crate::token::PresentedToken;

/// How an [`IntrospectionStore`](super::IntrospectionStore) shows the authorization server who it
/// is.
///
/// 1. The server must be shown: who may ask about any token could guess tokens (RFC 7662,
///    section 2.1).
/// 2. Which way is right is up to the server; [`basic`](Self::basic) is what most take.
/// 3. What is empty or cannot be sent is an error when the store is built, not here.
/// 4. `Debug` shows the way and the client id, and no secret. Secrets are wiped when dropped.
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

/// What one attempt carries to show who asks.
pub(super) struct RequestCredentials<'a> {
    pub(super) header: Option<HeaderValue>,
    pub(super) fields: Vec<(&'static str, Field<'a>)>,
}

/// The text of a form field, wiped when dropped if it was made for this attempt.
pub(super) enum Field<'a> {
    Borrowed(&'a str),
    Owned(Zeroizing<String>),
}

impl Field<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Owned(text) => text,
        }
    }
}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl ClientAuth {
    /// `Authorization: Basic` with the id and the secret percent-encoded before they are joined, as
    /// RFC 6749, section 2.3.1, asks for (`client_secret_basic`).
    pub fn basic(client_id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self(Method::Basic(ClientCredentials::new(client_id, secret)))
    }

    /// As [`basic`](Self::basic), but with the id and the secret as they are, for a server that
    /// does not decode them.
    ///
    /// It makes a difference only if one of them has another character than letters, digits and
    /// `-._~`. The id must have no colon.
    pub fn basic_raw(client_id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self(Method::BasicRaw(ClientCredentials::new(client_id, secret)))
    }

    /// `client_id` and `client_secret` in the form (`client_secret_post`, RFC 6749,
    /// section 2.3.1).
    pub fn post(client_id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self(Method::Post(ClientCredentials::new(client_id, secret)))
    }

    /// A JWT signed for every attempt (`private_key_jwt`, RFC 7523): the server knows the public
    /// key alone.
    pub fn private_key_jwt(key: PrivateKeyJwt) -> Self {
        Self(Method::PrivateKeyJwt(key))
    }

    /// `Authorization: Bearer`, for a server that takes an access token (RFC 7662, section 2.1).
    ///
    /// The token is never renewed: it should be one that does not expire.
    pub fn bearer(token: impl Into<String>) -> Self {
        Self(Method::Bearer(Zeroizing::new(token.into())))
    }

    /// Whether this can be sent. `issuer` is what an assertion is for if it says nothing else.
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

    /// The way and the client, without the secret: different for whatever a server may answer
    /// differently.
    pub(super) fn identity(&self) -> Vec<u8> {
        let id = self.client_id().unwrap_or_default();
        [self.method().as_bytes(), b"\0", id.as_bytes()].concat()
    }

    /// What shows the server who asks, made anew for each attempt.
    pub(super) fn request_credentials(
        &self,
        default_audience: Option<&str>,
        now: SystemTime,
    ) -> Result<RequestCredentials<'_>, RequestError> {
        let in_header = |header| {
            Ok(RequestCredentials {
                header: Some(header),
                fields: Vec::new(),
            })
        };
        let in_form = |fields| {
            Ok(RequestCredentials {
                header: None,
                fields,
            })
        };
        match &self.0 {
            Method::Basic(client) => in_header(client.encoded().basic()?),
            Method::BasicRaw(client) => in_header(client.basic()?),
            Method::Bearer(token) => in_header(secret_header("Bearer ", token)?),
            Method::Post(client) => in_form(vec![
                ("client_id", Field::Borrowed(&client.id)),
                ("client_secret", Field::Borrowed(&client.secret)),
            ]),
            Method::PrivateKeyJwt(key) => in_form(vec![
                ("client_id", Field::Borrowed(key.client_id())),
                ("client_assertion_type", Field::Borrowed(ASSERTION_TYPE)),
                (
                    "client_assertion",
                    Field::Owned(key.sign(default_audience, now)?),
                ),
            ]),
        }
    }

    /// What no log may show, should a server repeat it.
    pub(super) fn secrets(&self) -> impl Iterator<Item = Zeroizing<String>> {
        let secrets = match &self.0 {
            Method::Basic(client) | Method::BasicRaw(client) => {
                let headers = [client.basic(), client.encoded().basic()];
                let headers = headers.into_iter().flatten().filter_map(|header| {
                    let (_, text) = header.to_str().ok()?.split_once(' ')?;
                    Some(Zeroizing::new(text.to_owned()))
                });
                headers.chain([client.secret.clone()]).collect()
            }
            Method::Post(client) => vec![client.secret.clone()],
            Method::Bearer(token) => vec![token.clone()],
            // Never sent; an assertion is good once, and long.
            Method::PrivateKeyJwt(_) => Vec::new(),
        };
        secrets.into_iter()
    }

    fn method(&self) -> &'static str {
        match &self.0 {
            Method::Basic(_) => "basic",
            Method::BasicRaw(_) => "basic_raw",
            Method::Post(_) => "post",
            Method::PrivateKeyJwt(_) => "private_key_jwt",
            Method::Bearer(_) => "bearer",
        }
    }

    fn client_id(&self) -> Option<&str> {
        match &self.0 {
            Method::Basic(client) | Method::BasicRaw(client) | Method::Post(client) => {
                Some(&client.id)
            }
            Method::PrivateKeyJwt(key) => Some(key.client_id()),
            Method::Bearer(_) => None,
        }
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("ClientAuth");
        f.field("method", &self.method());
        if let Some(client_id) = self.client_id() {
            f.field("client_id", &client_id);
        }
        f.finish()
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const SPECIAL: &str = "a b:c+d/e%f&g=h*i~j-k._é";
    const ENCODED: &str = "a%20b%3Ac%2Bd%2Fe%25f%26g%3Dh%2Ai~j-k._%C3%A9";

    /// The value of the header behind its scheme.
    fn header(auth: &ClientAuth, scheme: &str) -> String {
        let request_credentials = auth
            .request_credentials(None, SystemTime::UNIX_EPOCH)
            .unwrap();
        assert!(request_credentials.fields.is_empty());
        let header = request_credentials.header.expect("a header");
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
        let request_credentials = auth
            .request_credentials(None, SystemTime::UNIX_EPOCH)
            .unwrap();
        assert!(request_credentials.header.is_none());
        let fields = request_credentials
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
        type Make = fn(&'static str, &'static str) -> ClientAuth;
        let makes: [Make; 3] = [ClientAuth::basic, ClientAuth::basic_raw, ClientAuth::post];
        for make in makes {
            assert_eq!(make("", "s").check(None), Err(EmptyClientId));
            assert_eq!(make("c", "").check(None), Err(EmptyClientSecret));
            assert_eq!(make("c", "s:s").check(None), Ok(()));
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
    fn identity_depends_on_method_and_client_id_but_not_on_the_secret() {
        let auths = [
            ClientAuth::basic("orders", "s"),
            ClientAuth::basic_raw("orders", "s"),
            ClientAuth::post("orders", "s"),
            ClientAuth::post("orders2", "s"),
            ClientAuth::bearer("s"),
        ];
        for (place, auth) in auths.iter().enumerate() {
            for other in &auths[..place] {
                assert_ne!(auth.identity(), other.identity());
            }
        }
        let other_secret = ClientAuth::basic("orders", "t");
        assert_eq!(auths[0].identity(), other_secret.identity());
    }

    #[test]
    fn debug_redacts_secrets() {
        let shown = |auth| format!("{auth:?}");
        assert_eq!(
            shown(ClientAuth::post("orders", "hush")),
            r#"ClientAuth { method: "post", client_id: "orders" }"#
        );
        assert_eq!(
            shown(ClientAuth::bearer("hush")),
            r#"ClientAuth { method: "bearer" }"#
        );
    }
}
