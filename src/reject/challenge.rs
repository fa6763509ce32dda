use std::sync::{Arc, OnceLock};

use http::HeaderValue;

use crate::principal::Scopes;

/// The maximum length of the scopes in a challenge. A proxy may limit all headers of a response to
/// 8 KiB, and each scheme has a challenge.
const MAX_SCOPES_BYTES: usize = 2_048;

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
        self.schemes().map(move |scheme| {
            let challenge = text(SCHEMES[scheme], realm, params);
            HeaderValue::try_from(challenge).expect("realm and parameters are quotable ASCII")
        })
    }

    /// Returns the same, made once for each key. Returns `None` with a realm of the application.
    pub(super) fn prepared_values(
        &self,
        prepared: &'static Prepared,
        params: impl Fn() -> String,
    ) -> Option<impl Iterator<Item = HeaderValue>> {
        self.realm.is_none().then(|| {
            self.schemes().map(move |scheme| {
                let value = prepared.0[scheme].get_or_init(|| {
                    let challenge = text(SCHEMES[scheme], DEFAULT_REALM, &params());
                    HeaderValue::from_static(challenge.leak())
                });
                value.clone()
            })
        })
    }

    /// Returns the indices of the schemes that the service reads.
    fn schemes(&self) -> impl Iterator<Item = usize> + use<> {
        let read = [self.api_key, self.bearer, self.basic];
        (0..SCHEMES.len()).filter(move |scheme| read[*scheme])
    }
}

const SCHEMES: [&str; 3] = ["ApiKey", "Bearer", "Basic"];

/// The challenges of the default realm with the same parameters, one per scheme. Each is leaked, so
/// that its clones share no reference count; there are few.
pub(super) struct Prepared([OnceLock<HeaderValue>; SCHEMES.len()]);

impl Prepared {
    pub(super) const fn new() -> Self {
        Self([const { OnceLock::new() }; SCHEMES.len()])
    }
}

fn text(scheme: &str, realm: &str, params: &str) -> String {
    format!("{scheme} realm=\"{realm}\"{params}")
}

/// Returns each scope once, up to [`MAX_SCOPES_BYTES`]. `Scopes` skips names that cannot be quoted.
pub(super) fn scope_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let scopes: Scopes = names.collect();
    let mut list = String::new();
    for scope in &scopes {
        if list.len() + 1 + scope.len() > MAX_SCOPES_BYTES {
            break;
        }
        if !list.is_empty() {
            list.push(' ');
        }
        list.push_str(scope);
    }
    list
}

/// A text is not a valid realm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a realm is visible ASCII and spaces, without '\"' and '\\'")]
pub struct RealmError(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_listed_once_up_to_a_limit() {
        for (names, expected) in [
            (&[][..], ""),
            (&["a"], "a"),
            (&["a", "b", "a"], "a b"),
            (&["a b"], ""),
            (&["a b", "c", "\""], "c"),
        ] {
            assert_eq!(scope_list(names.iter().copied()), expected, "{names:?}");
        }
        let many: Vec<_> = (0..100)
            .map(|number| format!("scope-{number:094}"))
            .collect();
        let list = scope_list(many.iter().map(String::as_str));
        assert_eq!(list, many[..20].join(" "));
        let long = "x".repeat(MAX_SCOPES_BYTES + 1);
        assert_eq!(scope_list([&*long].into_iter()), "");
    }
}
