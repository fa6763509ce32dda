//! Reserved ports of the loopback address.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A port that the system assigns to no other socket while this value lives.
///
/// Connections to the port are refused until a server binds it. Both sockets set `SO_REUSEADDR` and
/// this one does not listen, so a server can start and stop on the port repeatedly.
pub struct ReservedPort(TcpSocket);

impl Default for ReservedPort {
    fn default() -> Self {
        Self::new()
    }
}

impl ReservedPort {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("a new socket");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(address).expect("a free port");
        Self(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("a bound socket")
    }
}
