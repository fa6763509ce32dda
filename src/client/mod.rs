//! For services that call others with a service token, and for those that manage tokens.
//!
//! [`AddServiceTokenLayer`] adds the token to every request that goes out, and follows its file as
//! it is rotated. [`ServiceTokensClient`] creates, lists, changes, rotates and revokes tokens at a
//! server, by the verbs of [`ServiceTokens`](crate::ServiceTokens):
//!
//! 1. Arguments are the same types, and answers hold [`TokenInfo`](crate::lifecycle::TokenInfo)s
//!    in place of records, so code goes from a store to a server by changing a type.
//! 2. The token goes as `Authorization: ApiKey`, marked sensitive, and may come from a
//!    [file](ServiceTokensClientBuilder::with_token_file) that is rotated meanwhile.
//! 3. `https` is required, and certificates are checked; `http` goes to loopback alone. No redirect
//!    is followed, and no proxy of the environment used.
//! 4. A call takes at most [30 s](ServiceTokensClientBuilder::with_timeout), all tries and pauses
//!    included; a bulk revocation 40 s.
//! 5. A creation makes one token, however often it has to be sent: see [retries](#retries).
//! 6. An answer is taken only if it has the status, the media type and the form that it must have,
//!    and is about the token asked for. What something else answers is
//!    [`UnexpectedResponse`](ClientErrorKind::UnexpectedResponse).
//! 7. A relative [expiry](crate::lifecycle::Expiry) is sent as such, so that the server's clock
//!    alone counts. Durations of answers are whole seconds, rounded up.
//! 8. Secrets of answers are wiped when dropped, as far as this crate's copies go: what the TLS and
//!    HTTP libraries buffer is not. No error and no `Debug` shows one.
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
//! // In place of a server: its routes. Without `with_transport`, calls go over the network.
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
//! A call is sent again at most [twice](ServiceTokensClientBuilder::with_max_retries), after pauses
//! that double from 0.2 s to 5 s and are spread at random, or after what `Retry-After` says. If that
//! does not fit into the time limit, the caller gets the error at once.
//!
//! | what happened | sent again |
//! |---|---|
//! | no connection could be made | every call |
//! | the connection ended before the answer did; 502, 503, 504, 429 | reads, `create`, and without a [revision](ServiceTokensClient::if_revision) `update`, `disable`, `enable`, `revoke` and `revoke_own` |
//! | anything else | none |
//!
//! What is in no row but the first goes on a connection of its own, so that it does not meet one
//! which the server is about to close.
//!
//! # The server
//!
//! Any that has the calls of this crate's management API, which the feature `api` has as
//! `api::management`. A filter for a label whose key has an equals sign cannot be said there, and is
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
