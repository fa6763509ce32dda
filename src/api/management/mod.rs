//! The management API: creates, lists, updates, rotates and revokes tokens over HTTP.
//!
//! 1. Callers present a service token, unless [the application authenticates
//!    them](#callers-that-the-application-authenticates). Reads need its scope `service-tokens:read`, changes
//!    `service-tokens:write`; `service-tokens:admin` allows both. Otherwise the response is 401 or
//!    403. The token is checked before the body is read, after it was read, and in the transaction
//!    that writes, so a token that is revoked, disabled, rotated or narrowed meanwhile changes
//!    nothing.
//! 2. A caller changes only tokens whose roles and scopes its own token covers, before and after the
//!    change. Otherwise the response is 403 `escalation_denied` with the `missing` names. Revoking,
//!    disabling, renaming and rotating are changes. A caller whose token expires creates and extends
//!    no token beyond that time. A new token without an expiry gets the caller's, and so does a
//!    token that lives longer and gets more roles or scopes from the caller. A caller sets no `owner`,
//!    and changes none. These rules do not apply to a caller with `service-tokens:admin`.
//!
//!    A caller whose token has an `owner` reads and changes only tokens of that owner, whatever its
//!    scopes; others are 404. Its new tokens get the owner, and another `owner` in its request is 422.
//!    A token that gets another owner loses `created_by` and the grace period of its last rotation.
//!    `service-tokens:admin` lifts none of the rules for it, but lets it disable and revoke each token
//!    of the owner.
//! 3. Only the responses to a creation and a rotation have a secret, as `token`.
//! 4. A token is the same JSON everywhere, see [`TokenInfo`](crate::wire::TokenInfo): `id`, `name`,
//!    `description`, `subject`, `owner`, `roles`, `scopes`, `labels`, `state` (`active`, `disabled`, `revoked`,
//!    `expired`), `created_at`, `created_by`, `updated_at`, `expires_at`, `not_before`,
//!    `last_used_at`, `rotated_at`, `grace_ends_at`, `hint`. Missing values are `null`, times are
//!    RFC 3339 in UTC.
//!    The years of dates and times have four digits; of the others, 10000 and those with a sign, such
//!    as `+12027`, are the end of 9999. The filter of a bulk revocation rejects them.
//! 5. Request bodies are strict. Broken syntax and a member given twice, at any depth, are 400. An
//!    unknown member and a wrong type are 422 and name the first one; broken rules are 422 and name
//!    all of them, up to 100. `errors` lists each with its `pointer` (RFC 6901) and `detail`. Every
//!    error is `application/problem+json`.
//!    [`NewToken`](crate::lifecycle::NewToken) lists the rules for texts.
//! 6. Bodies are at most 64 KiB (413) and `application/json` (415).
//! 7. The response to a change has `Service-Token-Effective-Within`: the seconds after which every
//!    node sees the change, at the latest.
//! 8. A creation that may be retried needs an `Idempotency-Key` (1 to 255 visible ASCII characters,
//!    bare or in quotes): a random UUID, generated once for each token. It creates one token, however
//!    often and to however many nodes it is sent. A repeated request gets 200,
//!    `Idempotency-Replayed: true` and the token, with `null` as the secret. If the secret is lost,
//!    rotate the token without a grace period. The same key with another body is 422
//!    `idempotency_key_reused`; the expiry is not compared, and a token that was changed since is
//!    not compared either. A key belongs to one caller, and is valid as long as the record of the
//!    token: until it is [purged](crate::ServiceTokens::purge). A rotation accepts the same header: a
//!    request that repeats the last rotation gets 200, `Idempotency-Replayed: true`, the `ETag` and the
//!    token, with `null` as the secret, at any revision. Its key is valid until the next rotation; with
//!    another `grace` it is 422 `idempotency_key_reused`.
//! 9. Every response with one token has its revision as `ETag`. Every change of one token accepts
//!    `If-Match` (RFC 9110 §13.1.1), whose lines are one list, and responds with 412 at another
//!    revision. Creations and bulk
//!    revocations, dry runs included, have no entity tag, so only `*` matches. A caller that presents its
//!    previous secret must send exactly one tag to rotate its own token; otherwise the response is 428
//!    `precondition_required`. This recovers from a lost response: the lost secret ends at
//!    once, and the presented one stays valid for `grace`, and never longer than its own grace
//!    period.
//! 10. A change after which no valid token may administer tokens (`service-tokens:admin`) is 409
//!     `last_admin`. `?last_admin=true` allows it for an update, a disabling and a revocation of one
//!     token. A bulk revocation never allows it.
//! 11. `GET /openapi.json` returns the OpenAPI 3.1 document of the API, without a token.
//!     [`ManagementApi::openapi`] returns the same document, which [merges](crate::guide::openapi) into
//!     that of your own API.
//!
//! | request | response |
//! |---|---|
//! | `POST /service-tokens` | 201 with `Location`; `{token, service_token}`. Accepts `name`, `description`, `subject`, `owner`, `roles`, `scopes`, `labels`, `not_before`, and `expires_at` or `expires_in`, each an [`Expiry`](crate::lifecycle::Expiry), or `null` for never. With `Idempotency-Key` also 200, see above |
//! | `GET /service-tokens` | `{service_tokens, next_cursor}`; the query accepts `limit` (1 to 1,000; 50), `cursor`, `name`, `number` (of the [id](crate::token::TokenId::number)), `role`, `scope`, `subject`, `owner`, `state`, `without_revoked` (`true` or `false`), `label` (`key=value`), `expires_before`, `last_used_before` (a time, or a date as its start) |
//! | `GET /service-tokens/{id}` | the token, with `ETag` |
//! | `PATCH /service-tokens/{id}` | the token; a merge patch (RFC 7396), `null` clears |
//! | `POST /service-tokens/{id}/rotate` | `{token, grace_ends_at, service_token}`; accepts `grace`, such as `1h` or `PT1H` (the default is zero) |
//! | `POST /service-tokens/{id}/disable`, `/enable` | the token |
//! | `DELETE /service-tokens/{id}` | 204; revoked, which is final. Repeated: 204 |
//! | `POST /service-tokens/revoke` | `{dry_run, ids, revoked, remaining}`; accepts `filter` (the conditions of the query above), `expect` and `dry_run`. See below |
//! | `GET /service-tokens/self` | the caller's own token; needs no scope, nor do the next two |
//! | `POST /service-tokens/self/rotate`, `DELETE /service-tokens/self` | as above |
//! | `GET /openapi.json` | the document; its `servers` have the path where the router is nested |
//!
//! # Callers that the application authenticates
//!
//! [`ManagementApi::for_actor`] and [`ManagementApi::for_actor_extractor`] take the
//! [`Actor`](crate::lifecycle::Actor) of a request from your application, which authenticates its users
//! by sessions or JWTs. The API reads no service token then. The rules above apply, with these
//! differences:
//!
//! 1. The actor decides what the caller may do. An [`Owner`](crate::lifecycle::Owner) reads and changes
//!    only its tokens, and needs no scope for it, unless it has a
//!    [requirement](crate::lifecycle::Owner::with_requirement). An operator reads and changes all
//!    tokens. The holder of a token needs the scopes of rule 1, or its
//!    [requirement](crate::lifecycle::Holder::with_requirement) instead. An
//!    [`Actor::possession`](crate::lifecycle::Actor::possession) is 403.
//! 2. The actor is determined before the body is read. The check of an
//!    [owner](crate::lifecycle::Owner::with_check) or an [operator](crate::lifecycle::Operator::with_check)
//!    runs again before each read, and immediately before each change. If it rejects the actor, the
//!    response is 401 `actor_rejected`; if it is unavailable, 503 `auth_unavailable`. Nothing is changed in
//!    either case.
//! 3. Browsers send cookies also with requests that pages of other sites make. A change is accepted if
//!    one of these holds, and otherwise 403 `cross_site_request`:
//!
//!    - `Sec-Fetch-Site` is `same-origin` or `none`.
//!    - `Origin` is [trusted](ManagementApi::with_trusted_origin).
//!    - There is no `Sec-Fetch-Site`, and the host and port of `Origin` are those of the request.
//!    - There is neither `Sec-Fetch-Site` nor `Origin`, and the origin of `Referer` is trusted or has the
//!      host and port of the request. Browsers from before 2020 may send only `Referer`.
//!    - There is none of the three headers: the client is not a browser.
//!
//!    A change that repeats one of these headers or `Host` is 400 `invalid_request`. See
//!    [`allow_cross_site_requests`](ManagementApi::allow_cross_site_requests).
//! 4. There is no `/service-tokens/self` (404).
//! 5. The document at `/openapi.json` has no security schemes. Add those of your application with
//!    [`with_openapi_modifier`](ManagementApi::with_openapi_modifier).
//!
//! The page [`users`](crate::guide::users) of the guide has a complete program.
//!
//! # Bulk revocation
//!
//! 1. A dry run returns `count`, a `sample` of at most 100 ids, `forbidden` (the number of tokens that
//!    the caller may not revoke; without a scope that reads tokens, only whether there are any, and
//!    the other members do not include them), `needs_expect`, and `ends_administration` (whether no other valid
//!    token could administer tokens afterwards, which is refused).
//! 2. `expect` is the number of tokens that the filter must match. If it differs, the response is 409
//!    `unexpected_count` with `expected` and `found`. It is required if more than 100 tokens match,
//!    more than half of all tokens that are neither revoked nor expired, or the caller's own.
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
mod conditions;
mod create;
mod cross_site;
mod document;
mod idempotency_key;
mod list;
mod openapi;
mod problem;
mod router;
mod state;
mod token;

pub use self::router::ManagementApi;
