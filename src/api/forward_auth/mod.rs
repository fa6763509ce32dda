//! Forward authentication: a reverse proxy sends a subrequest to `/verify` before it forwards a
//! request.
//!
//! It works with nginx (`auth_request`), Traefik (`forwardAuth`), Caddy (`forward_auth`), Envoy
//! (`ext_authz`) and other proxies whose subrequest has the headers of the original request. See the
//! nginx configuration in `examples/nginx`.
//!
//! 1. `GET`, `HEAD` or `POST`. The token is read as the layer reads it, and also from
//!    `Authorization: ApiKey` and `Bearer`. The body is not read.
//! 2. The response for a valid token is 204 with all of these headers:
//!
//!    | header | value |
//!    |---|---|
//!    | `X-Service-Token-Id` | the token's id |
//!    | `X-Service-Token-Name` | its name |
//!    | `X-Service-Token-Subject` | its subject |
//!    | `X-Service-Token-Roles` | its roles, separated by `,` |
//!    | `X-Service-Token-Scopes` | its scopes, separated by spaces |
//!
//! 3. A missing value is an empty header, not an absent one, so that a proxy which copies the headers
//!    overwrites those of its client. Configure the proxy to remove them from the client's request
//!    nevertheless.
//! 4. Values percent-encode (RFC 3986 §2.1) every byte except visible ASCII without `%`, `,`, `"` and
//!    `\`. Split a list first, then decode each entry. So no name can add a header or look like two
//!    names.
//! 5. All roles and scopes in the query (`role=` and `scope=`, repeatable) are required; a token
//!    without one gets 403. Any other parameter, a parameter without a value, and more than 100
//!    parameters are 400, so that a typo such as `roles=` does not grant access.
//! 6. Other rejections are those of the layer (400, 401 with a challenge, 429, 503), always as HTTP
//!    statuses. A gRPC request gets no gRPC response, because that would be 200 and grant access.
//! 7. Only the credentials identify the client. `X-Forwarded-…` headers are not read.
//! 8. Responses have `Cache-Control: no-store`.
//!
//! ```
//! use axum::Router;
//! use axum::body::Body;
//! use http::{Request, StatusCode};
//! use tower::ServiceExt;
//! use tower_service_token::api::forward_auth::ForwardAuth;
//! use tower_service_token::store::TokenRecord;
//! use tower_service_token::token::TokenFormat;
//! use tower_service_token::{MemoryStore, ServiceTokenLayer};
//!
//! # futures::executor::block_on(async {
//! let store = MemoryStore::new();
//! let token = TokenFormat::default().mint()?;
//! store.insert(TokenRecord::from(&token).with_name("nightly build").with_roles(["deployer"]))?;
//! let app: Router = ForwardAuth::new(ServiceTokenLayer::new(store)).into_router();
//!
//! let verify = |uri: &str| {
//!     let request = Request::get(uri).header("x-api-key", token.expose_secret());
//!     app.clone().oneshot(request.body(Body::empty()).expect("a request"))
//! };
//! let response = verify("/verify?role=deployer").await?;
//! assert_eq!(response.status(), StatusCode::NO_CONTENT);
//! assert_eq!(response.headers()["x-service-token-name"], "nightly%20build");
//! assert_eq!(verify("/verify?role=admin").await?.status(), StatusCode::FORBIDDEN);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).expect("no step fails");
//! ```

mod endpoint;
mod query;

pub use self::endpoint::ForwardAuth;
