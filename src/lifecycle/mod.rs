//! The lifecycle of tokens: create, list, update, rotate, disable, enable, revoke and purge.
//!
//! [`ServiceTokens`] does all of it over any [registry](crate::registry::TokenRegistry):
//!
//! 1. A secret is shown once, in the answer to [`create`](ServiceTokens::create) or
//!    [`rotate`](ServiceTokens::rotate). Only its digest is kept.
//! 2. A [rotation](ServiceTokens::rotate) keeps the id and everything known; the old secret works
//!    until its grace ends, and never longer than the token.
//! 3. A revocation is final. A token that is switched off can be switched on again.
//! 4. The [policy](TokenPolicy) and the rules for fields hold on every path, and so does the
//!    [authority](ServiceTokens::acting_for) of the actor: the registry checks it in
//!    the transaction that writes.
//! 5. A change begins from what is stored, and is written only if that is still so: of two changes
//!    at the same time none is lost, from whatever process they come.
//! 6. Every change sends an audit event to the [sink](ServiceTokens::with_audit_sink).
//! 7. A creation that is sent again with the same
//!    [idempotency key](NewToken::with_idempotency_key) makes no second token.
//! 8. A change after which no valid token [may administer](crate::store::TokenRecord::may_administer)
//!    tokens needs to be [confirmed](ServiceTokens::allow_last_admin_removal).
//! 9. [`effective_within`](ChangedToken::effective_within) says how long a cache on another node may
//!    go on accepting what was before.
//!
//! ```
//! use std::time::Duration;
//! use tower_service_token::lifecycle::{NewToken, Page, TokenUpdate};
//! use tower_service_token::registry::TokenFilter;
//! use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};
//!
//! # futures::executor::block_on(async {
//! let store = MemoryStore::new();
//! let layer = ServiceTokenLayer::new(store.clone());
//! let tokens = ServiceTokens::new(store);
//!
//! let new = NewToken::new("ci").with_roles(["deployer"]).with_expiry("2199-12-31".parse()?);
//! let issued = tokens.create(new).await?;
//! println!("token_info once: {}", issued.expose_secret());
//! let id = issued.record().id();
//!
//! for record in tokens.list(TokenFilter::new(), Page::default()).await?.records {
//!     println!("{} {}", record.id(), record.name());
//! }
//! tokens.update(id, TokenUpdate::new().with_roles(["deployer", "auditor"])).await?;
//! let rotated = tokens.rotate(id, Duration::from_secs(3600)).await?;
//! println!("token_info once: {}", rotated.expose_secret());
//! tokens.revoke(id).await?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).expect("no step fails");
//! ```

mod actor;
mod bulk;
mod change;
mod create;
mod diff;
mod error;
mod expiry;
mod fields;
mod new_token;
mod page;
mod policy;
mod purge;
mod rights;
mod tokens;
mod update;

pub use self::actor::Actor;
pub use self::bulk::{BulkPreview, BulkRevocation};
pub use self::error::{FieldProblem, LifecycleError};
#[cfg(any(feature = "api", feature = "client"))]
pub(crate) use self::expiry::ExpiryKind;
pub use self::expiry::{Expiry, ExpiryError, expiry_date, last_day};
pub use self::new_token::{IssuedToken, NewToken};
pub use self::page::Page;
pub use self::policy::TokenPolicy;
pub use self::tokens::ServiceTokens;
pub(crate) use self::update::Patch;
pub use self::update::{ChangedToken, TokenUpdate};
