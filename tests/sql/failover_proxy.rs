//! A name that moves from one server to another, as DNS does in a failover: an address of its own
//! that forwards each connection to the server that the name leads to when the connection is made.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// In the URL of each name, unless another one is needed.
pub(crate) const PASSWORD: &str = "hush-hush";

pub(crate) struct FailoverProxy {
    address: SocketAddr,
    target: Arc<watch::Sender<Target>>,
    task: AbortHandle,
}

#[derive(Clone, Copy)]
struct Target {
    server: SocketAddr,
    /// Connections made before are cut when it changes.
    cuts: u32,
    holds_syncs: bool,
    loses_commits: bool,
    holds_commits: bool,
}

/// The only message that sqlx sends when a connection returns to its pool: `Sync`.
const SYNC: [u8; 5] = [b'S', 0, 0, 0, 4];

impl FailoverProxy {
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

    /// Returns the URL of the database of `url` by this name.
    pub(crate) fn url(&self, url: &str) -> String {
        let (_, rest) = url.split_once("://").unwrap();
        let (authority, database) = rest.split_once('/').unwrap();
        let user = authority
            .rsplit_once('@')
            .map_or("tokens", |(user, _)| user);
        // A private server asks for no password; it must not show up anywhere.
        let user = if user.contains(':') {
            user.to_owned()
        } else {
            format!("{user}:{PASSWORD}")
        };
        format!("postgres://{user}@{}/{database}", self.address)
    }

    /// New connections lead to `server`; those that are open stay where they are.
    pub(crate) fn move_to(&self, server: SocketAddr) {
        self.target.send_modify(|target| target.server = server);
    }

    /// Cuts the open connections, as a server does that is shut down.
    pub(crate) fn cut(&self) {
        self.target.send_modify(|target| target.cuts += 1);
    }

    /// From now on, connections hang when they return to their pool.
    pub(crate) fn hold_syncs(&self, holds: bool) {
        self.target.send_modify(|target| target.holds_syncs = holds);
    }

    /// Connections are cut once a commit is sent, before its answer arrives.
    pub(crate) fn lose_commits(&self, loses: bool) {
        self.target
            .send_modify(|target| target.loses_commits = loses);
    }

    /// Connections hang from now on when a commit is sent, which does not reach the server.
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
            // Such as a lack of descriptors.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let mut changes = target.subscribe();
        let Target { server, cuts, .. } = *changes.borrow_and_update();
        let target = Arc::clone(&target);
        tokio::spawn(async move {
            // A refused connection looks like one that is closed at once.
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
