//! Client addresses, and limits for unknown tokens.
//!
//! 1. [`ClientAddressLayer`] determines the address of the client of each request. Failure budgets,
//!    audit events and log events read it from the request's extensions.
//! 2. `FailureLimit` (feature `tokio`) limits the load of unknown tokens on the store. It does not
//!    reject a token that was accepted within the last 24 hours. The first use of another valid token
//!    waits for up to 2 s, and may get 429, while its address sends more unknown tokens than the store
//!    can look up.
//!
//! By default, a [`ServiceTokenLayer`](crate::ServiceTokenLayer) has no failure limit. Every endpoint
//! of `api` (feature `api`) has one: that of its layer, or else one of its own. Set one on the layer
//! to share it among all endpoints.
//!
//! # axum
//!
//! Serve the router by `into_make_service_with_connect_info::<SocketAddr>()`, so that requests have a
//! peer address. With the feature `api`, the layer reads axum's `ConnectInfo`. Without the feature,
//! insert a [`PeerAddress`] as below.
//!
//! ```
//! # #[cfg(feature = "api")] {
//! use std::net::SocketAddr;
//! use axum::{Router, routing::get};
//! use tower::ServiceBuilder;
//! use tower_service_token::limits::{ClientAddressLayer, TrustedProxies};
//! use tower_service_token::{MemoryStore, ServiceTokenLayer};
//!
//! let proxies: TrustedProxies = "10.0.0.0/8".parse()?;
//! let layers = ServiceBuilder::new()
//!     .layer(ClientAddressLayer::new().with_trusted_proxies(proxies))
//!     .layer(ServiceTokenLayer::new(MemoryStore::new()));
//! let app: Router = Router::new().route("/deploy", get(|| async {})).route_layer(layers);
//! let service = app.into_make_service_with_connect_info::<SocketAddr>();
//! # let _ = service;
//! # }
//! # Ok::<_, tower_service_token::limits::TrustedProxiesError>(())
//! ```
//!
//! # Servers without axum
//!
//! With hyper and tonic, insert the address of the peer as a [`PeerAddress`] extension. tonic provides
//! it in the `TcpConnectInfo` extension:
//!
//! ```
//! use std::net::SocketAddr;
//! use tower::ServiceBuilder;
//! use tower_service_token::limits::{ClientAddressLayer, PeerAddress, TrustedProxies};
//! use tower_service_token::{MemoryStore, ServiceTokenLayer};
//!
//! # fn peer_of(extensions: &http::Extensions) -> Option<SocketAddr> { None }
//! let proxies: TrustedProxies = "10.0.0.0/8".parse()?;
//! let layers = ServiceBuilder::new()
//!     .map_request(|mut request: http::Request<String>| {
//!         // `extensions.get::<TcpConnectInfo>()?.remote_addr()` in tonic.
//!         if let Some(peer) = peer_of(request.extensions()) {
//!             request.extensions_mut().insert(PeerAddress(peer));
//!         }
//!         request
//!     })
//!     .layer(ClientAddressLayer::new().with_trusted_proxies(proxies))
//!     .layer(ServiceTokenLayer::new(MemoryStore::new()));
//! # Ok::<_, tower_service_token::limits::TrustedProxiesError>(())
//! ```

mod client;
mod client_address;
#[cfg(feature = "tokio")]
mod failure_limit;
mod optional_limit;

pub(crate) use self::client::RequestOrigin;
pub use self::client_address::{
    ClientAddress, ClientAddressLayer, ClientAddressService, PeerAddress, TrustedProxies,
    TrustedProxiesError,
};
#[cfg(feature = "tokio")]
pub use self::failure_limit::FailureLimit;
pub(crate) use self::optional_limit::OptionalFailureLimit;
