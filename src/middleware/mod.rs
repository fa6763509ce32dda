//! The Tower middleware that lets through whoever presents a good service token.
//!
//! For each request:
//!
//! 1. The headers are [read](crate::header). A request with no credential is refused, unless the
//!    layer is [optional](ServiceTokenLayer::optional).
//! 2. The store answers [from memory](crate::store::TokenStore::find_cached) where it can;
//!    otherwise it is [asked](crate::store::TokenStore::find), except about a token of our form
//!    whose checksum is wrong.
//! 3. The [verdict](crate::store::verdict) is passed on what it found.
//! 4. A good token's [`Principal`](crate::Principal) is put into the request's extensions and the
//!    request goes on. Anything else is [refused](crate::reject) without touching the inner
//!    service.
//!
//! A `Principal` that already lies in the extensions is removed first: only this layer's own word
//! counts. The credential headers are marked sensitive.
//!
//! Where the store answers from memory nothing is boxed and nothing is allocated but the place of
//! the `Principal` in the extensions. Where it must wait, the inner service is cloned and the
//! lookup runs within the request; a dropped request drops its lookup.
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
//! Outside this layer belongs what must see refusals too: tracing, CORS (a preflight `OPTIONS`
//! carries no token and gets no special treatment here), a timeout (this layer sets none), load
//! shedding. A layer outside that logs request headers sees them before they are marked; put
//! tower-http's `SetSensitiveRequestHeadersLayer` outside of it.
//!
//! A layer inside that wraps the response body, as tower-http's tracing does, leaves a body that no
//! refusal can be built in; map it back between the two, or put that layer outside. axum's routers
//! do so by themselves.
//!
//! # Panics
//!
//! A store that panics unwinds through the request, which then reaches nothing. The layer keeps
//! working.

mod check;
mod future;
mod layer;
mod service;

#[cfg(feature = "api")]
pub(crate) use self::check::Checker;
pub use self::future::ServiceTokenFuture;
pub use self::layer::ServiceTokenLayer;
pub use self::service::ServiceToken;
