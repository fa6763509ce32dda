use bytes::Bytes;
use form_urlencoded::Serializer;
use http::header::IF_MATCH;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;

use crate::media_type;

/// The maximum size of a response with one token, or an error.
///
/// A token is at most 178 KiB of JSON: a description of 2,000 characters, each escaped to 6 bytes;
/// 100 roles, 100 scopes and 50 labels of 200 characters of 4 bytes.
pub(super) const MAX_RESPONSE_BYTES: usize = 1024 * 1024;
const MAX_TOKEN_BYTES: usize = 192 * 1024;

/// The maximum size of the response to a bulk revocation: 13 bytes for each of five million ids.
const MAX_ID_LIST_BYTES: usize = 64 * 1024 * 1024;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A request that can be sent several times.
pub(super) struct ApiRequest {
    pub(super) method: Method,
    /// The path below the server's URL, with the query.
    pub(super) path: String,
    pub(super) body: Option<(&'static str, Bytes)>,
    pub(super) headers: HeaderMap,
    /// Whether processing it twice has the effect of processing it once.
    pub(super) is_idempotent: bool,
    pub(super) max_response: usize,
}

impl ApiRequest {
    /// Creates an idempotent call of a path below `/service-tokens`.
    pub(super) fn new(method: Method, path: &str) -> Self {
        Self {
            method,
            path: format!("/service-tokens{path}"),
            body: None,
            headers: HeaderMap::new(),
            is_idempotent: true,
            max_response: MAX_RESPONSE_BYTES,
        }
    }

    pub(super) fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn post(path: &str) -> Self {
        Self::new(Method::POST, path)
    }

    pub(super) fn with_query(
        mut self,
        pairs: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        let query = Serializer::new(String::new()).extend_pairs(pairs).finish();
        self.path = format!("{}?{query}", self.path);
        self
    }

    pub(super) fn with_json(self, body: &impl Serialize) -> Self {
        self.with_body(media_type::JSON, body)
    }

    pub(super) fn with_merge_patch(self, body: &impl Serialize) -> Self {
        self.with_body(media_type::MERGE_PATCH, body)
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Makes the call idempotent, if there is a key.
    pub(super) fn with_idempotency_key(mut self, key: Option<HeaderValue>) -> Self {
        self.is_idempotent = key.is_some();
        self.headers.extend(key.map(|key| (IDEMPOTENCY_KEY, key)));
        self
    }

    /// Makes the call fail unless the token is at this revision. It is not idempotent: if the server
    /// made the change, a retry fails.
    pub(super) fn at_revision(self, revision: Option<u64>) -> Self {
        let Some(revision) = revision else {
            return self;
        };
        let tag = HeaderValue::try_from(format!("\"{revision}\""));
        let tag = tag.expect("digits are visible ASCII");
        self.with_header(IF_MATCH, tag).not_idempotent()
    }

    /// Confirms that no token may be left that can administer tokens.
    pub(super) fn with_last_admin_confirmation(self, is_confirmed: bool) -> Self {
        if is_confirmed {
            return self.with_query([("last_admin", "true".to_owned())]);
        }
        self
    }

    /// Marks the call as not idempotent.
    pub(super) fn not_idempotent(mut self) -> Self {
        self.is_idempotent = false;
        self
    }

    /// Accepts responses with up to this number of tokens.
    pub(super) fn expect_tokens(mut self, tokens: usize) -> Self {
        self.max_response =
            MAX_RESPONSE_BYTES.saturating_add(MAX_TOKEN_BYTES.saturating_mul(tokens));
        self
    }

    pub(super) fn expect_id_list(mut self) -> Self {
        self.max_response = MAX_ID_LIST_BYTES;
        self
    }

    fn with_body(mut self, media_type: &'static str, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("a request is plain data");
        self.body = Some((media_type, Bytes::from(body)));
        self
    }
}
