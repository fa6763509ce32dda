//! The API of the `sts` command line tool, so that the tool works unmodified.
//!
//! Nest the router at `/api`. The tool sends its token as `X-API-Key`, which the layer reads by
//! default. Paths below `/api` without any route get 404 in the format of the tool, so no other router
//! with a fallback can be nested there. Only `/api/` itself gets the 404 of your app, because a nested
//! router does not receive it.
//!
//! | request | needs | response |
//! |---|---|---|
//! | `GET /server/info` | a valid token | version 5.2.0, and what else the tool checks first |
//! | `GET /server/status` | a valid token | `{"status":"OK"}` |
//! | `POST /security/tokens` | `service-tokens:write` | `{name, token, expiration}`; accepts `name`, `roles`, `dedicatedSubject`, `expiryDate` |
//! | `GET /security/tokens` | `service-tokens:read` | an array of the tokens that are not revoked |
//! | `DELETE /security/tokens/{id}` | `service-tokens:write` | 204; revoked. 404 if there is none |
//!
//! 1. `service-tokens:admin` allows all requests. Without it, a caller changes only tokens whose roles
//!    and scopes its own token covers, before and after the change, and creates none that outlives
//!    its own. The last token that may administer tokens cannot be revoked here (409). A caller whose
//!    token has an owner sees and changes only tokens of that owner; the owner is not shown.
//! 2. An id is the token's [number](crate::token::TokenId::number), of at most 13 digits. `DELETE`
//!    accepts the longer ids of earlier releases too. If several tokens of an earlier release have one
//!    number, it is 409. Times are milliseconds since the epoch.
//! 3. `expiryDate` at midnight UTC is a date: the token is valid through that day, and its `expiration`
//!    is noon UTC of that day, so that a tool in any time zone from UTC-12 to UTC+11 shows that day.
//!    Any other `expiryDate` is a time.
//! 4. Request bodies are strict. Broken syntax and a member given twice are 400. An unknown member, a
//!    wrong type and a broken rule are 422. An invalid expiry is 400, as the tool expects. Messages
//!    name the member that the tool sent.
//! 5. Errors are `{"_type", "trackingKey", "serverTimestamp", "errors": [{"_type", "message"}]}`, with
//!    `Content-Type: application/json` without parameters: the tool shows no other. The tracking key
//!    is the request id: the header `X-Request-Id` if it is 1 to 128 visible ASCII characters and not
//!    a token, otherwise a random number. It is the `request_id` of the [log](super). With 403,
//!    `required` names the scopes that the call needs, or `missing` names the roles and scopes that the
//!    caller's token lacks: those of the token to change, or those to grant. Such a caller learns
//!    nothing else about the token.
//! 6. `DELETE` accepts `If-Match` with the `ETag` that the [management API](super::management) and
//!    [`pipeops`](super::pipeops) show, and responds with 412 if the token is at another revision. No
//!    tag matches a creation.
//! 7. If the store is unavailable during a change, the `_type` is `ChangeFailedError` (503), and the
//!    change may have been made. The `_type` is the same if the limits of the owner or random bytes are
//!    unavailable, but then the message says that nothing was changed.
//!
//! ```
//! use axum::Router;
//! use tower_service_token::api::stackstate::StackStateApi;
//! use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};
//!
//! let store = MemoryStore::new();
//! let api = StackStateApi::new(ServiceTokens::new(store.clone()), ServiceTokenLayer::new(store));
//! let app: Router = Router::new().nest("/api", api.into_router());
//! ```

mod error;
mod expiry;
mod router;
mod token;

pub use self::router::StackStateApi;
