//! A server on loopback that writes scripted bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// The body of a response for an active token.
pub(crate) const ACTIVE: &str = "{\"active\":true,\"sub\":\"ci\"}";

/// A server that runs until it is dropped.
pub(crate) struct RawServer {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

/// One connection, closed when dropped.
pub(crate) struct RawConnection {
    /// The number of connections that were accepted before.
    pub(crate) number: usize,
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
    served: usize,
    counts: Arc<Counts>,
}

impl RawServer {
    /// Runs `script` for each connection.
    pub(crate) fn start<F>(script: impl Fn(RawConnection) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        // Each connection inherits the small buffer, so that writes block soon if the client does
        // not read.
        socket.set_send_buffer_size(32 * 1024).unwrap();
        let listener = socket.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::<Counts>::default();
        let task = tokio::spawn({
            let counts = Arc::clone(&counts);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    tokio::spawn(script(RawConnection {
                        number: counts.connections.fetch_add(1, Ordering::SeqCst),
                        stream,
                        read: Vec::new(),
                        served: 0,
                        counts: Arc::clone(&counts),
                    }));
                }
            }
        });
        Self {
            address,
            counts,
            task,
        }
    }

    /// Starts a server that responds to every request with these bytes and closes the connection.
    pub(crate) fn responding(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Arc<[u8]> = bytes.into().into();
        Self::start(move |mut connection| {
            let bytes = Arc::clone(&bytes);
            async move {
                if connection.request().await.is_some() {
                    connection.write(&bytes).await;
                }
            }
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/introspect", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Returns how many requests were read completely.
    pub(crate) fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawConnection {
    /// Returns whether no request was read from this connection.
    pub(crate) fn is_fresh(&self) -> bool {
        self.served == 0
    }

    /// Reads the next request. Returns `None` if the client closes the connection.
    pub(crate) async fn request(&mut self) -> Option<String> {
        loop {
            if let Some(length) = complete_request_length(&self.read) {
                let request = self.read.drain(..length).collect();
                self.served += 1;
                self.counts.requests.fetch_add(1, Ordering::SeqCst);
                return Some(String::from_utf8(request).unwrap());
            }
            match self.stream.read_buf(&mut self.read).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Returns whether the bytes were written.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Sends a conforming response with this body.
    pub(crate) async fn respond(&mut self, body: &str) -> bool {
        self.write(ok_response(body)).await
    }

    /// Waits until the client closes the connection.
    pub(crate) async fn wait_until_closed(&mut self) {
        while !matches!(self.stream.read_buf(&mut self.read).await, Ok(0) | Err(_)) {}
    }
}

/// Creates a conforming response with status 200 and this body.
pub(crate) fn ok_response(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Returns the length of the request at the start of `bytes`, if it is complete.
fn complete_request_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = str::from_utf8(&bytes[..end]).unwrap().to_lowercase();
    let length = head.split_once("content-length: ")?.1;
    let length: usize = length.split("\r\n").next()?.parse().unwrap();
    (bytes.len() >= end + length).then_some(end + length)
}
