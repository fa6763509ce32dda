//! Rejections: why a request is not accepted, and the response to it.
//!
//! 1. Every rejection is a [`Rejection`]. Its [reason](RejectionReason) determines the status, the
//!    `code` and the headers. A response builder determines the body.
//! 2. The default builder, [`ProblemJson`], creates `application/problem+json` (RFC 9457). A gRPC
//!    service chooses [`GrpcStatus`], which creates a trailers-only gRPC response to a request with
//!    content type `application/grpc`. No client chooses it: its HTTP status is 200.
//! 3. A client error of a token has `WWW-Authenticate` (RFC 9110 §11.6.1, RFC 6750 §3), one challenge for each
//!    scheme the service reads; 429 and 503 have `Retry-After`; all have `Cache-Control: no-store`.
//! 4. A bad checksum, an unknown token and a wrong digest get the same response, byte for byte.
//!    Only a client that presented the secret gets the token's id, as its store
//!    [displays](crate::store::TokenRecord::with_display_id) it.
//! 5. The body of `insufficient_scope` has `required`: `any` or `all` (`match`) of the `roles` or
//!    `scopes`. `/verify` may combine both, and lists further unmet requirements as `also_required`.
//! 6. The `detail` of 503 says what is unavailable, and whether a change may have been made.
//! 7. The extensions of the response contain the `Rejection`, with any builder.
//!
//! | `code` | status | challenge | gRPC |
//! |---|---|---|---|
//! | `missing_token` | 401 | without `error` | 16 |
//! | `invalid_request` | 400 | `invalid_request` | 3 |
//! | `invalid_token` | 401 | `invalid_token` | 16 |
//! | `token_expired`, `token_revoked`, `token_disabled`, `token_not_yet_valid` | 401 | `invalid_token` with `error_description` | 16 |
//! | `invalid_ticket` (routes that accept [tickets](crate#modules)) | 401 | `invalid_token` | 16 |
//! | `insufficient_scope` | 403 | `insufficient_scope`, with `scope`, up to 2,048 bytes; none for an [identity](crate::principal::Identity) | 7 |
//! | `rate_limited` | 429 | – | 8 |
//! | `auth_unavailable` | 503 | – | 14 |
//! | `change_failed` ([`LifecycleError`](crate::lifecycle::LifecycleError), routers of `api`) | 503 | – | 14 |
//! | `internal` | 500 | – | 13 |
//!
//! A body:
//!
//! ```json
//! {
//!   "type": "about:blank", "title": "Unauthorized", "status": 401,
//!   "detail": "the token has expired", "code": "token_expired", "token_id": "7Hq2mX9bTe"
//! }
//! ```
//!
//! # Custom responses
//!
//! Any `Fn(&Rejection) -> Response<B>` that is `Clone` is a response builder.
//! [`Rejection::to_response`] gives it the status and headers to start from.
//!
//! ```
//! use tower_service_token::reject::{Rejection, RejectionReason, ResponseForRejection};
//!
//! let mut builder = |rejection: &Rejection| rejection.to_response(rejection.code().to_owned());
//! let rejection = Rejection::new(RejectionReason::MissingToken);
//! let response = builder.response_for_rejection(&rejection);
//! assert_eq!(response.status(), 401);
//! assert_eq!(response.headers()["www-authenticate"], r#"ApiKey realm="api""#);
//! assert_eq!(response.body(), "missing_token");
//! ```
//!
//! A builder applies to the layer or guard that it is set on. Extractors and
//! [`Principal::require`](crate::Principal::require) always use [`ProblemJson`]. To change that, map
//! their `Rejection` in the handler, in a gRPC service by [`Rejection::to_grpc_response`].

mod challenge;
mod lifecycle_error;
mod no_token;
mod reason;
mod rejection;
mod response;

pub(crate) use self::challenge::Challenges;
pub use self::challenge::{Realm, RealmError};
pub(crate) use self::no_token::NoToken;
pub use self::reason::RejectionReason;
pub use self::rejection::Rejection;
pub use self::response::{GrpcStatus, ProblemJson, ResponseForRejection};

/// Marks a response with a 5xx status, in its extensions, whose cause has been logged.
///
/// The layer, the guards and the routers of `api` log each of their failures once, with the feature
/// `tracing`, and insert this. An outer middleware that logs failures skips such responses.
///
/// ```
/// use http::Response;
/// use tower_service_token::reject::FailureLogged;
///
/// fn needs_log<B>(response: &Response<B>) -> bool {
///     let is_logged = response.extensions().get::<FailureLogged>().is_some();
///     response.status().is_server_error() && !is_logged
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureLogged;
