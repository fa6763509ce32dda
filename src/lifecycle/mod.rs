//! The lifecycle of tokens: create, list, update, rotate, disable, enable, revoke and purge.
//!
//! [`ServiceTokens`] implements it on any [registry](crate::registry::TokenRegistry):
//!
//! 1. [`create`](ServiceTokens::create) and [`rotate`](ServiceTokens::rotate) return the secret once.
//!    Only its digest is stored.
//! 2. A [rotation](ServiceTokens::rotate) replaces the secret and nothing else. The previous secret is
//!    valid until its grace period or the token ends.
//! 3. A revoked token stays revoked. A disabled token can be enabled again.
//! 4. Every operation enforces the rules for fields, the [policy](TokenPolicy) and the
//!    [authority](ServiceTokens::acting_for) of the actor. The registry checks the authority in the
//!    transaction that writes.
//!    For an [owner](Owner), every call is confined to its tokens.
//! 5. A change is written only if the record was not changed since it was read, and is otherwise
//!    repeated. Concurrent changes are not lost, even from several processes.
//! 6. Every change sends an audit event to the [sink](ServiceTokens::with_audit_sink).
//! 7. A retry with the same [idempotency key](NewToken::with_idempotency_key) creates no second
//!    token.
//! 8. A change after which no valid token [may administer](crate::store::TokenRecord::may_administer)
//!    tokens needs a [confirmation](ServiceTokens::allow_last_admin_removal).
//! 9. [`effective_within`](ChangedToken::effective_within) is the longest time for which caches on
//!    other nodes may use the previous record.
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
//! println!("new token: {}", issued.expose_secret());
//! let id = issued.record().id();
//!
//! for record in tokens.list(TokenFilter::new(), Page::default()).await?.records {
//!     println!("{} {}", record.id(), record.name());
//! }
//! tokens.update(id, TokenUpdate::new().with_roles(["deployer", "auditor"])).await?;
//! let rotated = tokens.rotate(id, Duration::from_secs(3600)).await?;
//! println!("new secret: {}", rotated.expose_secret());
//! tokens.revoke(id).await?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).expect("no step fails");
//! ```

mod actor;
mod actor_check;
mod authorize;
mod bulk;
mod change;
mod create;
mod diff;
mod error;
mod expiry;
mod expiry_serde;
mod field_rules;
mod fields;
mod holder;
mod new_token;
mod operator;
mod owner;
mod owner_policies;
mod page;
mod policy;
mod purge;
mod rights;
mod tokens;
mod update;

pub use self::actor::Actor;
pub use self::actor_check::ActorCheck;
pub use self::bulk::{BulkPreview, BulkRevocation};
pub use self::error::{CallbackError, FieldProblem, LifecycleError};
pub(crate) use self::expiry::ExpiryKind;
pub use self::expiry::{Expiry, ExpiryError, expiry_date, last_day};
pub use self::holder::Holder;
#[cfg(any(feature = "api", feature = "client"))]
pub(crate) use self::new_token::{IDEMPOTENCY_KEY_FORM, is_idempotency_key};
pub use self::new_token::{IssuedToken, NewToken};
pub use self::operator::Operator;
pub use self::owner::Owner;
pub use self::owner_policies::OwnerPolicies;
pub use self::page::Page;
pub use self::policy::TokenPolicy;
pub use self::tokens::ServiceTokens;
pub(crate) use self::update::Patch;
pub use self::update::{ChangedToken, TokenUpdate};
