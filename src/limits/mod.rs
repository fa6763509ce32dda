//! Where requests come from, and what unknown tokens may cost.
//!
//! 1. [`ClientAddressLayer`] works out the address of each request's client once. Everything else
//!    reads it from the request's extensions: the failure budgets, the audit events and the log
//!    events of refusals.
//! 2. `FailureLimit` (feature `tokio`) keeps unknown tokens from costing others: valid tokens are
//!    not refused for the failures of clients that share their address.
//!
//! A [`ServiceTokenLayer`](crate::ServiceTokenLayer) has no failure limit unless it is given one.
//! Every endpoint of `api` (feature `api`) has one: that of its layer, or else one of its own. Give
//! the layer one, so that all endpoints share its bound on lookups.
//!
//! # axum
//!
//! Serve the router by `into_make_service_with_connect_info::<SocketAddr>()`, without which requests
//! carry no peer address. With the feature `api`, the layer reads axum's `ConnectInfo`; without it,
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
//! The peer's address is a [`PeerAddress`] extension, which hyper and tonic users insert. In tonic,
//! it is in the `TcpConnectInfo` extension:
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
