//! The API of the client `pipeops-go-sdk`, so that the client works unmodified.
//!
//! Merge the router at the root: the client uses `/api/v1` and `/workspace`. It sends its token as
//! `Authorization: Bearer`, which this API always accepts. Paths below `/api/v1` and `/workspace`
//! without any route get 404 in the format of the client, so no other router with a fallback can be
//! nested there.
//!
//! | request | needs | response |
//! |---|---|---|
//! | `POST /api/v1/service-account-tokens` | `service-tokens:write` | 201; the token, with its secret as `token` |
//! | `GET /api/v1/service-account-tokens` | `service-tokens:read` | `tokens`, all that are not revoked, and `total`, their number |
//! | `GET …/{uuid}` | `service-tokens:read` | the token |
//! | `PATCH …/{uuid}` | `service-tokens:write` | the token; accepts `name`, `description`, `permissions`, `is_active`, `expires_at`, `expires_in` |
//! | `DELETE …/{uuid}` | `service-tokens:write` | 200; revoked. Repeated: 200 |
//! | `GET /workspace` | a valid token | an array of workspaces, the default one first |
//!
//! 1. `service-tokens:admin` allows all requests. Without it, a caller changes only tokens whose roles
//!    and scopes its own token covers, before and after the change, and creates none that outlives
//!    its own. The last token that may administer tokens cannot be disabled, narrowed or revoked here
//!    (409). A caller whose token has an owner sees and changes only tokens of that owner; the owner is
//!    not shown.
//! 2. Responses are `{"success": true, "status": "success", "message", "data"}`; `data` has one token
//!    as `token`. Errors are `{"success": false, "status": "error", "message"}` with any of the statuses
//!    400 (not a JSON object, or a member given twice), 401, 403, 404, 405, 409, 412, 413, 415, 422 (an
//!    unknown member, a wrong type or a broken rule) and 503.
//! 3. A token has `uuid` and `id`, both its [id](crate::token::TokenId); `name`, `description`,
//!    `token_prefix`, `workspace_id`; `permissions` and `scopes`, both its scopes; `expires_at`,
//!    `created_at`, `updated_at`, `last_used_at`, RFC 3339 times or `null`; and `is_active`, whether it
//!    is enabled and has not expired. A revoked token is not found.
//! 4. A request has `permissions` or `scopes`. If both have entries, they must be the same, so that no
//!    list grants more than intended.
//! 5. `null` is the same as absent: the value stays, or is the default. Empty values count:
//!    `"description": ""` clears it, `"permissions": []` removes all, an empty name is rejected.
//!    Unknown members are rejected, because the limit that they set would be missing.
//! 6. `expires_at` and `expires_in` are an [`Expiry`](crate::lifecycle::Expiry), and `expires_in` may be
//!    a whole number of days. Only one is allowed. An expiry at midnight UTC, which a date
//!    sets, is shown as the last second of the day before. The `preset` of a creation is `sandbox`, `mcp`, `sdk` or `platform`, and
//!    grants nothing, which the `message` says.
//! 7. `?workspace_uuid=` or the member of this name sets the label `workspace` of a new token. In other
//!    requests, `?workspace_uuid=` filters the list, and a token of another workspace is not found. A
//!    token without the label belongs to the [default](PipeOpsApi::with_default_workspace) workspace.
//!    The label does not separate permissions. A caller that may not change a token gets 403, whatever
//!    workspace the request names. `GET /workspace` lists the workspaces of tokens only to
//!    a caller that may list tokens.
//! 8. The client retries 429 and 5xx, also for creations. A `PATCH` is therefore one change, and the
//!    body of a rejected request is read and dropped, because the server would close the connection
//!    otherwise. A creation whose response the store lost is still made twice. If the store is
//!    unavailable during a change (503), the message says that the change failed or that its outcome is
//!    unknown. If only the limits of the owner are unavailable, it says so, and that nothing was changed.
//! 9. Messages name the member that the client sent. With 403, `required` names the scopes that the
//!    call needs, or `missing` names the roles and scopes that the caller's token lacks: those of the
//!    token to change, or those to grant.
//! 10. A response with one token has its revision as `ETag`, the same as in the
//!     [management API](super::management). `PATCH` and `DELETE` accept it as `If-Match`, and respond
//!     with 412 if the token is at another revision. No tag matches a creation.
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

mod handlers;
mod response;
mod router;
mod token;
mod workspace;

pub use self::router::PipeOpsApi;
