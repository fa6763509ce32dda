//! Managing tokens over HTTP: create, list, update, rotate, revoke.
//!
//! 1. Callers present a service token. Reading needs its scope `service-tokens:read`, changing
//!    `service-tokens:write`; `service-tokens:admin` is good for both. Without: 401, 403. The token
//!    is checked before the body is read, after it was read, and in the transaction that writes: a
//!    token that was revoked, disabled, rotated or stripped meanwhile changes nothing.
//! 2. A caller changes only tokens whose roles and scopes its own token covers, before and after the
//!    change: 403 `escalation_denied`, with what is `missing`. Revoking, disabling, renaming and
//!    rotating are changes. A caller whose token expires creates and extends no token beyond that
//!    time; a new token without an expiry gets the caller's, and so does one that lives longer and
//!    gets more roles or scopes from the caller. None of this binds a caller with
//!    `service-tokens:admin`.
//! 3. A secret stands in the answers of a creation and of a rotation, as `token`, and nowhere else.
//! 4. A token is shown in one shape everywhere: `id`, `name`, `description`, `subject`, `roles`,
//!    `scopes`, `labels`, `state` (`active`, `disabled`, `revoked`, `expired`), `created_at`,
//!    `created_by`, `updated_at`, `expires_at`, `not_before`, `last_used_at`, `rotated_at`,
//!    `grace_ends_at`, `hint`; `null` where there is nothing, times as RFC 3339 has them, in UTC.
//! 5. What breaks a rule is 422 with `errors`, each with the `pointer` to its field (RFC 6901) and a
//!    `detail`, at most 100 of them; a field of an unknown name is one. All refusals are `application/problem+json`.
//! 6. Bodies are of 64 KiB at most (413) and `application/json` (415).
//! 7. A change's answer says `Service-Token-Effective-Within`: after how many seconds, at the
//!    latest, every node knows of it.
//!
//! 8. A creation that may have to be sent again bears an `Idempotency-Key` of its own (1 to 255
//!    visible ASCII characters, bare or in quotes): a random UUID, made once for each token wanted.
//!    It makes one token, however often and to however many nodes it is sent. Again it is answered
//!    with 200, `Idempotency-Replayed: true` and the record, and `token` is `null`: the secret is
//!    not told again. Whoever lost it rotates the token, without a grace. With another body the key
//!    is refused: 422 `idempotency_key_reused`; the expiry is not compared, nor is a token that was
//!    changed since. A key is of one caller, and remembered as long as the token's record is kept:
//!    until it is [purged](crate::ServiceTokens::purge).
//!
//! 9. `If-Match` is honoured by every change of one token (RFC 9110 §13.1.1): 412 if the token is at another
//!    revision than the `ETag` that was read. A caller that presents the secret from before its last
//!    rotation rotates its own token only with one tag in `If-Match`: 428 `precondition_required`. It does so
//!    to recover from a lost response: the lost secret ends at once, and the presented one stays
//!    valid for `grace`, and never longer than its own grace.
//!
//! 10. A change after which no valid token may administer tokens (`service-tokens:admin`) is refused:
//!     409 `last_admin`. `?last_admin=true` confirms it for an update, a disabling and a revocation of
//!     one token. A bulk revocation cannot be confirmed.
//!
//! 11. `GET /openapi.json` tells all of this to programs, as an OpenAPI 3.1 document, without a token;
//!     [`ManagementApi::openapi`] is the same as a value. For the document of your own API there are
//!     the [security schemes](crate::api::SecuritySchemes).
//!
//! | call | answer |
//! |---|---|
//! | `POST /service-tokens` | 201 with `Location`; `{token, service_token}`. Takes `name`, `description`, `subject`, `roles`, `scopes`, `labels`, `not_before`, and `expires_at` or `expires_in`, each a text that [`Expiry`](crate::lifecycle::Expiry) reads, or `null` for never. With the header `Idempotency-Key` also 200, see above |
//! | `GET /service-tokens` | `{service_tokens, next_cursor}`; the query may hold `limit` (1 to 1,000; 50), `cursor`, `name`, `role`, `scope`, `subject`, `state`, `label` (`key=value`), `expires_before`, `last_used_before` |
//! | `GET /service-tokens/{id}` | the token, with `ETag` |
//! | `PATCH /service-tokens/{id}` | the token; a merge patch (RFC 7396), `null` clears |
//! | `POST /service-tokens/{id}/rotate` | `{token, grace_ends_at, service_token}`; takes `grace`, such as `1h` or `PT1H` (none by default) |
//! | `POST /service-tokens/{id}/disable`, `/enable` | the token |
//! | `DELETE /service-tokens/{id}` | 204; revoked, which is final. Again: 204 |
//! | `POST /service-tokens/revoke` | `{dry_run, ids, revoked, remaining}`; takes `filter` (the names of the query above), `expect` and `dry_run`. See below |
//! | `GET /service-tokens/self` | the caller's own token; needs no scope, nor do the next two |
//! | `POST /service-tokens/self/rotate`, `DELETE /service-tokens/self` | as above |
//! | `GET /openapi.json` | the document; its `servers` say where the router is nested |
//!
//! # Bulk revocation
//!
//! 1. A dry run returns `count`, a `sample` of at most 100 ids, `forbidden` (how many of the tokens
//!    the caller may not revoke), `needs_expect`, and `ends_administration` (whether no other valid
//!    token could administer tokens afterwards, which is refused).
//! 2. `expect` is the number of tokens that the filter must match: 409 `unexpected_count`, with
//!    `expected` and `found`, if it is another. It is needed if more than 100 tokens match, more than half of all tokens that are
//!    neither revoked nor expired, or the caller's own.
//! 3. If the caller may not revoke one of the tokens, nothing is revoked: 403 `escalation_denied`
//!    with `forbidden`.
//! 4. A call works for at most 20 s. If `remaining` is not 0, repeat it with that number as `expect`.
//!
//! ```
//! use axum::Router;
//! use axum::body::Body;
//! use http::{Request, StatusCode};
//! use tower::ServiceExt;
//! use tower_service_token::api::management::ManagementApi;
//! use tower_service_token::lifecycle::NewToken;
//! use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};
//!
//! # futures::executor::block_on(async {
//! let store = MemoryStore::new();
//! let tokens = ServiceTokens::new(store.clone());
//! let admin = tokens.create(NewToken::new("admin").with_scopes(["service-tokens:admin"])).await?;
//! let api = ManagementApi::new(tokens, ServiceTokenLayer::new(store));
//! let app: Router = Router::new().nest("/api", api.into_router());
//!
//! let request = Request::post("/api/service-tokens")
//!     .header("x-api-key", admin.expose_secret())
//!     .header("content-type", "application/json")
//!     .body(Body::from(r#"{"name":"ci","roles":["deployer"],"expires_in":"30d"}"#))?;
//! let response = app.oneshot(request).await?;
//! assert_eq!(response.status(), StatusCode::CREATED);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).expect("no step fails");
//! ```

mod bulk;
mod change;
mod conditions;
mod create;
mod endpoints;
mod idempotency_key;
mod if_match;
mod list;
mod openapi;
mod problem;

pub use self::endpoints::ManagementApi;
use super::{body, fields};
