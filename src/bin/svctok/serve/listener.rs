use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::unstalled::Unstalled;
use crate::failure::{Failure, FailureKind};

/// How long a client may take to agree on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a new connection may take to its first request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take to the next one, all of its head included: longer than proxies and clients
/// keep a connection, so that they close it and do not send a request into its end.
const NEXT_REQUEST_TIMEOUT: Duration = Duration::from_secs(95);

/// After which an HTTP/2 client that is silent is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);

const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// After an error that is not of one connection, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let tried = format!("cannot listen on {address}");
        Failure::of(FailureKind::Refused, tried, &error)
    })
}

pub(super) fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    let address = listener.local_addr();
    address.map_err(|error| Failure::of(FailureKind::Refused, "no address", &error))
}

/// Accepts connections and serves an app on them, by HTTP/1.1 and HTTP/2.
pub(super) struct Server {
    listener: TcpListener,
    max_connections: u32,
    connections: Connections,
}

#[derive(Clone)]
struct Connections {
    app: Router,
    tls: Option<TlsAcceptor>,
    http: Builder<TokioExecutor>,
}

impl Server {
    pub(super) fn new(listener: TcpListener, app: Router) -> Self {
        let mut http = Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(NEXT_REQUEST_TIMEOUT);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let tls = None;
        Self {
            listener,
            max_connections: 16,
            connections: Connections { app, tls, http },
        }
    }

    /// How many connections there may be at a time. Default: 16.
    pub(super) fn with_max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections;
        self
    }

    pub(super) fn with_tls(mut self, tls: Option<TlsAcceptor>) -> Self {
        self.connections.tls = tls;
        self
    }

    /// Ends when it is told to stop and all requests have been answered.
    pub(super) async fn run(self, mut stopping: watch::Receiver<bool>) {
        let max = self.max_connections as usize;
        let permits = Arc::new(Semaphore::new(max));
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut stopping) => break,
                accepted = accept(&self.listener, &permits) => accepted,
            };
            let (stream, peer, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if !is_of_one_connection(&error) {
                        tracing::error!(%error, "cannot accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                    continue;
                }
            };
            let (connections, stopping) = (self.connections.clone(), stopping.clone());
            tokio::spawn(async move {
                connections.serve(stream, peer, stopping).await;
                drop(permit);
            });
        }
        drop(self.listener);
        // All of them are free when no connection is left.
        let _ = permits.acquire_many(self.max_connections).await;
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// Beyond the limit, clients wait to be accepted.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> io::Result<Accepted> {
    let permit = Arc::clone(permits).acquire_owned().await;
    let permit = permit.expect("nobody closes it");
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Whoever could say so has gone: it never stops.
    if stopping.wait_for(|stopping| *stopping).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Connections {
    async fn serve(self, stream: TcpStream, peer: SocketAddr, mut stopping: watch::Receiver<bool>) {
        // A connection without it is slower, and works.
        let _ = stream.set_nodelay(true);
        let stream = Unstalled::new(stream);
        let Some(tls) = &self.tls else {
            return self.speak(stream, peer, stopping).await;
        };
        let handshake = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
        tokio::select! {
            () = stopped(&mut stopping) => {}
            shaken = handshake => match shaken {
                Ok(Ok(stream)) => self.speak(stream, peer, stopping).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
                Err(_) => tracing::debug!(%peer, "no TLS in time"),
            }
        }
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
        mut stopping: watch::Receiver<bool>,
    ) {
        let has_asked = AtomicBool::new(false);
        let service = service_fn(|mut request: Request<Incoming>| {
            has_asked.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(ConnectInfo(peer));
            self.app.clone().call(request)
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        // Not by the protocol's own time limits: they do not run before it is known.
        let mut silence = pin!(async {
            sleep(FIRST_REQUEST_TIMEOUT).await;
            if has_asked.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        });
        let mut is_stopping = false;
        loop {
            tokio::select! {
                ended = &mut connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, error, "the connection ended");
                    }
                    return;
                }
                () = &mut silence => return,
                () = stopped(&mut stopping), if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    async fn connected() -> (TcpStream, watch::Sender<bool>) {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = address(&listener).unwrap();
        let app = Router::new().route("/", get(async || "here"));
        let (stopping, stopped) = watch::channel(false);
        tokio::spawn(Server::new(listener, app).run(stopped));
        (TcpStream::connect(address).await.unwrap(), stopping)
    }

    /// How long it takes, by a clock that runs when nothing else does, until the server closes a
    /// connection on which this was sent.
    async fn closes_after(sent: &[u8]) -> Duration {
        let (mut stream, _stopping) = connected().await;
        stream.write_all(sent).await.unwrap();
        let begun = Instant::now();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let is_whole = sent.ends_with(b"\r\n\r\n");
        assert_eq!(answer.ends_with(b"here"), is_whole);
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_closed() {
        for sent in [
            &b""[..],
            b"P",
            b"PRI * HTTP/2.0\r\n\r",
            b"GET / HTTP/1.1\r\nhost: a",
        ] {
            let after = closes_after(sent).await;
            assert!(
                after <= FIRST_REQUEST_TIMEOUT + Duration::from_secs(1),
                "{after:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_client_takes_no_answer_is_closed() {
        let (mut stream, _stopping) = connected().await;
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1000);
        // The server stops reading when it cannot write.
        let sending = async {
            loop {
                if let Err(error) = stream.write_all(&request).await {
                    return error;
                }
            }
        };
        let error = timeout(Duration::from_secs(31), sending).await.unwrap();
        let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
        assert!(kinds.contains(&error.kind()), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_between_requests_for_a_while() {
        let after = closes_after(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(after > FIRST_REQUEST_TIMEOUT, "{after:?}");
        assert!(
            after <= NEXT_REQUEST_TIMEOUT + Duration::from_secs(1),
            "{after:?}"
        );
    }
}
