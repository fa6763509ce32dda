//! The authenticated caller of a request.
//!
//! [`ServiceTokenLayer`](crate::ServiceTokenLayer) inserts a [`Principal`] into the extensions of
//! every accepted request. [`Roles`] and [`Scopes`] are what the caller may do; empty ones allow
//! nothing. An [`Identity`] is a caller that the application authenticated without a service token.

mod identity;
mod names;
mod requirement;
mod roles;
mod scopes;

pub use self::identity::Identity;
pub use self::names::Iter;
pub use self::requirement::Requirement;
pub use self::roles::Roles;
pub use self::scopes::Scopes;
pub(crate) use self::scopes::{ADMIN_SCOPE, ADMIN_SCOPES, READ_SCOPE};
pub use crate::store::record::Principal;
#[cfg(feature = "tokio")]
pub use crate::store::record::RightsDigest;
