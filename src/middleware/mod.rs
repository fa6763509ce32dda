//! Tower middleware that accepts requests with a valid service token.
//!
//! For each request:
//!
//! 1. The headers are [read](crate::header). A request without a credential is rejected, unless the
//!    layer is [optional](ServiceTokenLayer::optional), or accepts an
//!    [identity](ServiceTokenLayer::with_identity) that the application authenticated.
//! 2. The store answers [from memory](crate::store::TokenStore::find_cached) if it can. Otherwise
//!    it is [queried](crate::store::TokenStore::find), except for a token of this crate's format
//!    with a wrong checksum.
//! 3. The [verdict](crate::store::verdict) evaluates the record.
//! 4. The [`Principal`](crate::Principal) of a valid token is inserted into the request's
//!    extensions, and the inner service is called. Every other request is [rejected](crate::reject)
//!    without calling the inner service.
//!
//! A `Principal` that is already in the extensions is removed first. The credential headers are
//! marked sensitive.
//!
//! If the store answers from memory, nothing is boxed, and only the insertion of the `Principal`
//! allocates. If the store must be queried, the inner service is cloned and the lookup runs within
//! the request; a dropped request drops its lookup.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_service_token::store::TokenRecord;
//! use tower_service_token::token::TokenFormat;
//! use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer};
//!
//! # futures::executor::block_on(async {
//! let store = MemoryStore::new();
//! let token = TokenFormat::default().mint()?;
//! store.insert(TokenRecord::from(&token).with_name("ci").with_roles(["deployer"]))?;
//!
//! let service = ServiceBuilder::new()
//!     .layer(ServiceTokenLayer::new(store))
//!     .service(service_fn(async |request: Request<String>| {
//!         let principal = request.extensions().get::<Principal>().expect("behind the layer");
//!         Ok::<_, std::convert::Infallible>(Response::new(principal.name().to_owned()))
//!     }));
//!
//! let request = Request::builder()
//!     .header("authorization", format!("ApiKey {}", token.expose_secret()))
//!     .body(String::new())?;
//! assert_eq!(service.clone().oneshot(request).await?.body(), "ci");
//!
//! let refused = service.oneshot(Request::new(String::new())).await?;
//! assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).expect("no request fails");
//! ```
//!
//! # Order of layers
//!
//! Put outside this layer what must see rejections too: tracing, CORS (a preflight `OPTIONS` has no
//! token and gets no special treatment), a timeout (this layer sets none), load shedding. A layer
//! outside that logs request headers sees them before they are marked; put tower-http's
//! `SetSensitiveRequestHeadersLayer` outside of it.
//!
//! A layer inside that wraps the response body, as tower-http's tracing does, changes the body
//! type, so that no rejection can be built. Put that layer outside, or map the body back between the
//! two. axum's routers do so themselves.
//!
//! ```
//! use axum::body::Body;
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Limited;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_service_token::{MemoryStore, ServiceTokenLayer};
//!
//! # futures::executor::block_on(async {
//! let service = ServiceBuilder::new()
//!     .layer(ServiceTokenLayer::new(MemoryStore::new()))
//!     .map_response(|response: Response<Limited<Body>>| response.map(Body::new))
//!     // Stands for a layer that wraps the body.
//!     .map_response(|response: Response<Body>| response.map(|body| Limited::new(body, 1024)))
//!     .service_fn(async |_: Request<Body>| {
//!         Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
//!     });
//! let rejected = service.oneshot(Request::new(Body::empty())).await?;
//! assert_eq!(rejected.status(), StatusCode::UNAUTHORIZED);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).expect("the request is rejected");
//! ```
//!
//! # Panics
//!
//! A store that panics unwinds through the request, which does not reach the inner service. The
//! layer keeps working.

mod additions;
mod check;
mod defaults;
mod future;
mod layer;
mod rejections;
mod service;

#[cfg(feature = "api")]
pub(crate) use self::check::Checked;
#[cfg(feature = "tokio")]
pub(crate) use self::check::Checker;
pub use self::future::ServiceTokenFuture;
pub use self::layer::ServiceTokenLayer;
pub use self::service::ServiceToken;
