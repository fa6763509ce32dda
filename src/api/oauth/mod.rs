//! Introspection and revocation, for services in any language.
//!
//! # `POST /introspect` (RFC 7662)
//!
//! 1. The caller presents a service token with the scope `introspect`: with `Authorization: ApiKey`,
//!    `Bearer`, a header of the layer such as `X-API-Key`, or with HTTP Basic, where the user is the
//!    token's displayed id or `TokenId` and the password the token, both percent-encoded as RFC 6749 §2.3.1 requires.
//!    Otherwise the response is 401 with a challenge for each scheme, or 403. The caller is
//!    authenticated before its form is read, and again afterwards.
//! 2. The form has the token as `token`, once. White space around it is trimmed. `token_type_hint`,
//!    other parameters and the query are ignored.
//! 3. The response for a valid token has the members below; for anything else it is exactly
//!    `{"active":false}`. Both are 200.
//! 4. If the store is unavailable, the response is 503 with `Retry-After`, never `active: false`.
//! 5. Responses have `Cache-Control: no-store`.
//! 6. For a caller whose token has an owner, tokens of others are not active.
//!
//! | member | value |
//! |---|---|
//! | `active` | `true` |
//! | `scope` | the scopes, separated by spaces; absent if none |
//! | `client_id`, `jti` | the token's [displayed id](crate::store::TokenRecord::display_id) |
//! | `sub` | the subject of the token; absent if none |
//! | `owner` | the owner of the token; absent if none |
//! | `exp`, `iat`, `nbf` | when the token expires, was created and starts working, in whole seconds rounded down; absent if unknown. `exp` of a secret from before a rotation is no later than the end of its grace period |
//! | `token_type` | `Bearer` |
//! | `roles` | the roles, as an array |
//! | `name` | the name; absent if none |
//! | `iss`, `aud` | as [configured](OAuthEndpoints::with_issuer) |
//! | `labels` | the labels, as an object; absent if none |
//!
//! # `POST /revoke` (RFC 7009)
//!
//! 1. The holder of a token may revoke it: the form's `token` is the only credential.
//! 2. White space around the token is trimmed, such as the line end that
//!    `curl --data-urlencode token@FILE` sends. 200 means that the token is not valid any more. This
//!    includes unknown tokens.
//! 3. The revocation is final and covers every secret of the token. It works with the secret from
//!    before a rotation while that is valid, for disabled and expired tokens, and for the last token
//!    that may administer tokens. The actor in the audit trail is the token itself.
//! 4. 200 for a known token has `Service-Token-Effective-Within`: the seconds after which no node
//!    accepts the token, at the latest.
//! 5. A text that cannot be a token is 400 `invalid_request`, because the token that the client means
//!    may still be valid. Such a text is longer than the layer accepts, or has a space or another byte
//!    inside that is not visible ASCII, as `Bearer` before a token. An unknown text cannot be a token
//!    if it has a character that no bearer token has (RFC 6750 §2.1), such as a quote, or this
//!    service's prefix without the length and checksum of its tokens.
//! 6. The path has no `ETag`, so `If-Match` with any tag is 412 `invalid_request`, and nothing is
//!    revoked (RFC 9110 §13.1.1). One that cannot be read is 400.
//! 7. If the revocation failed, the response is 503 with `Retry-After`. It is 400
//!    `unsupported_token_type` for a valid token of another store.
//!
//! # Errors of both
//!
//! A body that is not a form (`application/x-www-form-urlencoded`), or has no or more than one
//! `token`, is 400 with `{"error":"invalid_request"}` (RFC 6749 §5.2); more than 64 KiB is 413. Too
//! many unknown tokens are 429, see [`FailureLimit`](crate::limits::FailureLimit). Other rejections
//! have the bodies of [`reject`](crate::reject).
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

mod basic;
mod form;
mod introspect;
mod response;
mod revoke;
mod router;
mod state;

pub use self::router::OAuthEndpoints;
