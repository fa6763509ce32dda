#[cfg(feature = "api")]
use axum::extract::MatchedPath;
#[cfg(feature = "tracing")]
use http::HeaderValue;
#[cfg(feature = "api")]
use http::Method;
use http::{Extensions, HeaderMap};

#[cfg(feature = "tracing")]
use super::request_id::{is_valid, single_request_id};
#[cfg(feature = "tracing")]
use crate::limits::ClientAddress;
#[cfg(any(feature = "api", feature = "tracing"))]
use crate::token::DisplayId;

/// The request of a log event. Creating one copies only references. Without the feature `tracing` it
/// is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestInfo {
    #[cfg(feature = "tracing")]
    fields: Fields,
}

#[cfg(feature = "tracing")]
#[derive(Clone, Debug, Default)]
struct Fields {
    /// May be invalid.
    request_id: Option<HeaderValue>,
    caller: Option<DisplayId>,
    client: Option<ClientAddress>,
    #[cfg(feature = "api")]
    endpoint: Option<(Method, MatchedPath)>,
}

#[cfg(feature = "tracing")]
impl RequestInfo {
    /// Reads the request id from the headers, and the client's address from the extensions.
    pub(crate) fn from_parts(headers: &HeaderMap, extensions: &Extensions) -> Self {
        let fields = Fields {
            request_id: single_request_id(headers).cloned(),
            client: ClientAddress::from_extensions(extensions),
            ..Fields::default()
        };
        Self { fields }
    }

    /// Adds the method and the route, such as `POST /service-tokens/{id}/rotate`.
    #[cfg(feature = "api")]
    pub(crate) fn with_endpoint(mut self, method: &Method, path: Option<&MatchedPath>) -> Self {
        self.fields.endpoint = path.map(|path| (method.clone(), path.clone()));
        self
    }

    /// Adds the token of the request, unless there is one already.
    #[cfg(feature = "api")]
    pub(crate) fn with_caller(mut self, caller: Option<DisplayId>) -> Self {
        self.fields.caller = self.fields.caller.or(caller);
        self
    }

    /// Returns the id of the request, unless the current span has it already.
    pub(super) fn request_id(&self) -> Option<&str> {
        if tracing::Span::current().has_field("request_id") {
            return None;
        }
        let id = self.fields.request_id.as_ref();
        id.filter(|id| is_valid(id))?.to_str().ok()
    }

    pub(super) fn endpoint(&self) -> Option<String> {
        #[cfg(feature = "api")]
        if let Some((method, path)) = &self.fields.endpoint {
            return Some(format!("{method} {}", path.as_str()));
        }
        let _ = self;
        None
    }

    pub(super) fn client(&self) -> Option<ClientAddress> {
        self.fields.client
    }

    pub(super) fn caller(&self) -> Option<&DisplayId> {
        self.fields.caller.as_ref()
    }
}

#[cfg(not(feature = "tracing"))]
impl RequestInfo {
    pub(crate) fn from_parts(_: &HeaderMap, _: &Extensions) -> Self {
        Self::default()
    }

    #[cfg(feature = "api")]
    pub(crate) fn with_endpoint(self, _: &Method, _: Option<&MatchedPath>) -> Self {
        self
    }

    #[cfg(feature = "api")]
    pub(crate) fn with_caller(self, _: Option<DisplayId>) -> Self {
        self
    }
}
