use http::header::AUTHORIZATION;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, OpenApi};

use crate::header::{CredentialSources, X_API_KEY};

/// The security schemes of a service token, for the OpenAPI document of your own API.
///
/// Adds three security schemes. A request uses one of them:
///
/// 1. `serviceToken`: `Authorization: ApiKey <token>`;
/// 2. `serviceTokenHeader`: `X-API-Key: <token>`;
/// 3. `serviceTokenBearer`: `Authorization: Bearer <token>`, if the layer
///    [accepts it](crate::ServiceTokenLayer::accept_bearer).
///
/// ```
/// use tower_service_token::api::SecuritySchemes;
/// use utoipa::OpenApi;
///
/// #[utoipa::path(
///     get,
///     path = "/projects",
///     responses((status = 200, description = "The projects")),
///     security(("serviceToken" = ["projects:read"]), ("serviceTokenHeader" = ["projects:read"])),
/// )]
/// async fn projects() {}
///
/// #[derive(OpenApi)]
/// #[openapi(paths(projects), modifiers(&SecuritySchemes))]
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
    /// Returns the credential sources of all schemes.
    pub(super) fn sources() -> CredentialSources {
        CredentialSources::default().accept_bearer()
    }

    /// Returns the scheme of each source, with its name.
    pub(super) fn for_sources(sources: &CredentialSources) -> Vec<(String, SecurityScheme)> {
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

impl utoipa::Modify for SecuritySchemes {
    fn modify(&self, openapi: &mut OpenApi) {
        let components = openapi.components.get_or_insert_with(Components::new);
        components.add_security_schemes_from_iter(Self::for_sources(&Self::sources()));
    }
}
