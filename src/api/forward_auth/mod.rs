//! Forward authentication: a reverse proxy asks `/verify` before it passes a request on.
//!
//! For nginx (`auth_request`), Traefik (`forwardAuth`), Caddy (`forward_auth`), Envoy (`ext_authz`)
//! and others that ask by a request of their own with the headers of the one at hand. The folder
//! `examples/nginx` has a configuration that works.
//!
//! 1. `GET`, `HEAD` or `POST`. The token comes as the layer reads it, and by `Authorization:
//!    ApiKey` and `Bearer` in any case. The body is not read.
//! 2. A good token gets 204 and these headers, always all of them:
//!
//!    | header | value |
//!    |---|---|
//!    | `X-Service-Token-Id` | the token's id |
//!    | `X-Service-Token-Name` | its name |
//!    | `X-Service-Token-Subject` | whom it acts for |
//!    | `X-Service-Token-Roles` | its roles, parted by `,` |
//!    | `X-Service-Token-Scopes` | its scopes, parted by spaces |
//!
//! 3. What a token does not have is an empty value, not an absent header: a proxy that copies the
//!    headers then overwrites whatever its client sent under that name. Let the proxy remove them
//!    from the client's request all the same.
//! 4. In a value every byte but visible ASCII without `%`, `,`, `"` and `\` is percent-encoded
//!    (RFC 3986 §2.1), spaces too: part a list first, then decode each. So no name can add a header,
//!    or pass for two.
//! 5. `role=` and `scope=` in the query, as often as need be, must all be held; a token without gets
//!    403. A parameter of any other name, or without a value, is 400: a slip such as `roles=` must
//!    not open a door. So is a query with more than 100 parameters.
//! 6. Other refusals are those of the layer: 400, 401 with a challenge, 429, 503, always as statuses of
//!    HTTP. A request that says it is gRPC gets no gRPC answer, which would be a 200, and so access.
//! 7. No header speaks for the client but the credentials: `X-Forwarded-…` is not read.
//! 8. Nothing may be kept: `Cache-Control: no-store`.
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
//! let ask = |uri: &str| {
//!     let request = Request::get(uri).header("x-api-key", token.expose_secret());
//!     app.clone().oneshot(request.body(Body::empty()).expect("a request"))
//! };
//! let response = ask("/verify?role=deployer").await?;
//! assert_eq!(response.status(), StatusCode::NO_CONTENT);
//! assert_eq!(response.headers()["x-service-token-name"], "nightly%20build");
//! assert_eq!(ask("/verify?role=admin").await?.status(), StatusCode::FORBIDDEN);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).expect("no step fails");
//! ```

mod required_grants;
mod endpoint;
mod identity;

pub use self::endpoint::ForwardAuth;
