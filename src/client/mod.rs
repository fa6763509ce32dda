//! Clients that send a service token, and clients that manage tokens.
//!
//! [`AddServiceTokenLayer`] adds a token to outgoing requests, only to its
//! [`Origin`](crate::origin::Origin) if that is set, and reloads the token from its file after a rotation.
//! [`ServiceTokensClient`] creates, lists, updates, rotates and revokes tokens at a server, with the
//! methods of [`ServiceTokens`](crate::ServiceTokens):
//!
//! 1. Arguments have the same types. Results hold a [`TokenInfo`](crate::wire::TokenInfo) instead of
//!    a record, so code moves from a store to a server by changing a type.
//! 2. The token is sent as `Authorization: ApiKey` and marked sensitive. It may come from a
//!    [file](ServiceTokensClientBuilder::with_token_file) that is rotated meanwhile.
//! 3. `https` is required and certificates are checked. `http` is allowed only to loopback. Redirects
//!    are not followed, and proxies of the environment are not used.
//! 4. A call takes at most [30 s](ServiceTokensClientBuilder::with_timeout), including retries and
//!    pauses; a bulk revocation 40 s.
//! 5. A creation makes one token, however often it is retried: see [retries](#retries).
//! 6. A response is accepted only with the expected status, media type and members, and for the
//!    requested token. Others are
//!    [`UnexpectedResponse`](ClientErrorKind::UnexpectedResponse).
//! 7. A relative [expiry](crate::lifecycle::Expiry) stays relative, so that only the server's clock
//!    counts. Durations in responses are whole seconds, rounded up.
//! 8. Dropping a response zeroes this crate's copies of a secret, but not the buffers of the TLS and
//!    HTTP libraries. No error and no `Debug` shows a secret.
//!
//! ```
//! # #[cfg(feature = "api")] {
//! use std::time::Duration;
//! use tower_service_token::api::management::ManagementApi;
//! use tower_service_token::client::{ClientErrorKind, ServiceTokensClient};
//! use tower_service_token::lifecycle::{NewToken, Page};
//! use tower_service_token::registry::TokenFilter;
//! use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! // The router of the server, instead of a connection. Without `with_transport`, the client connects.
//! let store = MemoryStore::new();
//! let direct = ServiceTokens::new(store.clone());
//! let admin = NewToken::new("admin").with_scopes(["service-tokens:admin"]);
//! let admin = direct.create(admin).await?;
//! let server = ManagementApi::new(direct, ServiceTokenLayer::new(store)).into_router::<()>();
//!
//! let tokens = ServiceTokensClient::builder("https://tokens.example")
//!     .with_token(admin.expose_secret())
//!     .with_transport(server)
//!     .build()?;
//! let new = NewToken::new("ci").with_roles(["deployer"]).with_expiry("30d".parse()?);
//! let issued = tokens.create(new).await?;
//! println!("shown once: {}", issued.expose_secret());
//! let id = issued.token().id;
//!
//! for token in tokens.list(TokenFilter::new(), Page::default()).await?.tokens {
//!     println!("{} {}", token.id, token.name);
//! }
//! let rotated = tokens.rotate(id, Duration::from_secs(3600)).await?;
//! println!("shown once: {}", rotated.expose_secret());
//! tokens.revoke(id).await?;
//!
//! let refused = tokens.enable(id).await.unwrap_err();
//! assert_eq!(refused.kind(), ClientErrorKind::Conflict);
//! assert_eq!(refused.code(), Some("token_revoked"));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # }
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Retries
//!
//! A call is retried at most [twice](ServiceTokensClientBuilder::with_max_retries), after pauses
//! that double from 0.2 s to 5 s with jitter, or after `Retry-After`. If the pause exceeds the
//! timeout, the call fails at once.
//!
//! | failure | retried |
//! |---|---|
//! | no connection | every call |
//! | the connection ended before the response; 502, 503, 504, 429 | reads, `create`, and without a [revision](ServiceTokensClient::if_revision) `update`, `disable`, `enable`, `revoke` and `revoke_own` |
//! | anything else | none |
//!
//! Calls that are retried only without a connection use a new connection, because the server may be
//! about to close a pooled one.
//!
//! # The server
//!
//! Any server with the management API of this crate (feature `api`, `api::management`). The API cannot
//! filter by a label whose key has an equals sign; such a filter is
//! [`Invalid`](ClientErrorKind::Invalid).

mod add_token;
mod service_tokens;

pub use self::add_token::{
    AddServiceToken, AddServiceTokenLayer, TokenSourceError, TokenSourceErrorKind,
};
pub use self::service_tokens::{
    ChangedTokenInfo, ClientConfigError, ClientError, ClientErrorKind, IssuedTokenInfo, Revocation,
    ServiceTokensClient, ServiceTokensClientBuilder, TokenInfoPage,
};
