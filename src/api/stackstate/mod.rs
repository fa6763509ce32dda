//! The calls that the `sts` command line tool makes, so that it works unmodified.
//!
//! Nest the router where that tool expects it, at `/api`. It sends its token as `X-API-Key`, which
//! the layer reads by default.
//!
//! | call | needs | answer |
//! |---|---|---|
//! | `GET /server/info` | a good token | version 5.2.0 and what else the tool asks for first |
//! | `GET /server/status` | a good token | `{"status":"OK"}` |
//! | `POST /security/tokens` | `service-tokens:write` | `{name, token, expiration}` |
//! | `GET /security/tokens` | `service-tokens:read` | an array of the tokens that are not revoked |
//! | `DELETE /security/tokens/{id}` | `service-tokens:write` | 204; revoked. 404 if there is none |
//!
//! 1. `service-tokens:admin` is good for all of them. Without it, a caller changes only tokens whose
//!    roles and scopes its own covers, before and after the change, and creates none that outlives
//!    its own. The last token that may administer tokens is not revoked here (409).
//! 2. An id is the token's [number](crate::token::TokenId::as_i64). Times are milliseconds since the
//!    epoch.
//! 3. `expiryDate` at midnight UTC is the day that was typed: the token works through that day, and
//!    its `expiration` is told as that day's noon UTC, so that a tool which shows it in its own zone
//!    shows that day from UTC-12 to UTC+11. Any other `expiryDate` is that moment.
//! 4. Errors are `{"_type", "trackingKey", "serverTimestamp", "errors": [{"_type", "message"}]}`, with
//!    `Content-Type: application/json` and no parameter: else the tool hides them. The tracking key is
//!    the request id: the header `X-Request-Id` of 1 to 128 visible ASCII characters without a
//!    token, otherwise a random number. The [log](super) has it as `request_id`.
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

mod endpoints;
mod error;
mod expiry;
mod tokens;

pub use self::endpoints::StackStateApi;
