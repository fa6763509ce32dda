//! The calls that the client `pipeops-go-sdk` makes, so that it works unmodified.
//!
//! Merge the router at the root: that client asks below `/api/v1` and for `/workspace`. It sends its
//! token as `Authorization: Bearer`, which these calls read besides what the layer reads.
//!
//! | call | needs | answer |
//! |---|---|---|
//! | `POST /api/v1/service-account-tokens` | `service-tokens:write` | 201; the token, with its secret as `token` |
//! | `GET /api/v1/service-account-tokens` | `service-tokens:read` | `tokens`, all that are not revoked, and `total`, their number |
//! | `GET …/{uuid}` | `service-tokens:read` | the token |
//! | `PATCH …/{uuid}` | `service-tokens:write` | the token; takes `name`, `description`, `permissions`, `is_active`, `expires_at`, `expires_in` |
//! | `DELETE …/{uuid}` | `service-tokens:write` | 200; revoked. Again: 200 |
//! | `GET /workspace` | a good token | an array with the default workspace |
//!
//! 1. `service-tokens:admin` is good for all of them. Without it, a caller changes only tokens whose
//!    roles and scopes its own covers, before and after the change, and creates none that outlives
//!    its own.
//!    The last token that may administer tokens is not disabled, stripped or revoked here (409).
//! 2. Answers are `{"success": true, "status": "success", "message", "data"}`; one token stands in
//!    `data` as `token`. Errors are `{"success": false, "status": "error", "message"}`, at every
//!    status: 400 (no JSON object), 401, 403, 404, 405, 409, 413, 415, 422 (a field breaks a rule),
//!    503.
//! 3. A token is `uuid`, its [id](crate::token::TokenId), and the same as `id`; `name`,
//!    `description`, `token_prefix`, `workspace_id`; `permissions`, its scopes, and the same as
//!    `scopes`; `expires_at`, `created_at`, `updated_at`, `last_used_at`, as RFC 3339 has them or
//!    `null`; `is_active`, whether it is switched on. A revoked one is not found.
//! 4. A request takes `permissions` or `scopes`. Both must say the same, but for an empty one, which
//!    then counts as absent: one list more than was meant is not granted.
//! 5. `null` is absent, and absent is left as it is, or as it is by default. What is empty is meant:
//!    `"description": ""` clears it, `"permissions": []` takes all away, an empty name is refused.
//!    A field of an unknown name is refused, as what it was to limit would not be limited.
//! 6. `expires_at` and `expires_in` are texts that [`Expiry`](crate::lifecycle::Expiry) reads, and
//!    `expires_in` may be a whole number of days; only one of both. `preset` is passed over: it
//!    grants nothing.
//! 7. `?workspace_uuid=` or the member of this name keeps the label `workspace`, by which lists are
//!    filtered. A token without one counts to the [default](PipeOpsApi::with_default_workspace)
//!    workspace. It is a label and parts no rights.
//! 8. The client sends a call again after 429 and 5xx, creations too. A `PATCH` is therefore one change,
//!    made or not made, and a refused request's body is read and dropped: the server would close a
//!    connection with an unread body. A creation whose answer the store lost is still made twice.
//!
//! ```
//! use axum::Router;
//! use axum::body::Body;
//! use http::{Request, StatusCode};
//! use tower::ServiceExt;
//! use tower_service_token::api::pipeops::PipeOpsApi;
//! use tower_service_token::lifecycle::NewToken;
//! use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};
//!
//! # futures::executor::block_on(async {
//! let store = MemoryStore::new();
//! let tokens = ServiceTokens::new(store.clone());
//! let admin = tokens.create(NewToken::new("admin").with_scopes(["service-tokens:admin"])).await?;
//! let api = PipeOpsApi::new(tokens, ServiceTokenLayer::new(store));
//! let app: Router = Router::new().merge(api.into_router());
//!
//! let request = Request::post("/api/v1/service-account-tokens?workspace_uuid=default")
//!     .header("authorization", format!("Bearer {}", admin.expose_secret()))
//!     .header("content-type", "application/json")
//!     .body(Body::from(r#"{"name":"CI/CD","permissions":["projects:write"],"expires_in":"30d"}"#))?;
//! let response = app.oneshot(request).await?;
//! assert_eq!(response.status(), StatusCode::CREATED);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).expect("no step fails");
//! ```

mod response;
mod endpoints;
mod tokens;
mod workspace;

pub use self::endpoints::PipeOpsApi;
