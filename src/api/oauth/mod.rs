//! Introspection and revocation: what a service in any language needs to rely on these tokens.
//!
//! # `POST /introspect` (RFC 7662)
//!
//! 1. The caller presents a service token with the scope `introspect`: by `Authorization: ApiKey`,
//!    `Bearer`, a header of the layer such as `X-API-Key`, or by HTTP Basic with the token's id as
//!    user and the token as password, both percent-encoded where RFC 6749 §2.3.1 asks for it. A
//!    caller without gets 401 with a challenge for each scheme, or 403. The caller is authenticated
//!    before its form is read and again afterwards.
//! 2. The token stands in the form as `token`, once. `token_type_hint` and all else is ignored, the
//!    query too.
//! 3. A good token is answered with the members below; anything else with exactly
//!    `{"active":false}`, and both with 200.
//! 4. A store that cannot be asked is 503 with `Retry-After`, never `active: false`.
//! 5. Nothing may be kept: `Cache-Control: no-store`.
//!
//! | member | what |
//! |---|---|
//! | `active` | `true` |
//! | `scope` | the scopes, parted by spaces; absent if none |
//! | `client_id`, `jti` | the token's id |
//! | `sub` | whom the token acts for; absent if that was not said |
//! | `exp`, `iat`, `nbf` | when it stops working, was made and starts working, in whole seconds rounded down; absent if that is not known. `exp` of a secret from before a rotation is no later than the end of its grace |
//! | `token_type` | `Bearer` |
//! | `roles` | the roles, as an array |
//! | `name` | the name; absent if none |
//! | `iss`, `aud` | as [set](OAuthEndpoints::with_issuer) |
//! | `labels` | the labels, as an object; absent if none |
//!
//! # `POST /revoke` (RFC 7009)
//!
//! 1. Who has the token may revoke it: the form's `token` is all that is looked at.
//! 2. 200 says that the token works no more. That goes for a token nobody knows as well.
//! 3. It is revoked for good, with whatever secret it has: also by the secret from before a
//!    rotation, while that works, and also if it is disabled or expired, or the last token that may
//!    administer. The audit trail names the token itself as the actor.
//! 4. 200 for a token that is known has `Service-Token-Effective-Within`: after how many seconds,
//!    at the latest, no node accepts the token.
//! 5. 503 with `Retry-After` if that could not be done. 400 `unsupported_token_type` for a good token that
//!    is in another store than the one tokens are revoked in.
//!
//! # Errors of both
//!
//! A body that is no form (`application/x-www-form-urlencoded`), has no `token` or more than one: 400
//! with `{"error":"invalid_request"}` (RFC 6749 §5.2); more than 64 KiB: 413. Too many unknown
//! tokens: 429, by the [`FailureLimit`](crate::limits::FailureLimit). Other refusals have the bodies of
//! [`reject`](crate::reject).
//!
//! # Example
//!
//! ```
//! use axum::Router;
//! use axum::body::{Body, to_bytes};
//! use http::Request;
//! use tower::ServiceExt;
//! use tower_service_token::api::oauth::OAuthEndpoints;
//! use tower_service_token::lifecycle::NewToken;
//! use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};
//!
//! # futures::executor::block_on(async {
//! let store = MemoryStore::new();
//! let tokens = ServiceTokens::new(store.clone());
//! let service = tokens.create(NewToken::new("billing").with_scopes(["introspect"])).await?;
//! let user = tokens.create(NewToken::new("ci").with_roles(["deployer"])).await?;
//!
//! let endpoints = OAuthEndpoints::new(tokens, ServiceTokenLayer::new(store));
//! let app: Router = Router::new().nest("/oauth", endpoints.into_router());
//!
//! let request = Request::post("/oauth/introspect")
//!     .header("authorization", format!("Bearer {}", service.expose_secret()))
//!     .header("content-type", "application/x-www-form-urlencoded")
//!     .body(Body::from(format!("token={}", user.expose_secret())))?;
//! let response = app.oneshot(request).await?;
//! let answer = to_bytes(response.into_body(), 4096).await?;
//! let answer: serde_json::Value = serde_json::from_slice(&answer)?;
//! assert_eq!(answer["active"], true);
//! assert_eq!(answer["roles"][0], "deployer");
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).expect("no step fails");
//! ```

mod introspection_response;
mod basic;
mod endpoints;
mod form;
mod introspect;
mod revoke;

pub use self::endpoints::OAuthEndpoints;
