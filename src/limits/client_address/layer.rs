use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderName, Request};
use tower::Service;
use tower_layer::Layer;

use super::resolver::Resolver;
use super::{ClientAddress, TrustedProxies, peer};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Layer that determines the client address of each request and inserts it as a [`ClientAddress`]
/// extension.
///
/// 1. The address is that of the connection's peer, from a [`PeerAddress`](super::PeerAddress) or,
///    with the feature `api`, axum's `ConnectInfo<SocketAddr>`. If there is neither, no extension
///    is inserted, and an existing one is removed.
/// 2. If the peer is a [trusted proxy](Self::with_trusted_proxies), the address is the right-most
///    entry of the [header](Self::with_header) that is not a trusted proxy. If all entries are
///    trusted, it is the left-most one.
/// 3. Several lines of the header are joined in order. If an entry that must be read is not an
///    address, the peer is the client. Entries to the left of the client may be forged and are not
///    read.
///
/// Put the layer outside of every layer and endpoint that uses the address. Without it, they use the
/// address of the peer.
///
/// ```
/// use tower_service_token::limits::{ClientAddressLayer, TrustedProxies};
///
/// let proxies: TrustedProxies = "10.0.0.0/8".parse()?;
/// let layer = ClientAddressLayer::new().with_trusted_proxies(proxies);
/// # Ok::<_, tower_service_token::limits::TrustedProxiesError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientAddressLayer(Arc<Resolver>);

impl ClientAddressLayer {
    /// Creates a layer without trusted proxies: the client is the peer of the connection.
    pub fn new() -> Self {
        Self(Arc::new(Resolver {
            proxies: TrustedProxies::default(),
            header: X_FORWARDED_FOR,
        }))
    }

    /// Sets the proxies whose header is read. The default is none.
    ///
    /// Each proxy must append the address of its own peer to the header, or replace the header with it.
    /// A client within one of these networks can forge its address.
    pub fn with_trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        Arc::make_mut(&mut self.0).proxies = proxies;
        self
    }

    /// Sets the header that the proxies write. The default is `X-Forwarded-For`.
    ///
    /// `Forwarded` is parsed as in RFC 7239, every other header as a comma-separated list of addresses.
    /// Only one header is read, because a proxy forwards the others as the client sent them.
    pub fn with_header(mut self, header: HeaderName) -> Self {
        Arc::make_mut(&mut self.0).header = header;
        self
    }
}

impl Default for ClientAddressLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ClientAddressLayer {
    type Service = ClientAddressService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClientAddressService {
            inner,
            resolver: Arc::clone(&self.0),
        }
    }
}

/// Middleware that determines the client address of each request.
///
/// Created by [`ClientAddressLayer`].
#[derive(Clone, Debug)]
pub struct ClientAddressService<S> {
    inner: S,
    resolver: Arc<Resolver>,
}

impl<S, B> Service<Request<B>> for ClientAddressService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let peer = peer(request.extensions());
        let client = peer.map(|peer| self.resolver.resolve(peer, request.headers()));
        let extensions = request.extensions_mut();
        match client {
            Some(client) => drop(extensions.insert(client)),
            None => drop(extensions.remove::<ClientAddress>()),
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::FutureExt;
    use tower::service_fn;

    use super::super::PeerAddress;
    use super::*;

    fn seen(layer: &ClientAddressLayer, request: Request<()>) -> Option<ClientAddress> {
        let mut service = layer.layer(service_fn(async |request: Request<()>| {
            Ok::<_, Infallible>(request.extensions().get::<ClientAddress>().copied())
        }));
        let seen = service.call(request).now_or_never();
        seen.expect("no waiting").expect("no errors")
    }

    fn request(peer: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        let forged = ClientAddress::new([203, 0, 113, 1].into());
        request.extensions_mut().insert(forged);
        let header = "192.0.2.1".parse().expect("a value");
        request.headers_mut().insert(X_FORWARDED_FOR, header);
        if let Some(peer) = peer {
            let peer = PeerAddress(peer.parse().expect(peer));
            request.extensions_mut().insert(peer);
        }
        request
    }

    #[test]
    fn replaces_an_existing_address_extension() {
        let layer = ClientAddressLayer::new();
        let peer = ClientAddress::new([10, 0, 0, 1].into());
        assert_eq!(seen(&layer, request(Some("10.0.0.1:80"))), Some(peer));
        assert_eq!(seen(&layer, request(None)), None);
        let proxies = "10.0.0.1".parse().expect("an address");
        let layer = layer.with_trusted_proxies(proxies);
        let client = ClientAddress::new([192, 0, 2, 1].into());
        assert_eq!(seen(&layer, request(Some("10.0.0.1:80"))), Some(client));
        assert_eq!(seen(&layer, request(None)), None);
    }

    #[cfg(feature = "api")]
    #[test]
    fn takes_the_peer_from_axum_unless_there_is_a_peer_address() {
        use axum::extract::ConnectInfo;

        let layer = ClientAddressLayer::new();
        let connected: std::net::SocketAddr = ([198, 51, 100, 1], 80).into();
        for (peer, expected) in [
            (None, [198, 51, 100, 1]),
            (Some("10.0.0.1:80"), [10, 0, 0, 1]),
        ] {
            let mut request = request(peer);
            request.extensions_mut().insert(ConnectInfo(connected));
            let expected = ClientAddress::new(expected.into());
            assert_eq!(seen(&layer, request), Some(expected));
        }
    }
}
