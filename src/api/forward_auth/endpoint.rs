use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CACHE_CONTROL;
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use super::super::inspector::Inspector;
use super::super::request_log::LogFailuresLayer;
use super::query::QueryRequirements;
use crate::limits::FailureLimit;
use crate::middleware::ServiceTokenLayer;
use crate::principal::Principal;
use crate::reject::Rejection;

/// The ASCII characters that a value percent-encodes. It encodes all others as well.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',').add(b'"').add(b'\\');

/// Builds the router of `/verify`.
///
/// See the [module](super) for the rules and an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct ForwardAuth {
    layer: ServiceTokenLayer,
}

impl ForwardAuth {
    /// Creates an endpoint that checks tokens as `layer` does, and always accepts `ApiKey` and
    /// `Bearer`. It ignores the layer's response builder and whether it is optional.
    pub fn new(layer: ServiceTokenLayer) -> Self {
        Self { layer }
    }

    /// Limits unknown tokens. `None` sets no limit. The default is the limit of the layer, or else
    /// [`FailureLimit::new`].
    pub fn with_failure_limit(mut self, limit: impl Into<Option<FailureLimit>>) -> Self {
        self.layer = self.layer.with_failure_limit(limit);
        self
    }

    /// Builds the router, for an app with any state.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let inspector = Inspector {
            checker: self.layer.into_checker(false),
        };
        Router::new()
            .route("/verify", get(handle).post(handle))
            .route_layer(LogFailuresLayer)
            .with_state(Arc::new(inspector))
    }
}

async fn handle(State(inspector): State<Arc<Inspector>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let requirements = match QueryRequirements::from_query(parts.uri.query()) {
        Ok(requirements) => requirements,
        Err(error) => return error.into_response(),
    };
    match inspector.verify(&mut parts, requirements).await {
        Ok(caller) => {
            let no_store = [(CACHE_CONTROL, "no-store")];
            (StatusCode::NO_CONTENT, no_store, identity_headers(&caller)).into_response()
        }
        Err(rejection) => rejection.into_response(),
    }
}

impl Inspector {
    async fn verify(
        &self,
        parts: &mut Parts,
        requirements: QueryRequirements,
    ) -> Result<Principal, Rejection> {
        let caller = self.authenticate(parts, None).await?;
        for requirement in requirements.into_requirements() {
            let met = caller.require(requirement);
            met.map_err(|rejection| rejection.with_challenges(&self.checker.challenges))?;
        }
        Ok(caller)
    }
}

/// Returns the headers that describe the caller.
fn identity_headers(caller: &Principal) -> [(HeaderName, HeaderValue); 5] {
    let id = caller.id().to_string();
    [
        ("x-service-token-id", encoded([&*id], "")),
        ("x-service-token-name", encoded([caller.name()], "")),
        ("x-service-token-subject", encoded(caller.subject(), "")),
        ("x-service-token-roles", encoded(caller.roles().iter(), ",")),
        (
            "x-service-token-scopes",
            encoded(caller.scopes().iter(), " "),
        ),
    ]
    .map(|(name, value)| (HeaderName::from_static(name), value))
}

fn encoded<'a>(texts: impl IntoIterator<Item = &'a str>, separator: &str) -> HeaderValue {
    let texts = texts.into_iter();
    let texts: Vec<String> = texts
        .map(|text| percent_encode(text.as_bytes(), ENCODED).to_string())
        .collect();
    HeaderValue::try_from(texts.join(separator)).expect("all other characters are encoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_separators_and_control_characters() {
        for (texts, value) in [
            (&["a\r\nx: y"][..], "a%0D%0Ax:%20y"),
            (&["a,b", "c"], "a%2Cb,c"),
            (&["100%", "\u{e9}\"\\\u{7f}\0"], "100%25,%C3%A9%22%5C%7F%00"),
            (&[], ""),
            (&[""], ""),
            (&["projects:*"], "projects:*"),
        ] {
            assert_eq!(encoded(texts.iter().copied(), ","), value);
        }
    }
}
