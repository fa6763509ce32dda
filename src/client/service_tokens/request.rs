use bytes::Bytes;
use form_urlencoded::Serializer;
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};

/// How much is read of an answer that is one token, or a refusal.
///
/// By the rules for fields a token is of 178 KiB at most, as JSON: a description of 2,000
/// characters, each of them escaped to 6 bytes; 100 roles, 100 scopes and 50 labels of 200
/// characters, and 4 bytes each.
pub(super) const MAX_RESPONSE_BYTES: usize = 1024 * 1024;
const MAX_TOKEN_BYTES: usize = 192 * 1024;

/// How much is read of the response to a bulk revocation: 13 bytes for each of five million ids.
const MAX_ID_LIST_BYTES: usize = 64 * 1024 * 1024;

/// What to ask the server, as often as it takes.
pub(super) struct ApiRequest {
    pub(super) method: Method,
    /// Below the server's URL, with the query.
    pub(super) path: String,
    pub(super) body: Option<(&'static str, Bytes)>,
    pub(super) header: Option<(HeaderName, HeaderValue)>,
    /// Whether it does the same when it is carried out twice.
    pub(super) is_idempotent: bool,
    pub(super) max_response_bytes: usize,
}

impl ApiRequest {
    /// Below `/service-tokens`. Repeatable, unless told otherwise.
    pub(super) fn new(method: Method, path: &str) -> Self {
        Self {
            method,
            path: format!("/service-tokens{path}"),
            body: None,
            header: None,
            is_idempotent: true,
            max_response_bytes: MAX_RESPONSE_BYTES,
        }
    }

    pub(super) fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn post(path: &str) -> Self {
        Self::new(Method::POST, path)
    }

    pub(super) fn with_query(mut self, pairs: Vec<(&'static str, String)>) -> Self {
        let query = Serializer::new(String::new()).extend_pairs(pairs).finish();
        self.path = format!("{}?{query}", self.path);
        self
    }

    pub(super) fn with_json(self, members: Map<String, Value>) -> Self {
        self.with_body("application/json", members)
    }

    pub(super) fn with_merge_patch(self, members: Map<String, Value>) -> Self {
        self.with_body("application/merge-patch+json", members)
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// Must not be carried out twice.
    pub(super) fn not_idempotent(mut self) -> Self {
        self.is_idempotent = false;
        self
    }

    /// Is answered with so many tokens at most.
    pub(super) fn expect_tokens(mut self, tokens: usize) -> Self {
        self.max_response_bytes =
            MAX_RESPONSE_BYTES.saturating_add(MAX_TOKEN_BYTES.saturating_mul(tokens));
        self
    }

    pub(super) fn expect_id_list(mut self) -> Self {
        self.max_response_bytes = MAX_ID_LIST_BYTES;
        self
    }

    fn with_body(mut self, media_type: &'static str, members: Map<String, Value>) -> Self {
        let body = Bytes::from(Value::Object(members).to_string());
        self.body = Some((media_type, body));
        self
    }
}
