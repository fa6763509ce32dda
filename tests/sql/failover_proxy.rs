//! A proxy that moves from one server to another, like a DNS name in a failover. It forwards each
//! connection to the server that is its target when the connection is opened.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The password in the URL of a proxy, unless the database needs another one.
pub(crate) const PASSWORD: &str = "hush-hush";

pub(crate) struct FailoverProxy {
    address: SocketAddr,
    target: Arc<watch::Sender<Target>>,
    task: AbortHandle,
}

#[derive(Clone, Copy)]
struct Target {
    server: SocketAddr,
    /// A change of this number closes the open connections.
    cuts: u32,
    holds_syncs: bool,
    loses_commits: bool,
    holds_commits: bool,
}

/// The `Sync` message, the only one that sqlx sends when a connection returns to its pool.
const SYNC: [u8; 5] = [b'S', 0, 0, 0, 4];

impl FailoverProxy {
    /// Starts a proxy that forwards to `server`.
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Arc::new(watch::Sender::new(Target {
            server,
            cuts: 0,
            holds_syncs: false,
            loses_commits: false,
            holds_commits: false,
        }));
        let task = tokio::spawn(accept(listener, Arc::clone(&target))).abort_handle();
        Self {
            address,
            target,
            task,
        }
    }

    /// Returns the URL of the database of `url` through this proxy.
    pub(crate) fn url(&self, url: &str) -> String {
        let (_, rest) = url.split_once("://").unwrap();
        let (authority, database) = rest.split_once('/').unwrap();
        let user = authority
            .rsplit_once('@')
            .map_or("tokens", |(user, _)| user);
        // A private server requires no password. Tests check that it does not appear in logs or errors.
        let user = if user.contains(':') {
            user.to_owned()
        } else {
            format!("{user}:{PASSWORD}")
        };
        format!("postgres://{user}@{}/{database}", self.address)
    }

    /// Forwards new connections to `server`. Open connections keep their server.
    pub(crate) fn move_to(&self, server: SocketAddr) {
        self.target.send_modify(|target| target.server = server);
    }

    /// Closes the open connections, like a server that shuts down.
    pub(crate) fn cut(&self) {
        self.target.send_modify(|target| target.cuts += 1);
    }

    /// Sets whether connections hang when they return to their pool.
    pub(crate) fn hold_syncs(&self, holds: bool) {
        self.target.send_modify(|target| target.holds_syncs = holds);
    }

    /// Sets whether connections are closed after a commit is sent and before its response arrives.
    pub(crate) fn lose_commits(&self, loses: bool) {
        self.target
            .send_modify(|target| target.loses_commits = loses);
    }

    /// Sets whether connections hang when a commit is sent, which then does not reach the server.
    pub(crate) fn hold_commits(&self, holds: bool) {
        self.target
            .send_modify(|target| target.holds_commits = holds);
    }
}

impl Drop for FailoverProxy {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: Arc<watch::Sender<Target>>) {
    loop {
        let Ok((mut client, _)) = listener.accept().await else {
            // The process may have too many open files.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let mut changes = target.subscribe();
        let Target { server, cuts, .. } = *changes.borrow_and_update();
        let target = Arc::clone(&target);
        tokio::spawn(async move {
            // The client sees a refused connection as one that is closed immediately.
            let Ok(mut upstream) = TcpStream::connect(server).await else {
                return;
            };
            let (mut requests, mut responses) = client.split();
            let (mut from_server, mut to_server) = upstream.split();
            let forward = async {
                let mut buffer = vec![0; 1 << 14];
                while let Ok(length @ 1..) = requests.read(&mut buffer).await {
                    if buffer[..length] == SYNC && target.borrow().holds_syncs {
                        std::future::pending::<()>().await;
                    }
                    let is_commit = buffer[..length].windows(7).any(|text| text == b"COMMIT\0");
                    if is_commit && target.borrow().holds_commits {
                        std::future::pending::<()>().await;
                    }
                    let sent = to_server.write_all(&buffer[..length]).await;
                    if sent.is_err() || is_commit && target.borrow().loses_commits {
                        return;
                    }
                }
            };
            tokio::select! {
                () = forward => {}
                _ = copy(&mut from_server, &mut responses) => {}
                _ = changes.wait_for(|target| target.cuts != cuts) => {}
            }
        });
    }
}
