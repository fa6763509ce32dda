//! Guards that require roles or scopes of the caller.
//!
//! 1. Layers around a router, a route or a handler: [`RequireRolesLayer`] and
//!    [`RequireScopesLayer`], each any-of or all-of.
//!    For a gRPC server, [`GrpcMethodGuardLayer`] has the requirements of all methods in one table.
//! 2. In a handler: [`Principal::require`](crate::Principal::require) and [`Caller::require`].
//! 3. axum extractors (feature `axum`): `Principal`, [`Caller`], each of them in an `Option`, and
//!    [`Authorized`], which has the requirement in the handler's signature.
//!
//! A guard needs a [`ServiceTokenLayer`](crate::ServiceTokenLayer) in front. Without one, the
//! response is 500 and an error is logged. If the layer is
//! [optional](crate::ServiceTokenLayer::optional) and the request has no credential, the response is
//! 401. If the caller does not meet the requirement, it is 403.
//!
//! A caller is a service token, or an [`Identity`](crate::principal::Identity) if the layer
//! [accepts](crate::ServiceTokenLayer::with_identity) those. The layers and [`Caller`] treat both
//! alike. `Principal` is a service token only: for an identity the response is 401, with the challenge
//! of the layer.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, service_fn};
//! use tower_service_token::authorize::RequireScopesLayer;
//! use tower_service_token::{MemoryStore, ServiceTokenLayer};
//!
//! # async fn deploy(_: Request<String>) -> Result<Response<String>, std::convert::Infallible> {
//! #     Ok(Response::default())
//! # }
//! let service = ServiceBuilder::new()
//!     .layer(ServiceTokenLayer::new(MemoryStore::new()))
//!     .layer(RequireScopesLayer::all_of(["projects:write", "deployments:create"]))
//!     .service(service_fn(deploy));
//! ```

mod caller;
#[cfg(feature = "axum")]
mod extract;
mod future;
mod grpc;
mod guard;
mod layer;

pub use self::caller::Caller;
#[cfg(feature = "axum")]
pub use self::extract::{AccessPolicy, Authorized};
pub use self::future::GuardFuture;
pub use self::grpc::{GrpcMethodGuard, GrpcMethodGuardLayer};
pub use self::layer::{RequireRoles, RequireRolesLayer, RequireScopes, RequireScopesLayer};
