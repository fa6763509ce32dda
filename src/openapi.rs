//! The security schemes of a service token, for the OpenAPI document of your own API (utoipa).
//!
//! A scheme has the same name wherever it is declared:
//!
//! | scheme | request | declared by |
//! |---|---|---|
//! | `serviceToken` | `Authorization: ApiKey <token>` | [`SecuritySchemes`], a layer |
//! | `serviceTokenHeader` | `X-API-Key: <token>` | [`SecuritySchemes`], a layer |
//! | `serviceTokenBearer` | `Authorization: Bearer <token>` | a layer that [accepts it](ServiceTokenLayer::accept_bearer) |
//! | the name of the header, in lower case | another header | a layer [with this header](ServiceTokenLayer::with_header) |
//!
//! [`SecuritySchemes`] declares what a layer accepts by default. A [`ServiceTokenLayer`] is a
//! [modifier](utoipa::Modify) of a document too, and declares exactly what it accepts:
//!
//! ```
//! use tower_service_token::{MemoryStore, ServiceTokenLayer};
//! use utoipa::{Modify, OpenApi};
//!
//! #[utoipa::path(
//!     get,
//!     path = "/projects",
//!     responses((status = 200, description = "The projects")),
//!     security(("serviceToken" = ["projects:read"]), ("serviceTokenBearer" = ["projects:read"])),
//! )]
//! async fn projects() {}
//!
//! #[derive(OpenApi)]
//! #[openapi(paths(projects))]
//! struct Document;
//!
//! let layer = ServiceTokenLayer::new(MemoryStore::new()).accept_bearer();
//! let mut document = Document::openapi();
//! layer.modify(&mut document);
//!
//! let document = serde_json::to_value(document)?;
//! let schemes = &document["components"]["securitySchemes"];
//! assert_eq!(schemes["serviceTokenBearer"]["scheme"], "bearer");
//! # Ok::<_, serde_json::Error>(())
//! ```
//!
//! The page [`openapi`](crate::guide::openapi) of the guide has a service with utoipa-axum, Swagger UI and
//! the management API in the same document.

use http::header::AUTHORIZATION;
use utoipa::Modify;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, OpenApi};

use crate::header::{CredentialSources, X_API_KEY};
use crate::middleware::ServiceTokenLayer;

/// The security schemes of a [`ServiceTokenLayer`] with the default headers: `serviceToken` and
/// `serviceTokenHeader`.
///
/// A layer with other headers, or that accepts `Bearer`, [declares its schemes itself](self).
///
/// ```
/// use tower_service_token::openapi::SecuritySchemes;
/// use utoipa::OpenApi;
///
/// #[derive(OpenApi)]
/// #[openapi(modifiers(&SecuritySchemes))]
/// struct Document;
///
/// let document = serde_json::to_value(Document::openapi())?;
/// let schemes = &document["components"]["securitySchemes"];
/// assert_eq!(schemes["serviceTokenHeader"]["name"], "x-api-key");
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SecuritySchemes;

impl SecuritySchemes {
    /// Returns the scheme of each source, with its name.
    pub(crate) fn for_sources(sources: &CredentialSources) -> Vec<(String, SecurityScheme)> {
        let header = |name: &str, description: &str| {
            let value = ApiKeyValue::with_description(name, description);
            SecurityScheme::ApiKey(ApiKey::Header(value))
        };
        let mut schemes = Vec::new();
        if sources.reads_api_key() {
            let description = "The word `ApiKey`, a space, and the token.";
            schemes.push((
                "serviceToken".to_owned(),
                header("Authorization", description),
            ));
        }
        for name in sources.names().filter(|name| **name != AUTHORIZATION) {
            let scheme = if *name == X_API_KEY {
                "serviceTokenHeader"
            } else {
                name.as_str()
            };
            schemes.push((scheme.to_owned(), header(name.as_str(), "The token.")));
        }
        if sources.reads_bearer() {
            let bearer = HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .bearer_format("service token")
                .description(Some("The token (RFC 6750)."));
            let bearer = SecurityScheme::Http(bearer.build());
            schemes.push(("serviceTokenBearer".to_owned(), bearer));
        }
        schemes
    }
}

impl Modify for SecuritySchemes {
    fn modify(&self, openapi: &mut OpenApi) {
        add(openapi, &CredentialSources::default());
    }
}

/// Adds the [security schemes](self) of the headers that the layer reads.
impl<R> Modify for ServiceTokenLayer<R> {
    fn modify(&self, openapi: &mut OpenApi) {
        add(openapi, self.sources());
    }
}

fn add(openapi: &mut OpenApi, sources: &CredentialSources) {
    let components = openapi.components.get_or_insert_with(Components::new);
    components.add_security_schemes_from_iter(SecuritySchemes::for_sources(sources));
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::header::TokenHeader;
    use crate::store::MemoryStore;

    fn declared(modifier: &dyn Modify) -> Vec<String> {
        let mut document = OpenApi::default();
        modifier.modify(&mut document);
        let components = document.components.expect("schemes");
        components.security_schemes.into_keys().collect()
    }

    #[test]
    fn declares_only_what_the_layer_accepts() {
        let layer = || ServiceTokenLayer::new(MemoryStore::new());
        let header = TokenHeader::new(HeaderName::from_static("x-build-token"));
        let header = header.expect("a header");
        let by_default = ["serviceToken", "serviceTokenHeader"];
        assert_eq!(declared(&SecuritySchemes), by_default);
        assert_eq!(declared(&layer()), by_default);
        assert_eq!(
            declared(&layer().accept_bearer()),
            ["serviceToken", "serviceTokenBearer", "serviceTokenHeader"]
        );
        assert_eq!(
            declared(&layer().with_header(header.clone())),
            ["serviceToken", "serviceTokenHeader", "x-build-token"]
        );
        let only_header = layer().with_sources(CredentialSources::none().with_header(header));
        assert_eq!(declared(&only_header), ["x-build-token"]);
        let only_bearer = layer().with_sources(CredentialSources::none().accept_bearer());
        assert_eq!(declared(&only_bearer), ["serviceTokenBearer"]);
    }
}
