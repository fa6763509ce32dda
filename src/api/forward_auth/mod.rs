//! Forward authentication: a reverse proxy sends a subrequest to `/verify` before it forwards a
//! request.
//!
//! It works with nginx (`auth_request`), which the tests run with the configuration in
//! `examples/nginx`. Another proxy must send the headers of the original request, and take no status
//! but 200 (or [204](ForwardAuth::respond_with_no_content)) for access.
//!
//! 1. Any method: a proxy may send that of the original request. The token is read as the layer reads
//!    it, and also from `Authorization: ApiKey` and `Bearer`. The body is not read.
//! 2. The response for a valid token is 200 without a body, with all of these headers:
//!
//!    | header | value |
//!    |---|---|
//!    | `X-Service-Token-Id` | the token's [displayed id](crate::store::TokenRecord::display_id) |
//!    | `X-Service-Token-Name` | its name |
//!    | `X-Service-Token-Subject` | its subject |
//!    | `X-Service-Token-Roles` | its roles, separated by `,` |
//!    | `X-Service-Token-Scopes` | its scopes, separated by spaces |
//!    | `X-Service-Token-Truncated` | the lists that were cut: `roles`, `scopes`, or `roles, scopes` |
//!
//! 3. A missing value is an empty header, not an absent one, so that a proxy which copies the headers
//!    overwrites those of its client. Configure the proxy to remove them from the client's request
//!    nevertheless.
//! 4. Values percent-encode (RFC 3986 §2.1) every byte except visible ASCII without `%`, `,`, `"` and
//!    `\`. Split a list first, then decode each entry. So no name can add a header or look like two
//!    names.
//! 5. A list of roles or scopes that is longer than 2,048 bytes is cut at the end of an entry, because
//!    proxies reject responses with long headers. The headers take up to 9 kB: nginx needs
//!    `proxy_buffer_size 16k`. Requirements are checked on the whole lists.
//! 6. All roles and scopes in the query (`role=` and `scope=`, repeatable) are required; a token
//!    without one gets 403. The body names every unmet requirement once: `required` is the first entry
//!    and `also_required` has the others. Requirements that need all of their names share one entry
//!    (`match`: `all`); each `any` requirement has its own. `WWW-Authenticate` has the scopes, up to
//!    2,048 bytes of those that can be quoted. Any other parameter, a parameter without a value, and
//!    more than 100 parameters are 400, so that a typo such as `roles=` does not grant access.
//! 7. Below a [prefix](ForwardAuth::with_prefix), such as `/verify/deploy/…`, the requirements are
//!    configured, and the rest of the path and the query are ignored: a proxy may append those of the
//!    original request, beginning with `/`. Other paths below `/verify` are 404.
//! 8. Other rejections are those of the layer (400, 401 with a challenge, 429, 503), always as HTTP
//!    statuses. A gRPC request gets no gRPC response, because that would be 200 and grant access.
//! 9. Only the credentials identify the client. `X-Forwarded-…` headers are not read.
//! 10. Responses have `Cache-Control: no-store`.
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
//! assert_eq!(response.status(), StatusCode::OK);
//! assert_eq!(response.headers()["x-service-token-name"], "nightly%20build");
//! assert_eq!(verify("/verify?role=admin").await?.status(), StatusCode::FORBIDDEN);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).expect("no step fails");
//! ```

mod endpoint;
mod identity;
mod prefix;
mod query;

pub use self::endpoint::ForwardAuth;
pub use self::prefix::{VerifyPrefix, VerifyPrefixError};
