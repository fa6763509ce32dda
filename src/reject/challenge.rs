use std::sync::Arc;

use http::HeaderValue;

const DEFAULT_REALM: &str = "api";

/// What `WWW-Authenticate` says for one service. Cheap to clone: as long as the realm is the
/// default, without a reference that all requests would count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenges {
    /// If it is not the default.
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

    pub(crate) fn set_realm(&mut self, realm: &str) -> Result<(), RealmError> {
        let quotable = |byte: u8| (b' '..=b'~').contains(&byte) && !b"\"\\".contains(&byte);
        if !realm.bytes().all(quotable) {
            return Err(RealmError(()));
        }
        self.realm = (realm != DEFAULT_REALM).then(|| realm.into());
        Ok(())
    }

    /// A service that reads no scheme still names one: a 401 must bear a challenge.
    pub(crate) fn set_schemes(&mut self, api_key: bool, bearer: bool) {
        self.api_key = api_key || !bearer;
        self.bearer = bearer;
    }

    /// Whether `Basic` (RFC 7617) is accepted as well.
    #[cfg(feature = "api")]
    pub(crate) fn set_basic(&mut self, basic: bool) {
        self.basic = basic;
    }

    /// One challenge for each scheme, with `params` behind the realm.
    ///
    /// `params` must consist of visible ASCII and spaces.
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

/// Lies in the extensions of a request that an optional layer let through without a credential, so
/// that a guard can tell that from a missing layer.
#[derive(Clone, Debug)]
pub(crate) struct Anonymous(pub(crate) Challenges);

/// A text cannot be the realm of a challenge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a realm is visible ASCII and spaces, without '\"' and '\\'")]
pub struct RealmError(());
