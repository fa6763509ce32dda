use std::sync::Arc;

use http::HeaderValue;

const DEFAULT_REALM: &str = "api";

/// The realm of a challenge (RFC 9110 §11.5).
///
/// ```
/// use tower_service_token::reject::Realm;
/// use tower_service_token::{MemoryStore, ServiceTokenLayer};
///
/// let realm = Realm::new("build farm")?;
/// let layer = ServiceTokenLayer::new(MemoryStore::new()).with_realm(realm);
/// # Ok::<_, tower_service_token::reject::RealmError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm(Arc<str>);

impl Realm {
    /// Creates a realm of visible ASCII characters and spaces.
    ///
    /// # Errors
    ///
    /// Returns an error if the text has another character, a `"` or a `\`.
    pub fn new(text: &str) -> Result<Self, RealmError> {
        let is_quotable = |byte: u8| (b' '..=b'~').contains(&byte) && !b"\"\\".contains(&byte);
        if text.bytes().all(is_quotable) {
            Ok(Self(text.into()))
        } else {
            Err(RealmError(()))
        }
    }
}

/// The `WWW-Authenticate` challenges of one service. With the default realm, a clone touches no
/// reference count that all requests share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenges {
    /// `None` for the default realm.
    realm: Option<Arc<str>>,
    api_key: bool,
    bearer: bool,
    basic: bool,
}

impl Challenges {
    /// `ApiKey realm="api"`.
    pub(crate) const DEFAULT: Self = Self {
        realm: None,
        api_key: true,
        bearer: false,
        basic: false,
    };

    pub(crate) fn set_realm(&mut self, realm: Realm) {
        self.realm = (&*realm.0 != DEFAULT_REALM).then_some(realm.0);
    }

    /// Sets the schemes. A service that reads none still has a challenge, which a 401 requires.
    pub(crate) fn set_schemes(&mut self, api_key: bool, bearer: bool) {
        self.api_key = api_key || !bearer;
        self.bearer = bearer;
    }

    /// Sets whether there is a challenge for `Basic` (RFC 7617).
    #[cfg(feature = "api")]
    pub(crate) fn set_basic(&mut self, basic: bool) {
        self.basic = basic;
    }

    /// Returns one challenge per scheme, with `params` after the realm. `params` must consist of
    /// visible ASCII and spaces.
    pub(super) fn values(&self, params: &str) -> impl Iterator<Item = HeaderValue> {
        let realm = self.realm.as_deref().unwrap_or(DEFAULT_REALM);
        let schemes = [
            (self.api_key, "ApiKey"),
            (self.bearer, "Bearer"),
            (self.basic, "Basic"),
        ];
        schemes
            .into_iter()
            .filter(|(read, _)| *read)
            .map(move |(_, scheme)| {
                let challenge = format!("{scheme} realm=\"{realm}\"{params}");
                HeaderValue::try_from(challenge).expect("realm and parameters are quotable ASCII")
            })
    }
}

/// A text is not a valid realm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a realm is visible ASCII and spaces, without '\"' and '\\'")]
pub struct RealmError(());
